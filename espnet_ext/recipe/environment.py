# SPDX-License-Identifier: Apache-2.0
"""What this machine and this installation can do: the doctor's checks, and headers of log files.

Nothing here imports torch or ESPnet, which takes many seconds, unless a check asks for it; and the
standard library is enough for it, so it works where an installation is broken.
"""

import datetime
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext import __version__
from espnet_ext.errors import SetupError, UsageError, nearest
from espnet_ext.hardware import cpu_cores, cpu_model, describe, free_disk_bytes, gpus, memory_bytes
from espnet_ext.installation import EXTRAS, clone, install

# Half-open ranges of versions that were tested together; pyproject.toml asks for the same.
PYTHON_RANGE = ("3.12", "3.14")
PACKAGE_RANGES = {
    "espnet": ("202609", "202612"),
    "torch": ("2.11", "2.12"),
    "torchaudio": ("2.11", "2.12"),
}
NEEDS = ("path", "disk_gb", "memory_gb", "cores", "ngpu", "extras", "import_torch")
_GB = 10**9


@dataclass(frozen=True)
class Check:
    """One finding of the doctor.

    Attributes:
        name: What was looked at.
        ok: Whether it is as it should be.
        detail: What was found.
        how: What the user can do about it; empty when there is nothing to do.
        required: False for advice: the work can start without it.
    """

    name: str
    ok: bool
    detail: str
    how: str = ""
    required: bool = True

    def __str__(self) -> str:
        mark = "ok" if self.ok else "FAIL" if self.required else "note"
        line = f"{mark:4}  {self.name}: {self.detail}"
        return line if not self.how or self.ok else f"{line}\n      fix: {self.how}"


def release(version: str) -> tuple[int, ...]:
    """Return the numbers a version starts with: ``2.11.0+cu130`` gives ``(2, 11, 0)``."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(x) for x in match.group().split(".")) if match else ()


def in_range(version: str, bounds: tuple[str, str]) -> bool:
    """Tell whether ``bounds[0] <= version < bounds[1]``, by the numbers they start with."""
    return release(bounds[0]) <= release(version) < release(bounds[1])


def installed(package: str) -> str | None:
    """Return the installed version of a distribution without importing it, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions that a result depends on; a package that is absent is left out."""
    found = {"python": platform.python_version(), "espnet_ext": __version__}
    for name in (*PACKAGE_RANGES, "numpy", "sentencepiece", "jiwer", "soundfile", "soxr"):
        version = installed(name)
        if version is not None:
            found[name] = version
    return found


# Everything but what scoring writes, from the repository's top.
SOURCES = (":/", ":(top,exclude,glob)egs2/*/*/results/**", ":(top,exclude,glob)**/RESULTS.md")


def git_state(path: Path | str | None = None) -> dict[str, str | bool | None]:
    """Return ``{"commit": ..., "dirty": ...}`` of the repository that holds folder ``path``.

    Both are None without git, outside a repository, and in a folder the repository ignores (an
    environment inside somebody's checkout is not at that checkout's commit). Untracked files and
    what a scored run itself writes (run records, RESULTS.md) do not count as dirty.

    Args:
        path: The folder; by default the one this package stands in.
    """
    unknown: dict[str, str | bool | None] = {"commit": None, "dirty": None}
    folder = Path(path) if path is not None else Path(__file__).resolve().parent
    # Parallel jobs ask at the same time: none of them may take git's lock.
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    try:
        ignored = subprocess.run([*git, "check-ignore", "-q", "."], capture_output=True, timeout=20)
        if ignored.returncode != 1:
            return unknown
        status = subprocess.run(
            [*git, "status", "--porcelain=v2", "--branch", "--untracked-files=no", "--", *SOURCES],
            capture_output=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return unknown
    lines = status.stdout.decode(errors="replace").splitlines()
    commit = next((x.split()[2] for x in lines if x.startswith("# branch.oid ")), None)
    if status.returncode or commit is None or not re.fullmatch("[0-9a-f]{40,}", commit):
        return unknown
    return {"commit": commit, "dirty": any(not x.startswith("#") for x in lines)}


def describe_device() -> str:
    """Return one line on what a run computes on, such as ``1 x NVIDIA A100 (80 GiB)``."""
    return describe(gpus())


def header_lines(command: Sequence[str] | None = None, repo: Path | str | None = None) -> list[str]:
    """Return the ``key: value`` lines of a log's header: what was run, where, when, with what.

    Args:
        command: The command and its arguments; left out when None.
        repo: A folder in the repository whose commit counts; by default this package's.
    """
    state = git_state(repo)
    commit = state["commit"] or "unknown"
    rows = {
        "folder": str(Path.cwd()),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": f"{commit} with uncommitted changes" if state["dirty"] else commit,
        "versions": " ".join(f"{k}={v}" for k, v in versions().items()),
        "host": f"{platform.node()}, {platform.system()} {platform.release()}, {cpu_model()}",
        "device": describe_device(),
    }
    if command is not None:
        rows = {"command": shlex.join(command), **rows}
    return [f"{key}: {value}" for key, value in rows.items()]


def _check_versions() -> list[Check]:
    python = platform.python_version()
    wanted = "needs >={},<{}"
    checks = [
        Check(
            "python",
            in_range(python, PYTHON_RANGE),
            f"{python}, {wanted.format(*PYTHON_RANGE)}",
            _another_python(),
        )
    ]
    for name, bounds in PACKAGE_RANGES.items():
        version = installed(name)
        ok = version is not None and in_range(version, bounds)
        detail = f"{version or 'not installed'}, {wanted.format(*bounds)}"
        checks.append(Check(name, ok, detail, install(_requirement(name))))
    return checks


def _requirement(name: str) -> str:
    """Return what pip is asked for to get a fitting release, such as ``torch>=2.11,<2.12``."""
    return "{}>={},<{}".format(name, *PACKAGE_RANGES[name])


def _another_python() -> str:
    """Return how to get an environment with a Python of the right version."""
    if (root := clone()) is not None:
        return f"PYTHON=/path/to/python3.12 make -C {shlex.quote(str(root))} env"
    return "install espnet_ext into an environment of Python 3.12: uv venv --python 3.12"


def _has(requirement: str) -> bool:
    """Whether a package is there, such as ``tokenizers`` or ``transformers>=5``."""
    name, _, least = requirement.partition(">=")
    version = installed(name)
    return version is not None and release(version) >= release(least or "0")


def _check_extras(needed: Iterable[str]) -> list[Check]:
    needed = set(needed)
    for extra in needed - set(EXTRAS):
        raise UsageError(f"there is no extra '{extra}'", "needs: extras", nearest(extra, EXTRAS))
    checks = []
    for extra, packages in EXTRAS.items():
        missing = [x for x in packages if not _has(x)]
        detail = f"not installed: {', '.join(missing)}" if missing else ", ".join(packages)
        how = install(extra=extra)
        checks.append(Check(f"extra {extra}", not missing, detail, how, extra in needed))
    return checks


def _check_size(name: str, have: int, need_gb: float, how: str) -> Check:
    detail = f"{have / _GB:.1f} GB free"
    if need_gb:
        detail += f", {round(need_gb, 2):g} GB needed"
    return Check(name, have >= need_gb * _GB, detail, how)


def _check_cpu(cores_needed: int) -> list[Check]:
    cores, threads = cpu_cores(), os.environ.get("OMP_NUM_THREADS")
    checks = [
        Check(
            "cpu",
            cores >= cores_needed,
            f"{cores} cores, {cpu_model()}",
            f"{cores_needed} are wanted: give a smaller --nj",
            required=False,
        )
    ]
    busy = threads is None or not threads.isdigit() or int(threads) > cores
    checks.append(
        Check(
            "OMP_NUM_THREADS",
            not busy,
            "not set: every process takes all cores" if threads is None else threads,
            "export OMP_NUM_THREADS=1 where several jobs share the machine",
            required=False,
        )
    )
    return checks


def _check_gpu(ngpu: int, import_torch: bool) -> list[Check]:
    found = len(gpus())
    how = "give --ngpu 0 for the CPU, or see what nvidia-smi and CUDA_VISIBLE_DEVICES say"
    checks = [Check("gpu", found >= ngpu, f"{describe_device()}; {ngpu} GPUs asked for", how)]
    if import_torch:
        checks.append(_check_torch(ngpu))
    return checks


def _check_torch(ngpu: int) -> Check:
    try:
        import torch
        import torchaudio  # noqa: F401  (a build that does not fit torch fails here)

        count = torch.cuda.device_count()
    except Exception as err:  # a broken binary raises anything from OSError to RuntimeError
        reason = (str(err) or type(err).__name__).splitlines()[0]
        pair = (_requirement(name) for name in ("torch", "torchaudio"))
        return Check("torch starts", False, reason, install("--force-reinstall", *pair))
    cuda = torch.version.cuda or "none"
    detail = f"{torch.__version__}, CUDA {cuda}, sees {count} GPUs"
    return Check("torch starts", count >= ngpu, detail, "a driver that fits the CUDA of this torch")


def check_environment(needs: Mapping[str, object] | None = None) -> list[Check]:
    """Check this machine and installation for a piece of work; takes well under a second.

    Args:
        needs: What the work needs, all keys optional: ``path`` (folder that will be written to),
            ``disk_gb``, ``memory_gb``, ``cores``, ``ngpu``, ``extras`` (names of
            :data:`~espnet_ext.installation.EXTRAS`) and ``import_torch`` (True imports torch as
            well, which takes seconds).

    Returns:
        All findings, good ones too.

    Raises:
        UsageError: ``needs`` has an unknown key or extra.
    """
    needs = dict(needs or {})
    for key in needs:
        if key not in NEEDS:
            raise UsageError(f"unknown need '{key}'", "check_environment", nearest(key, NEEDS))
    path = Path(str(needs.get("path") or "."))
    memory = memory_bytes()[1]
    git = git_state()
    commit = f"{git['commit'] or 'unknown'}{', uncommitted changes' if git['dirty'] else ''}"
    disk_how = f"free some space on the disk of {path}, or work in another folder"
    memory_how = "end other programs, or give smaller --nj and batch sizes"
    return [
        *_check_versions(),
        *_check_extras(needs.get("extras") or ()),
        *_check_cpu(int(needs.get("cores") or 0)),
        _check_size("memory", memory, float(needs.get("memory_gb") or 0), memory_how),
        _check_size("disk", free_disk_bytes(path), float(needs.get("disk_gb") or 0), disk_how),
        *_check_gpu(int(needs.get("ngpu") or 0), bool(needs.get("import_torch"))),
        Check("git", shutil.which("git") is not None, f"commit {commit}", "install git", False),
    ]


def require_environment(needs: Mapping[str, object] | None = None) -> list[Check]:
    """Do :func:`check_environment` and stop at what the work cannot start without.

    Raises:
        SetupError: A required check fails; the message holds all that fail.
    """
    checks = check_environment(needs)
    bad = [x for x in checks if not x.ok and x.required]
    if bad:
        what = "this machine is not ready: " + "; ".join(f"{x.name}: {x.detail}" for x in bad)
        raise SetupError(what, platform.node(), "; ".join(dict.fromkeys(x.how for x in bad)))
    return checks
