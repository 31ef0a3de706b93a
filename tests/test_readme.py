# SPDX-License-Identifier: Apache-2.0
"""What README.md and docs/ tell people to type exists, and the quick commands are run."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_ext import cli
from espnet_ext.recipe import config, options, stages
from espnet_ext.recipe.schema import Recipe

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
AN4 = ROOT / "egs2/an4/asr1"


def commands():
    """Lines of the bash blocks, and the commands in the text, without comments."""
    blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:\./run\.sh|make|espnet-ext) [^`]+)`", TEXT)
    return sorted({line.split("  #")[0].strip() for line in lines} - {""})


def test_readme_is_short_and_its_first_screen_has_it_all():
    readme = PAGES[0].read_text(encoding="utf-8")
    assert readme.count("\n") < 150
    first, _ = readme.split("\n## ", 1)
    assert first.count("```bash\n") == 1 and first.count("![") == 1
    title, sentence, *_ = [p for p in first.split("\n\n") if p.strip()]
    assert title.startswith("# ") and sentence.count(". ") == 0


def test_there_are_commands():
    assert len(commands()) > 40


@pytest.mark.parametrize("command", [c for c in commands() if "run.sh" in c])
def test_recipe_commands_are_accepted(command):
    words = shlex.split(command)
    argv = words[words.index("./run.sh") + 1 :]
    opts = options.parse(argv, {f.name for f in dataclasses.fields(Recipe)})
    stages.select(opts.stage, opts.stop_stage)
    recipe = config.load(AN4 / "recipe.yaml", opts.overrides)
    assert (AN4 / recipe.finetune.config).exists()
    if opts.executor != "local":
        assert (ROOT / opts.executor).exists()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make")])
def test_make_targets_exist(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("espnet-ext")])
def test_espnet_ext_commands_exist(command):
    name = command.split()[1]
    assert name in cli.COMMANDS and re.search(rf"^  .*\b{name}\b", cli.__doc__, re.M)


@pytest.mark.parametrize("flag", ["--list", "--dry-run", "--help"])
def test_quick_commands_run(flag, recipe_tree):
    env = {**os.environ, "ESPNET_EXT_PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", "run.sh", flag], cwd=recipe_tree, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout and not done.stderr


@pytest.fixture(scope="module")
def recipe_tree(tmp_path_factory):
    import shutil

    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(AN4, root / "egs2/an4/asr1",
                    ignore=shutil.ignore_patterns("exp", "dump", "data", ".stages"))  # fmt: skip
    shutil.copytree(ROOT / "utils", root / "utils")
    return root / "egs2/an4/asr1"


def test_the_files_that_the_text_names_exist():
    folders = "egs2|espnet_ext|conf|benchmarks|utils|docs|tests|notebooks|local"
    named = set(re.findall(rf"`((?:{folders})/[\w./]+)`", TEXT))
    assert len(named) > 10
    places = (ROOT, AN4, ROOT / "egs2/an4/weak_align1")
    assert [p for p in sorted(named) if not any((at / p).exists() for at in places)] == []
