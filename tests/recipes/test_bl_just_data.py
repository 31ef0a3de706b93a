# SPDX-License-Identifier: Apache-2.0
"""Stages 1 to 4 of the BL-JUST recipes: hidden texts stay hidden, formatting takes both sets."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_tree import ROOT, load_local

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError

REAL = Path(os.environ.get("AN4") or ROOT.parent / "shared/data/an4")
SMALL = "--train-minutes, '0.6', --train-speakers, '3', --dev-utts, '3', --test-utts, '3'"
SPLIT = f"--prepare.args=[--labelled-fraction, '0.25', {SMALL}]"


@pytest.fixture
def an4(tmp_path, monkeypatch):
    """Return ``an4(*argv) -> folder of data`` on a tree of 12 training utterances of 3 speakers."""
    root = tmp_path / "an4"
    (root / "etc").mkdir(parents=True)
    for part, count in (("train", 12), ("test", 2)):
        names = [f"an{i:03d}-s{part[1]}{i % 3}-b" for i in range(count)]
        for name in names:
            path = root / "wav" / part / f"{name}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.zeros(8000, np.int16), 16000)
        (root / f"etc/an4_{part}.fileids").write_text("".join(f"{part}/{n}\n" for n in names))
        lines = "".join(f"SECRET{part}{n[2:5]} ({n})\n" for n in names)
        (root / f"etc/an4_{part}.transcription").write_text(lines)
    module = load_local("an4")
    monkeypatch.setenv("AN4", str(root))

    def call(*argv):
        monkeypatch.setattr(sys, "argv", ["an4.py", str(tmp_path / "data"), "--dev", "2", *argv])
        module.main()
        return tmp_path / "data"

    return call


def test_an4_with_a_part_of_its_texts(an4):
    data = an4("--labelled-fraction", "0.5")
    labelled = read_table(data / "labelled/text")
    unlabelled = (data / "unlabelled.txt").read_text().split()
    assert len(labelled) == 5 and len(unlabelled) == 5
    assert not (data / "train").exists() and not (data / "unlabelled/text").exists()
    told = "".join(p.read_text() for p in data.rglob("*") if p.is_file() and p.parent.name != "dev")
    for utt in unlabelled:
        assert f"SECRETtrain{utt.split('-')[1][2:]}" not in told
    assert json.loads((data / "labelled.json").read_text())["labelled_s"] == 2.5
    smaller = an4("--labelled-fraction", "0.2")
    assert read_table(smaller / "labelled/text").items() <= labelled.items()


def test_an4_options(an4):
    data = an4("--labelled-fraction", "0.5", "--unlabelled", "all")
    assert len(read_table(data / "unlabelled/wav.scp")) == 10
    with pytest.raises(DataError, match="no utterance would be labelled"):
        an4("--labelled-fraction", "0.01")
    with pytest.raises(UsageError, match="labelled fraction"):
        an4("--labelled-fraction", "1.5")
    data = an4()
    assert len(read_table(data / "train/text")) == 10


def dropped(recipe, name):
    lines = (recipe.path / f"dump/{name}/dropped.tsv").read_text().splitlines()[1:]
    return Counter(line.split("\t")[1] for line in lines)


def test_the_synthetic_recipe_up_to_its_tokens(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/bl_just1", tmp_path)
    out = recipe.run(SPLIT, "--stop-stage", "4", "--format.max_s=2.5")
    data = recipe.path / "data"
    split = json.loads((data / "labelled.json").read_text())
    n, m = split["labelled"], split["unlabelled"]
    assert n == int(0.25 * (n + m) + 0.5) and split["overlap"] == 0
    assert not (data / "train").exists() and not (recipe.path / "dump/unlabelled/text").exists()
    # Both sets are trained on, so what is too long is dropped; a test set stays whole.
    assert dropped(recipe, "unlabelled")["too long"] > 0 and not dropped(recipe, "test")
    out = recipe.run(SPLIT, "--stop-stage", "2", "--format.join_s=4.0",
                     "--format.join_sets=[unlabelled]")  # fmt: skip
    assert f"unlabelled: {m} read, " in out and "joined to others" in out
    lengths = read_table(recipe.path / "dump/unlabelled/utt2num_samples")
    assert abs(sum(map(int, lengths.values())) / 16000 - split["unlabelled_s"]) < 0.01
    assert all(int(x) >= 4.0 * 16000 for x in lengths.values())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--format.join_s=3", "--format.join_sets=[unlabeled]"], "did you mean 'unlabelled'?"),
        (["--format.join_s=3"], "give both"),
        (["--format.join_sets=[unlabelled]"], "give both"),
    ],
)
def test_a_join_that_means_nothing_is_refused_before_stage_1(recipe_copy, tmp_path, options, says):
    recipe = recipe_copy("synth/bl_just1", tmp_path)
    out = recipe.run(*options, "--stage", "2", "--stop-stage", "2", code=2)
    assert says in out


SETS = """set -eu
for set in labelled unlabelled dev test; do
    mkdir -p "$1/$set"; cd "$1/$set"
    echo "s-u $PWD/../../a.wav" >wav.scp; echo "s-u s" >utt2spk; echo "s s-u" >spk2utt
    [ $set = unlabelled ] || echo "s-u HELLO" >text
    cd ../..
done
"""


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (": >labelled/text; : >labelled/wav.scp", ["data/labelled/wav.scp: has no lines"]),
        ("sed -i s/a.wav/b.wav/ unlabelled/wav.scp",
         ["data/unlabelled/wav.scp:1", "the audio file is missing"]),
    ],
)  # fmt: skip
def test_stage_1_names_what_the_two_sets_lack(recipe_copy, tmp_path, spoiled, says):
    recipe = recipe_copy("synth/bl_just1", tmp_path)
    soundfile.write(recipe.path / "a.wav", np.zeros(16000, np.int16), 16000)
    (recipe.path / "local/data.sh").write_text(f'{SETS}cd "$1"; {spoiled}\n')
    out = recipe.run("--stop-stage", "1", code=3)
    assert all(text in out for text in says)


@pytest.mark.skipif(not REAL.is_dir(), reason="AN4 is not available: set AN4=/path to test on it")
def test_a_quarter_of_the_texts_of_the_real_corpus(recipe_copy, tmp_path):
    recipe = recipe_copy("an4/bl_just1", tmp_path)
    recipe.run("--stop-stage", "2", env={"AN4": str(REAL.resolve())})
    sizes = {n: len(read_table(recipe.path / "dump" / n / "wav.scp"))
             for n in ("labelled", "unlabelled", "dev", "test")}  # fmt: skip
    assert sizes == {"labelled": 212, "unlabelled": 636, "dev": 100, "test": 130}
    count = Counter(read_table(recipe.path / "dump/labelled/utt2spk").values())
    total = count + Counter(read_table(recipe.path / "dump/unlabelled/utt2spk").values())
    assert all(abs(count[spk] - n / 4) < 1 for spk, n in total.items())
