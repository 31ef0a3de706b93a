# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in Kaldi-style scripts, tried on the real run.sh in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
recipe: toy/asr1
title: A toy
prepare: {script: local/data.sh}
data: {train: train, valid: train, test: []}
finetune: {config: conf/train.yaml}
"""
SCRIPT = """
set -eu
mkdir -p "$1/train"; cd "$1/train"
for u in a b; do echo "$u $PWD/../../$u.wav"; done >>wav.scp
for f in text utt2spk; do printf 'a x\\nb x\\n' >>$f; done
echo 'x a b' >>spk2utt
"""


class Recipe:
    """egs2/toy/asr1 with the project's run.sh, runnable from anywhere."""

    def __init__(self, root: Path):
        self.path = root / "egs2/toy/asr1"
        for folder in ("local", "conf"):
            (self.path / folder).mkdir(parents=True)
        (root / "utils").mkdir()
        shutil.copy(ROOT / "utils/recipe.sh", root / "utils")
        shutil.copy(ROOT / "egs2/synth/asr1/run.sh", self.path)
        (self.path / "recipe.yaml").write_text(RECIPE)
        (self.path / "local/data.sh").write_text(SCRIPT)
        (self.path / "conf/train.yaml").write_text("max_epoch: 3\n")

    def wav(self, *names: str) -> None:
        import numpy as np
        import soundfile

        for name in names:
            soundfile.write(self.path / f"{name}.wav", np.zeros(1600), 16000)

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "ESPNET_EXT_PYTHON": sys.executable, **env}
        command = [str(self.path / "run.sh"), *argv]
        # The limit turns an endless loop into a failure.
        return subprocess.run(
            command, env=env, text=True, capture_output=True, timeout=120, cwd=self.path.parents[2]
        )

    def files(self) -> set[str]:
        return {str(p.relative_to(self.path)) for p in self.path.rglob("*")}


@pytest.fixture
def recipe(tmp_path):
    return Recipe(tmp_path)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--stage"], "--stage needs a value"),
        (["--stage", "--nj", "2"], "--stage needs a value"),
        (["--stage="], "--stage needs a value"),
        (["--stage", "abc"], "there is no stage 'abc'"),
        (["--stage", "99"], "there is no stage '99'"),
        (["--stage", "3", "--stop-stage", "2"], "nothing to run"),
        (["--stage", "3", "--stop-stage", "3"], "recipe.yaml has no 'align' section"),
        (["--nj", "-1"], "--nj must be a whole number from 1"),
        (["--ngup", "1"], "did you mean 'ngpu'?"),
        (["1"], "'1' is not an option"),
        (["--formt.speeds", "[1]"], "did you mean 'format.speeds'?"),
        (["--format.fs", "-5"], "'format.fs' must be at least 100, not -5"),
        (["--seed", "-1"], "'seed' must be at least 0, not -1"),
        (["--help", "format.sf"], "did you mean 'format.fs'?"),
        (["--finetune.args", "{a: 1, a: 2}"], "the key 'a' stands twice"),
        (["--finetune.confg", "x"], "did you mean 'config'?"),
        (["--finetune.config", "conf/trian.yaml"], "there are: conf/train.yaml"),
        (["--name", "../../x"], "cannot name an experiment"),
    ],
)
def test_wrong_usage_ends_with_2_and_runs_nothing(recipe, argv, says):
    before = recipe.files()
    result = recipe.run(*argv)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert recipe.files() - before <= {".stages", ".stages/lock"}


def test_values_are_never_evaluated(recipe):
    before = recipe.files()
    title = "$(touch X) `touch X`; touch X 'a' \"b\" ä\n* &"
    result = recipe.run("--title", title, "--name=x", "--list")
    assert result.returncode == 0
    assert result.stdout.startswith(f"toy/asr1: {title}\n")
    result = recipe.run("--finetune.args.token_list", "$(touch X)", "--dry-run")
    assert "'$(touch X)'" in result.stdout  # quoted, so that it can be pasted
    assert recipe.files() == before


def test_rerun_does_not_append_and_missing_audio_is_found(recipe):
    stage1 = ("--stage", "1", "--stop_stage", "prepare")
    result = recipe.run(*stage1)
    assert result.returncode == 3  # no audio yet
    assert re.search(r"data/train/wav\.scp:1: a: .*not", result.stderr)
    assert re.search(r"rerun: \./run\.sh --stage 1 --stop-stage 1\n", result.stderr)
    recipe.wav("a", "b")
    assert recipe.run(*stage1).returncode == 0
    text = (recipe.path / "data/train/text").read_text()
    assert text == "a x\nb x\n"
    assert recipe.run(*stage1, "--force").returncode == 0
    assert (recipe.path / "data/train/text").read_text() == text
    assert "up to date" in recipe.run(*stage1).stdout


def test_a_failing_script_is_told_with_its_reason(recipe):
    (recipe.path / "local/data.sh").write_text(
        "for i in 1 2; do echo job $i: no space; done; false"
    )
    result = recipe.run("--stop-stage=1")
    assert result.returncode == 1
    first = result.stderr.splitlines()[0]
    assert first.startswith("error: stage 1 (prepare) failed: local/data.sh ended with exit code 1")
    assert "job 2: no space" in first
    assert "Traceback" not in result.stderr


def test_other_epochs_are_the_same_experiment(recipe):
    def makes(*argv: str) -> list[str]:
        out = recipe.run("--dry-run", "--stage", "finetune", *argv).stdout
        return re.findall(r"makes: (.*)|experiment folder: (.*)", out)

    first = makes()
    assert ("", "exp/base") in first
    assert makes("--finetune.args.max_epoch", "30") == first
    assert makes("--name", "try2") != first


def test_missing_environment_says_what_to_do(recipe):
    result = recipe.run("--list", ESPNET_EXT_PYTHON="/nowhere/python")
    assert result.returncode == 3
    assert "fix:   make -C" in result.stderr


@pytest.mark.parametrize("option", ["--help", "--list", "--dry-run"])
def test_showing_does_not_import_torch(recipe, option):
    """It would take many seconds."""
    code = (
        "import sys; from espnet_ext.recipe.runner import main; assert main(sys.argv[1:]) == 0;"
        "print(sorted({m.split('.')[0] for m in sys.modules}))"
    )
    command = [sys.executable, "-c", code, option]
    result = subprocess.run(command, cwd=recipe.path, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr
    loaded = result.stdout.splitlines()[-1]
    assert "'yaml'" in loaded
    for module in ("torch", "espnet2", "espnet", "numpy", "distributed"):
        assert f"'{module}'" not in loaded
