# SPDX-License-Identifier: Apache-2.0
"""What ESPnet's CI would say of the branch, as far as it can be asked offline.

A tool that is not installed leaves its check ``not available``: it is never counted as passed.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.installation import install
from espnet_ext.upstream.worktree import changed, known_before

OK, FAILED, MISSING, NOT_RUN = "ok", "failed", "not available", "not run"
MAX_FILES, MAX_LINES, MAX_BYTES = 20, 2000, 500_000
COLUMNS = 88
SHOWN = 20  # lines of what a tool says
OWN_NAME = re.compile(r"\bespnet_ext\b")
DATA = (".wav", ".flac", ".sph", ".ark", ".pth", ".pt", ".npz", ".gz", ".zip")
FIRST_PARTY = ("egs3", "espnet2", "espnet3")


@dataclass(frozen=True)
class Check:
    """The outcome of a check.

    Attributes:
        name: Of the check.
        state: One of the four.
        detail: What it says, or how to make it available.
    """

    name: str
    state: str
    detail: str = ""

    def __str__(self) -> str:
        lines = self.detail.strip().splitlines()[-SHOWN:]
        first = f": {lines[0]}" if lines else ""
        return "\n".join(
            [f"{self.state:>13}  {self.name}{first}", *(f"{'':17}{x}" for x in lines[1:])]
        )


@dataclass(frozen=True)
class Branch:
    """What is checked.

    Attributes:
        folder: The worktree.
        recipe: Folder of the recipe below it.
        paths: Files of the branch.
        licence: Of the corpus.
        environment: For the processes.
    """

    folder: Path
    recipe: str
    paths: tuple[str, ...]
    licence: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def files(self, *suffixes: str) -> list[str]:
        """Return regular files with one of the endings."""
        return [
            p
            for p in self.paths
            if p.endswith(suffixes) and not (self.folder / p).is_symlink()
            and (self.folder / p).is_file()
        ]  # fmt: skip


def installed(module: str) -> bool:
    """Whether a module can be imported here."""
    return importlib.util.find_spec(module) is not None


def process_environment(branch: Branch) -> dict[str, str]:
    """Return an environment in which the branch's packages come first."""
    first = branch.environment.get("PYTHONPATH", str(branch.folder))
    paths = os.pathsep.join(filter(None, [first, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **branch.environment, "PYTHONPATH": paths}


def run(branch: Branch, command: Sequence[str], cwd: Path | None = None) -> tuple[int, str]:
    """Run a tool in the worktree; return its exit status and what it says."""
    done = subprocess.run(
        command,
        cwd=cwd or branch.folder,
        env=process_environment(branch),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.replace(f"{branch.folder}{os.sep}", "").strip()


def _module(branch: Branch, name: str, module: str, args: Sequence[str], files: list[str]) -> Check:
    """Run ``python -m module args files``."""
    if not installed(module):
        return Check(name, MISSING, install(extra="upstream"))
    if not files:
        return Check(name, OK, "no Python files")
    status, text = run(branch, [sys.executable, "-m", module, *args, *files])
    return Check(name, OK if status == 0 else FAILED, "" if status == 0 else text)


def is_set_up(branch: Branch, path: str) -> bool:
    """Whether a file is what ESPnet's setup.sh makes: a link, or a copy of the template's."""
    file = branch.folder / path
    source = branch.folder / "egs2/TEMPLATE/asr1" / path.removeprefix(f"{branch.recipe}/")
    same = source.is_file() and file.is_file() and source.read_bytes() == file.read_bytes()
    return file.is_symlink() or same


def size(branch: Branch) -> Check:
    """Check the limits for a branch that reviewers read; what setup.sh makes does not count."""
    every = changed(branch.folder)
    rows = [row for row in every if not is_set_up(branch, row[0])]
    lines = sum(max(n, 0) for _, n in rows)
    wrong = []
    if len(rows) > MAX_FILES:
        wrong.append(f"{len(rows)} files, at most {MAX_FILES}")
    if lines > MAX_LINES:
        wrong.append(f"{lines} lines, at most {MAX_LINES}")
    for path, count in rows:
        file = branch.folder / path
        if file.is_file() and file.stat().st_size > MAX_BYTES:
            wrong.append(f"{path}: {file.stat().st_size:,} bytes, at most {MAX_BYTES:,}")
        if count < 0 or path.endswith(DATA):
            wrong.append(f"{path}: data, not text")
    more = len(every) - len(rows)
    told = f"{len(rows)} files, {lines} lines" + (f", {more} made by setup.sh" if more else "")
    return Check("size", FAILED if wrong else OK, "\n".join(wrong) or told)


def no_own_import(branch: Branch) -> Check:
    """Check that nothing needs this package."""
    found = []
    for path in branch.files(".py", ".yaml", ".sh"):
        text = (branch.folder / path).read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if OWN_NAME.search(line):
                found.append(f"{path}:{number}: {line.strip()}")
    return Check("no espnet_ext left", FAILED if found else OK, "\n".join(found))


def links(branch: Branch) -> Check:
    """Check that symbolic links lead to something inside the checkout."""
    wrong, count = [], 0
    for path in branch.paths:
        link = branch.folder / path
        if not link.is_symlink():
            continue
        count += 1
        target = link.parent / os.readlink(link)
        inside = os.path.abspath(target).startswith(f"{branch.folder}{os.sep}")
        # Kaldi is not part of a checkout: tools/kaldi is made when ESPnet is installed.
        kaldi = "tools/kaldi" in str(target)
        if not inside or not (target.exists() or kaldi):
            wrong.append(f"{path} -> {os.readlink(link)}")
    return Check("symbolic links", FAILED if wrong else OK, "\n".join(wrong) or f"{count} links")


def licence(branch: Branch) -> Check:
    """Check that the licence of the corpus is named."""
    page = branch.folder / branch.recipe / "README.md"
    named = page.is_file() and bool(branch.licence) and branch.licence in page.read_text("utf-8")
    return Check("licence of the corpus", OK if named else FAILED,
                 "" if named else f"{page.name} does not name it")  # fmt: skip


def black(branch: Branch) -> Check:
    """Run black."""
    return _module(branch, "black", "black", ["--check", "-q"], branch.files(".py"))


def isort(branch: Branch) -> Check:
    """Run isort; the packages of a full checkout count as its own."""
    own = [x for name in FIRST_PARTY for x in ("-p", name)]
    args = ["--profile", "black", "--check-only", *own]
    return _module(branch, "isort", "isort", args, branch.files(".py"))


def pycodestyle(branch: Branch) -> Check:
    """Run pycodestyle with the checkout's settings."""
    args = [f"--max-line-length={COLUMNS}", "--ignore=E203,W503"]
    return _module(branch, "pycodestyle", "pycodestyle", args, branch.files(".py"))


def flake8(branch: Branch) -> Check:
    """Run flake8, with docstrings in files that are new and no tests."""
    name = "flake8-docstrings"
    if not installed("flake8") or not installed("flake8_docstrings"):
        return Check(name, MISSING, install(extra="upstream"))
    files = branch.files(".py")
    tests = {p for p in files if p.startswith("test/")} | known_before(branch.folder, files)
    own = f"--max-line-length={COLUMNS}"
    codes = "E203,W503,D104,D205,H"
    for chosen, ignored in ((sorted(tests), f"{codes},D"), (sorted({*files} - tests), codes)):
        check = _module(branch, name, "flake8", [own, f"--extend-ignore={ignored}"], chosen)
        if check.state != OK:
            return check
    return Check(name, OK)


def _tool(name: str) -> str | None:
    """Return the path of a program beside this Python, or else on the path."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", "")]))


def typos(branch: Branch) -> Check:
    """Look for misspelt words, in names as well."""
    if (tool := _tool("typos")) is None:
        return Check("typos", MISSING, install(extra="upstream"))
    files = branch.files(".py", ".md", ".yaml", ".sh")
    files = sorted({*files} - known_before(branch.folder, files))
    status, text = run(branch, [tool, "--color=never", "--format=brief", *files])
    return Check("typos", FAILED if status else OK, text if status else "")


def shellcheck(branch: Branch) -> Check:
    """Run shellcheck as ESPnet does."""
    if (tool := _tool("shellcheck")) is None:
        return Check("shellcheck", MISSING, install(extra="upstream"))
    args = ["-Cnever", "-x", "-e", "SC2001", "-e", "SC1091", "-e", "SC2086"]
    for path in branch.files(".sh"):
        if is_set_up(branch, path):
            continue
        file = branch.folder / path
        status, text = run(branch, [tool, *args, file.name], cwd=file.parent)
        if status:
            return Check("shellcheck", FAILED, text)
    return Check("shellcheck", OK)


STATIC: tuple[Callable[[Branch], Check], ...] = (
    size, no_own_import, links, licence, black, isort, pycodestyle, flake8, shellcheck,
    typos,
)  # fmt: skip


def static_checks(branch: Branch) -> Iterator[Check]:
    """Yield the checks that only read the files."""
    for check in STATIC:
        yield check(branch)


def formatted(branch: Branch) -> str:
    """Format the Python files; return by what: black, ruff, or nothing.

    ruff's format is nearly that of black: better than none where black is not installed.
    """
    files = branch.files(".py")
    files = sorted({*files} - known_before(branch.folder, files))  # no noise in what is there
    own = [x for name in FIRST_PARTY for x in ("-p", name)]
    if not files:
        return ""
    if installed("isort"):
        run(branch, [sys.executable, "-m", "isort", "-q", "--profile", "black", *own, *files])
    for module, args in (
        ("black", ["-q"]),
        ("ruff", ["format", "-q", "--isolated", "--line-length", str(COLUMNS)]),
    ):
        if installed(module):
            run(branch, [sys.executable, "-m", module, *args, *files])
            return module
    return ""
