# SPDX-License-Identifier: Apache-2.0
"""Stages 1 and 2 on a corpus that moves, changes or is damaged, in a recipe that moves."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_ext.recipe import records, runner
from espnet_ext.recipe.content import Contents

RAN = re.compile(r"^stage (\d+)\S* .*done in", re.M)
SCRIPT = """set -eu
mkdir -p "$1/train"; cd "$1/train"
while read -r u t; do
    echo "$u $CORPUS/$u.wav" >>wav.scp; echo "$u $t" >>text; echo "$u $u" >>utt2spk
done <"$CORPUS/list"
"""


def write_audio(path: Path, seed: int, fs: int = 16000) -> None:
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(fs), fs)


@pytest.fixture
def corpus(folder, tmp_path, monkeypatch):
    """A corpus of three utterances; one has another rate and so is written by formatting."""
    made = tmp_path / "corpus"
    made.mkdir()
    for seed, name in enumerate("abc"):
        write_audio(made / f"{name}.wav", seed, 8000 if name == "c" else 16000)
    (made / "list").write_text("a one\nb two\nc three\n")
    folder.recipe(
        corpus={"name": "Toy", "env": "CORPUS"},
        data={"train": "train", "valid": "train", "test": []},
        prepare={},
        format={"min_s": 0.1},
    )
    folder.write("local/data.sh", SCRIPT)
    monkeypatch.setenv("CORPUS", str(made))
    return made


@pytest.fixture
def run(corpus, capfd):
    """Return ``run() -> (exit code, numbers of the stages that ran, output)`` of stages 1 and 2."""

    def call(*argv: str) -> tuple[int, list[str], str]:
        code = runner.main(["--stop-stage", "2", "--nj", "1", *argv])
        out = "".join(capfd.readouterr())
        return code, RAN.findall(out), out

    assert call()[:2] == (0, ["1", "2"])
    assert call()[:2] == (0, [])
    return call


def dump() -> str:
    return Contents().fingerprint(Path("dump/train/wav.scp"))


def test_a_corpus_that_moves(run, corpus, monkeypatch):
    before = dump()
    there = corpus.rename(corpus.with_name("there"))
    monkeypatch.delenv("CORPUS")
    code, ran, out = run()
    assert (code, ran) == (3, [])
    assert f"the audio of 'a' is gone: {corpus}/a.wav" in out
    assert "if the corpus moved: CORPUS=/new/path ./run.sh" in out
    monkeypatch.setenv("CORPUS", str(there))
    assert run()[:2] == (0, ["1", "2"])
    assert str(there) in Path("dump/train/wav.scp").read_text()
    assert dump() == before  # so no training starts again
    assert run()[:2] == (0, [])


def test_a_recipe_that_moves(run, corpus, monkeypatch, tmp_path):
    before = dump()
    assert "c dump/train/wav/" in Path("dump/train/wav.scp").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "egs2").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved/toy/asr1")
    assert run()[:2] == (0, [])
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")  # with new times
    monkeypatch.chdir(tmp_path / "copied/toy/asr1")
    assert run()[:2] == (0, [])
    assert dump() == before


def test_a_corpus_that_changes(run, corpus):
    (corpus / "list").write_text("a one\nb three\nc three\n")
    _, ran, out = run()
    assert ran == ["1", "2"] and "changed: lists of CORPUS" in out
    assert "b three" in Path("dump/train/text").read_text()
    for name in "bc":
        before = dump()
        write_audio(corpus / f"{name}.wav", 9, 8000 if name == "c" else 16000)
        _, ran, out = run()
        assert ran == ["2"] and "changed: data/train/wav.scp" in out
        assert dump() != before
    assert run()[:2] == (0, [])


@pytest.mark.parametrize("file", ["text", "wav.scp", "utt2num_samples", "audio"])
def test_a_formatted_set_that_is_damaged(run, corpus, file):
    before = dump(), Path("dump/train/text").read_text()
    path = Path("dump/train", file)
    if file == "audio":
        path = next(Path("dump/train/wav").rglob("*.flac"))
    path.write_bytes(path.read_bytes()[:-9])
    _, ran, out = run()
    assert ran == ["2"]
    assert re.search(r"dump/train/\S+ (has \d lines, 3 were made|is not what)", out)
    assert (dump(), Path("dump/train/text").read_text()) == before


def test_a_damaged_record_is_named(run, corpus):
    Path(".stages/format.json").write_text("{half")
    _, ran, out = run()
    assert ran == ["2"] and "its record .stages/format.json is damaged" in out
    assert records.read(Path(".stages/format.json"))["stage"] == "format"
