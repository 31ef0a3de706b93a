# SPDX-License-Identifier: Apache-2.0
"""The AN4 recipe: on a small tree in the layout of the corpus, and on real speech if available."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_tree import ROOT, TINY

REAL = Path(os.environ.get("AN4") or ROOT.parent / "shared/data/an4")
TINY_MODEL = [x for x in TINY if not x.startswith("--prepare")]


def read_ids(path):
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.fixture
def layout(tmp_path):
    """The web distribution's tree: NIST sphere files, <s> </s> in training lines only."""
    root = tmp_path / "an4"
    (root / "etc").mkdir(parents=True)
    for part, folder, count in (("train", "an4_clstk", 6), ("test", "an4test_clstk", 2)):
        ids, lines = [], []
        for i in range(count):
            name = f"an{i:03d}-sp{part[1]}{i % 2}-b"
            path = root / "wav" / folder / name.split("-")[1] / f"{name}.sph"
            path.parent.mkdir(parents=True, exist_ok=True)
            noise = 0.1 * np.random.default_rng(i).standard_normal(16000)
            soundfile.write(path, noise, 16000, format="NIST", subtype="PCM_16")
            ids.append(f"{folder}/{path.parent.name}/{name}")
            text = f"W{i} TWO"
            lines.append(f"<s> {text} </s> ({name})" if part == "train" else f"{text} ({name})")
        (root / f"etc/an4_{part}.fileids").write_text("\n".join(ids) + "\n")
        (root / f"etc/an4_{part}.transcription").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("above", [False, True])
def test_preparation_of_the_sphere_layout(recipe_copy, tmp_path, layout, above):
    recipe = recipe_copy("an4/asr1", tmp_path / "tree")
    env = {"AN4": str(layout.parent if above else layout)}
    recipe.run("--stop-stage", "2", "--prepare.args=[--dev, '2']", env=env)
    data = recipe.path / "data"
    assert read_ids(data / "dev/text") == ["spr0-an000-b", "spr0-an002-b"]  # the first when sorted
    assert len(read_ids(data / "train/text")) == 4
    assert (data / "test/text").read_text() == "spe0-an000-b W0 TWO\nspe1-an001-b W1 TWO\n"
    wav = recipe.path / (recipe.path / "dump/test/wav.scp").read_text().split()[1]
    assert wav.suffix == ".flac" and soundfile.info(wav).samplerate == 16000


def test_a_relative_path_is_meant_from_where_run_sh_is_called(recipe_copy, tmp_path, layout):
    recipe = recipe_copy("an4/asr1", tmp_path / "tree")
    env = {**os.environ, "ESPNET_EXT_PYTHON": sys.executable, "AN4": "an4"}
    command = [
        "bash",
        str(recipe.path / "run.sh"),
        "--stop-stage",
        "1",
        "--prepare.args=[--dev,'2']",
    ]
    done = subprocess.run(command, cwd=layout.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wav = (recipe.path / "data/test/wav.scp").read_text().split()[1]
    assert Path(wav).is_absolute() and Path(wav).exists()


def test_a_missing_file_is_named_and_nothing_is_left_behind(recipe_copy, tmp_path, layout):
    recipe = recipe_copy("an4/asr1", tmp_path / "tree")
    lost = next(layout.rglob("an001-spr1-b.sph"))
    lost.unlink()
    out = recipe.run("--stop-stage", "1", code=3, env={"AN4": str(layout)})
    assert "an001-spr1-b" in out and "rerun:" in out and not (recipe.path / "data").exists()


def test_a_folder_that_is_not_an4_is_refused_at_once(recipe_copy, tmp_path):
    recipe = recipe_copy("an4/asr1", tmp_path / "tree")
    out = recipe.run(code=3, env={"AN4": str(tmp_path)})
    assert "does not look like AN4" in out and "stage 1" not in out


@pytest.mark.e2e
@pytest.mark.skipif(not REAL.is_dir(), reason="AN4 is not available: set AN4=/path to test on it")
def test_forty_real_utterances_from_corpus_to_results(recipe_copy, tmp_path):
    part = tmp_path / "an4"
    (part / "etc").mkdir(parents=True)
    (part / "wav").symlink_to(REAL.resolve() / "wav")
    for name, count in (("train", 28), ("test", 12)):
        for kind in ("fileids", "transcription"):
            lines = (REAL / f"etc/an4_{name}.{kind}").read_text().splitlines()[:count]
            (part / f"etc/an4_{name}.{kind}").write_text("\n".join(lines) + "\n")
    recipe = recipe_copy("an4/asr1", tmp_path / "tree")
    options = ["--prepare.args=[--dev, '6']", "--format.speeds=[1.0]", "--tokens.type=char"]
    out = recipe.run(*TINY_MODEL, *options, "--stop-stage", "9", env={"AN4": str(part)})
    assert "train: 22 read, 22 written" in out
    texts = (recipe.path / "exp/cpu/decode/greedy_ctc/test/text").read_text().splitlines()
    assert len(texts) == 12
    assert "decoding `greedy_ctc`" in (recipe.path / "RESULTS.md").read_text()


@pytest.mark.skipif(not REAL.is_dir(), reason="AN4 is not available: set AN4=/path to test on it")
def test_the_split_of_the_whole_corpus(recipe_copy, tmp_path):
    recipe = recipe_copy("an4/asr1", tmp_path)
    recipe.run("--stop-stage", "1", env={"AN4": str(REAL.resolve())})
    sizes = {n: len(read_ids(recipe.path / f"data/{n}/text")) for n in ("train", "dev", "test")}
    assert sizes == {"train": 848, "dev": 100, "test": 130}
    words = (recipe.path / "data/test/text").read_text().split()
    assert len(words) - 130 == 773
