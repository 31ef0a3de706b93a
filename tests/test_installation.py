# SPDX-License-Identifier: Apache-2.0
"""Messages name commands that work: in a clone with its own environment, and anywhere else."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from espnet_ext import installation
from espnet_ext.errors import DataError

ROOT = Path(__file__).resolve().parents[1]
# Whoever writes such words in a message should ask installation.install or recipe_line instead.
BY_HAND = re.compile(r"make env|pip install|\.venv\b")


def test_only_one_module_says_how_to_install():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for folder in ("espnet_ext", "local")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if BY_HAND.search(line) and path.name != "installation.py"
    ]
    assert not found, "let espnet_ext.installation name the command"


def test_an_extra_comes_by_make_in_its_environment_and_by_its_packages_elsewhere(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("ESPNET_EXT_EXTRAS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (tmp_path / ".stamp").touch()
    assert installation.install(extra="plot") == f"make -C {shlex.quote(str(ROOT))} env"
    monkeypatch.setenv("ESPNET_EXT_EXTRAS", "synth")  # make would leave the extra out again
    assert installation.install(extra="plot").startswith("env -u ESPNET_EXT_EXTRAS make")
    (tmp_path / ".stamp").unlink()
    words = shlex.split(installation.install(extra="text"))
    assert words[-5:] == list(installation.EXTRAS["text"]) and sys.executable in words
    (tmp_path / ".stamp").touch()
    monkeypatch.setattr(installation, "_PACKAGE", tmp_path / "site-packages/espnet_ext")
    assert installation.clone() is None
    assert "make" not in installation.install(extra="plot")
    conf = installation.project_file("conf/slurm.yaml")
    assert conf == tmp_path / "site-packages/espnet_ext/shipped/conf/slurm.yaml"


@pytest.mark.parametrize("pip", [True, False])
def test_pip_is_named_where_it_is_installed_and_else_uv(pip, monkeypatch):
    monkeypatch.setattr(installation.importlib.util, "find_spec", lambda name: pip or None)
    words = shlex.split(installation.install("wandb"))
    expected = [sys.executable, "-m", "pip", "install", "wandb"]
    assert words == (expected if pip else ["uv", "pip", "install", "--python", *expected[::4]])


def test_a_recipe_without_run_sh_is_run_by_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = DataError("it is missing", "dump", "AN4=/x ./run.sh --stage format")
    (tmp_path / "recipe.yaml").touch()
    assert "./run.sh --stage format" in str(error)
    monkeypatch.setattr(installation, "_PACKAGE", tmp_path / "site-packages/espnet_ext")
    assert "AN4=/x espnet-ext recipe --stage format" in str(error)
    assert installation.recipe_line("--name", "a b") == "espnet-ext recipe --name 'a b'"
    (tmp_path / "run.sh").touch()
    assert "./run.sh --stage format" in str(error)
