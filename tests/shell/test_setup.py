# SPDX-License-Identifier: Apache-2.0
"""utils/env.sh with interpreters and a uv that are stand-ins, and what pyproject.toml declares."""

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from espnet_ext import installation
from espnet_ext.recipe import environment

ROOT = Path(__file__).resolve().parents[2]
ENV_SH = ROOT / "utils/env.sh"
TOOLS = (
    "bash",
    "cat",
    "cp",
    "dirname",
    "flock",
    "ls",
    "mkdir",
    "rm",
    "sha256sum",
    "shasum",
    "touch",
)

# Stands in for uv: makes an environment that starts, and notes each call beside itself.
FAKE_UV = """#!/usr/bin/env bash
echo "$*" >>"$(dirname "$0")/uv.calls"
case "$1 ${2:-}" in
    "--version "*) echo "uv 0.0.0" ;;
    "venv "*) mkdir -p "${@: -1}/bin" && cp "$(dirname "$0")/python3.13" "${@: -1}/bin/python" &&
        touch "${@: -1}/pyvenv.cfg" ;;
    "pip install") [ ! -e "$(dirname "$0")/uv.fails" ] ;;
    "python install") exit 1 ;;
esac
"""


class Machine:
    """A tree with env.sh and a PATH that holds a few tools and the interpreters a test adds."""

    def __init__(self, tmp_path: Path):
        self.tree, self.bin, self.home = (tmp_path / x for x in ("tree", "bin", "home"))
        for folder in (self.tree / "utils", self.bin, self.home):
            folder.mkdir(parents=True)
        for name in ("setup.py", "pyproject.toml", "constraints.txt", "utils/env.sh"):
            shutil.copy(ROOT / name, self.tree / name)
        for name in TOOLS:
            if found := shutil.which(name):
                (self.bin / name).symlink_to(found)

    def add(self, path: Path | str, text: str) -> Path:
        """Write an executable: a path, or a name on the PATH."""
        path = self.bin / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
        return path

    def add_python(self, path: Path | str, version: str) -> Path:
        """Write an interpreter that answers env.sh's question as Python ``version`` would."""
        answer = 'echo "$0"' if version in ("3.12", "3.13") else "exit 1"
        text = f'#!/bin/sh\n[ "$1" = -V ] && echo "Python {version}" && exit\n{answer}\n'
        return self.add(path, text)

    def run(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": str(self.bin), "HOME": str(self.home), **env}
        command = ["bash", str(self.tree / "utils/env.sh"), *options]
        return subprocess.run(
            command, env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL
        )

    def chosen(self, **env: str) -> str:
        return self.run("--print-python", **env).stdout.strip()

    def uv_calls(self) -> list[str]:
        calls = self.bin / "uv.calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [x for x in lines if not x.startswith("--version")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_order_of_interpreters(machine: Machine):
    pyenv = machine.home / ".pyenv/versions"
    old = machine.add_python(pyenv / "3.12.1/bin/python", "3.12")
    assert machine.chosen() == str(old)
    new = machine.add_python(pyenv / "3.13.0/bin/python", "3.13")
    assert machine.chosen() == str(new)
    for name, version in (("python3", "3.12"), ("python3.12", "3.12"), ("python3.13", "3.13")):
        path = machine.add_python(name, version)
        assert machine.chosen() == str(path)
    own = machine.add_python(machine.home / "own/python", "3.12")
    assert machine.chosen(PYTHON=str(own)) == str(own)


def test_shim_that_does_not_start_and_old_python_are_passed_over(machine: Machine):
    machine.add("python3.13", "#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    machine.add_python("python3.12", "3.11")
    machine.add_python("python3", "3.11")
    good = machine.add_python(machine.home / "elsewhere/versions/3.12.9/bin/python", "3.12")
    result = machine.run("--print-python", PYENV_ROOT=str(machine.home / "elsewhere"))
    assert (result.stdout.strip(), result.stderr) == (str(good), "")


def test_a_real_interpreter_answers_outside_its_environment(machine: Machine):
    """In an activated .venv the answer must not be the .venv that is about to be replaced."""
    chosen = machine.chosen(PYTHON=sys.executable)
    assert Path(chosen).is_relative_to(sys.base_prefix)


@pytest.mark.parametrize("with_uv", [False, True])
def test_no_interpreter_gives_one_message(machine: Machine, with_uv: bool):
    machine.add_python("python3", "3.11")
    if with_uv:
        machine.add("uv", FAKE_UV)
    result = machine.run()
    assert result.returncode == 3
    message = result.stderr.splitlines()
    assert len(message) == 3
    assert message[0].startswith("utils/env.sh: no Python 3.12 or 3.13")
    assert "PYTHON=" in message[2]
    assert not (machine.tree / ".venv").exists()


def test_unknown_option(machine: Machine):
    assert machine.run("--print-pyton").returncode == 2


def test_built_once_and_again_only_after_a_change(machine: Machine):
    machine.add_python("python3.13", "3.13")
    machine.add("uv", FAKE_UV)
    assert machine.run().returncode == 0
    first = machine.uv_calls()
    assert [x.split()[0] for x in first] == ["venv", "pip"]
    assert "--only-binary :all:" in first[1]
    assert "--constraints constraints.txt" in first[1]
    assert machine.run().stdout == ""
    assert machine.uv_calls() == first
    assert machine.run(PYTHON=str(machine.bin / "python3.13")).stdout != ""
    assert machine.run().stdout == ""  # an interpreter that nobody asks for may stay
    with open(machine.tree / "constraints.txt", "a") as f:
        f.write("# another\n")
    assert machine.run().returncode == 0
    assert len(machine.uv_calls()) == 3 * len(first)


def test_failed_install_is_told_and_done_again(machine: Machine):
    machine.add_python("python3.13", "3.13")
    machine.add("uv", FAKE_UV)
    (machine.bin / "uv.fails").touch()
    failed = machine.run()
    assert failed.returncode == 3
    assert len(failed.stderr.splitlines()) == 3
    (machine.bin / "uv.fails").unlink()
    leftover = machine.tree / ".venv/leftover"
    leftover.touch()
    assert machine.run().returncode == 0
    assert not leftover.exists()
    assert machine.run().stdout == ""


def test_only_what_env_sh_made_is_removed(machine: Machine):
    machine.add_python("python3.13", "3.13")
    machine.add("uv", FAKE_UV)
    venv = machine.home / "venv"
    for name in ("notes.tex", "pyvenv.cfg"):
        venv.mkdir(exist_ok=True)
        (venv / name).touch()
        result = machine.run(ESPNET_EXT_VENV=str(venv))
        assert (result.returncode, len(result.stderr.splitlines())) == (3, 3)
        assert (venv / name).exists()
        shutil.rmtree(venv)
    venv.mkdir()
    (machine.bin / "uv.fails").touch()
    assert machine.run(ESPNET_EXT_VENV=str(venv)).returncode == 3
    (machine.bin / "uv.fails").unlink()
    assert machine.run(ESPNET_EXT_VENV=str(venv)).returncode == 0
    assert (venv / ".stamp").read_text()


def declared() -> dict[str, object]:
    """The project table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def sources() -> set[str]:
    """The packages that env.sh may build from source."""
    return set(re.findall(r"--no-binary ([\w-]+)", ENV_SH.read_text()))


def packages(setup: dict[str, object]) -> set[str]:
    """The names of all packages that pyproject.toml asks for, extras too."""
    extras = setup["optional-dependencies"].values()
    rows = [*setup["dependencies"], *(x for extra in extras for x in extra)]
    return {re.match(r"[\w-]+", x).group().lower().replace("_", "-") for x in rows}


def test_doctor_and_setup_agree():
    setup = declared()
    for name, (low, high) in environment.PACKAGE_RANGES.items():
        wanted = {f"{name}>={low},<{high}", f"{name}=={low}.*"}
        assert wanted & set(setup["dependencies"])
    extras = {k: tuple(v) for k, v in setup["optional-dependencies"].items() if k != "dev"}
    assert extras == installation.EXTRAS
    low, high = environment.PYTHON_RANGE
    assert setup["requires-python"] == f">={low},<{high}"
    default = re.search(r"ESPNET_EXT_EXTRAS-([a-z,]+)", ENV_SH.read_text()).group(1)
    assert set(default.split(",")) == set(setup["optional-dependencies"])


def test_every_import_is_declared():
    """What another package happens to bring today may be gone tomorrow."""
    names = packages(declared())
    owners = importlib.metadata.packages_distributions()
    missing = []
    for path in sorted((ROOT / "espnet_ext").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [x.name for x in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [node.module]
            for module in {x.split(".")[0] for x in modules} - {"espnet_ext"}:
                given = {x.lower().replace("_", "-") for x in owners.get(module, [module])}
                if module not in sys.stdlib_module_names and not given & names:
                    missing.append(f"{path.relative_to(ROOT)}:{node.lineno} {module}")
    assert not missing, f"not in pyproject.toml: {missing}"


def test_constraints_hold_names_and_versions_only():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    rows = [x for x in lines if not x.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", x) for x in rows)
    pins = dict(x.split("==") for x in rows)
    assert len(pins) == len(rows)
    for name, bounds in environment.PACKAGE_RANGES.items():
        assert environment.in_range(pins[name], bounds)
    assert packages(declared()) <= set(pins)


def test_nothing_that_compiles_is_built():
    """Source packages are named one by one: ours, and one of pure Python without a wheel."""
    assert sources() == {"espnet_ext", "antlr4-python3-runtime"}
    assert "antlr4-python3-runtime==4.9.3" in (ROOT / "constraints.txt").read_text().splitlines()
    told = "--no-binary antlr4-python3-runtime"
    assert told in (ROOT / "constraints.txt").read_text(), "how to make it again"


def test_no_address_or_hash_in_the_set_up():
    names = ("Makefile", "setup.py", "constraints.txt", "pyproject.toml", ".ci/run", "utils/env.sh")
    for name in names:
        text = (ROOT / name).read_text()
        assert not re.search(r"\w+://|sha256:|[0-9a-f]{32}", text), name


def test_shellcheck():
    tool = shutil.which("shellcheck") or shutil.which(
        "shellcheck", path=str(Path(sys.executable).parent)
    )
    if tool is None:
        pytest.skip("shellcheck is not installed: make env")
    scripts = [*ROOT.glob("utils/*.sh"), *ROOT.glob("local/**/*.sh"), *ROOT.glob("egs2/**/*.sh")]
    files = [str(x) for x in (ROOT / ".ci/run", *scripts)]
    result = subprocess.run([tool, "-x", *files], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stdout


def test_bare_install_runs_the_doctor(tmp_path: Path):
    """Without extras the package installs from a wheel, in an empty environment, and starts."""
    path = f"{os.environ['PATH']}:{ROOT / '.uv/venv/bin'}"
    uv = shutil.which("uv", path=path)
    if uv is None:
        pytest.skip("uv is neither on the PATH nor in .uv: make env")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "espnet_ext", tmp_path / "tree/espnet_ext", ignore=ignore)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "tree" / name)
    venv = tmp_path / "venv"
    wheels = [x for name in sources() for x in ("--no-binary", name)]
    pins = [x for a in ("", "build-") for x in (f"--{a}constraints", str(ROOT / "constraints.txt"))]
    install = [uv, "pip", "install", "-p", str(venv / "bin/python"), "--only-binary", ":all:"]
    install += [*wheels, *pins]
    subprocess.run([uv, "venv", "-q", "-p", sys.executable, str(venv)], check=True)
    project = f"espnet_ext @ {(tmp_path / 'tree').as_uri()}"
    done = subprocess.run([*install, project], capture_output=True, text=True)
    if done.returncode and re.search("error sending request|dns error|timed out", done.stderr):
        pytest.skip(f"the packages cannot be fetched: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    installed = next(venv.glob("lib/python3*/site-packages")) / "espnet_ext"
    assert (installed / "py.typed").is_file()
    assert not (installed.parent / "tests").exists()
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [str(venv / "bin/espnet-ext"), "doctor"]
    doctor = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert "torchaudio" in doctor.stdout
    shutil.rmtree(venv)  # pytest would keep its gigabytes for three runs
