# SPDX-License-Identifier: Apache-2.0
import json
import math
import os
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

import espnet_ext
from espnet_ext.data.synth.__main__ import main
from espnet_ext.data.synth.corpus import _plan, make_corpus, on_grid
from espnet_ext.data.synth.espeak import Espeak
from espnet_ext.data.synth.events import SILENCE, Segment
from espnet_ext.data.synth.grammar import Grammar
from espnet_ext.data.synth.layout import RATE_HZ, lexicon_text
from espnet_ext.data.tables import read_table
from espnet_ext.errors import UsageError

pytest.importorskip("espeakng_loader")
TINY = {"train_minutes": 0.5, "dev_utts": 4, "test_utts": 4}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth") / "corpus"
    return folder, make_corpus(folder, **TINY)


@pytest.fixture(scope="module")
def rows(corpus):
    lines = (corpus[0] / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_summary_counts_what_is_there(corpus, rows):
    folder, summary = corpus
    assert summary.made and summary.out_dir == str(folder)
    assert summary.utts["dev"] == summary.utts["test"] == 4
    assert sum(summary.utts.values()) == len(rows) == len(list(folder.rglob("*.flac")))
    assert 0.5 <= summary.minutes["train"] < 0.6
    assert summary.words > 20 and summary.phones > 20
    assert not list(folder.parent.glob(".*"))  # no temporary folder is left


def test_kaldi_folders_agree_with_the_manifest(corpus, rows):
    folder, _ = corpus
    for split in ("train", "dev", "test"):
        tables = {
            name: read_table(folder / split / name)
            for name in ("wav.scp", "text", "utt2spk", "intent", "slots")
        }
        mine = {r["id"]: r for r in rows if r["split"] == split}
        for table in tables.values():
            assert list(table) == sorted(mine, key=str.encode)
        spk2utt = read_table(folder / split / "spk2utt")
        assert {u: s for s, us in spk2utt.items() for u in us.split()} == tables["utt2spk"]
        for utt, row in mine.items():
            assert tables["wav.scp"][utt] == os.path.join(str(folder), row["audio"])
            assert tables["text"][utt] == row["text"]
            assert utt.startswith(tables["utt2spk"][utt] + "-")
            assert tables["intent"][utt] == row["intent"]
            assert json.loads(tables["slots"][utt]) == row["slots"]
            words = row["text"].split()
            for slot in row["slots"]:
                span = words[slot["word_start"] : slot["word_end"]]
                assert " ".join(span) == slot["value"]


def test_times_tile_the_audio_exactly(corpus, rows):
    for row in rows:
        info = soundfile.info(corpus[0] / row["audio"])
        assert (info.samplerate, info.subtype, info.channels) == (RATE_HZ, "PCM_16", 1)
        assert row["duration_s"] == info.frames / RATE_HZ
        phones = row["phones"]
        assert phones[0][:2] == [SILENCE, 0.0]
        assert phones[-1][0] == SILENCE and phones[-1][2] == row["duration_s"]
        assert all(a[2] == b[1] for a, b in pairwise(phones))
        assert all(round(t * RATE_HZ) / RATE_HZ == t for p in phones for t in p[1:])
        assert [w[0] for w in row["words"]] == row["text"].split()
        for _, start, end in row["words"]:
            inside = [p for p in phones if start <= p[1] and p[2] <= end]
            assert inside[0][1] == start and inside[-1][2] == end
            assert SILENCE not in {p[0] for p in inside}


def test_speech_has_more_energy_than_silence(corpus, rows):
    for row in rows:
        audio, _ = soundfile.read(corpus[0] / row["audio"])
        power = {True: [], False: []}
        for label, start, end in row["phones"]:
            power[label == SILENCE].append(
                audio[round(start * RATE_HZ) : round(end * RATE_HZ)] ** 2
            )
        speech, silence = (np.concatenate(power[k]).mean() for k in (False, True))
        assert speech > 10 * silence
        assert 0.25 < np.abs(audio).max() < 0.9


def test_splits_share_no_sentence_and_no_speaker(rows):
    for key in (lambda r: r["text"], lambda r: r["speaker"]["id"], lambda r: r["speaker"]["voice"]):
        sets = [{key(r) for r in rows if r["split"] == s} for s in ("train", "dev", "test")]
        assert not (sets[0] & sets[1] or sets[0] & sets[2] or sets[1] & sets[2])
    assert len({r["text"] for r in rows}) == len(rows)


def test_default_train_sentences_hold_every_word():
    drawn = [s.text for s in Grammar("en").draw(np.random.default_rng(1))]
    train = {w for text in drawn[140:540] for w in text.split()}
    assert train == Grammar("en").vocabulary()


def test_lexicon_has_every_word_as_it_was_spoken(corpus, rows):
    text = (corpus[0] / "lexicon.txt").read_text(encoding="utf-8")
    entries = [line.split() for line in text.splitlines()]
    assert {e[0] for e in entries} == {w for r in rows for w in r["text"].split()}
    assert all(len(e) > 1 for e in entries) and len(set(text.splitlines())) == len(entries)
    row = {
        "phones": [["SIL", 0, 1], ["a", 1, 2], ["b", 2, 3], ["c", 3, 4], ["SIL", 4, 5]],
        "words": [["x", 1, 3], ["y", 3, 4]],
    }
    other = {"phones": [["b", 0, 1]], "words": [["x", 0, 1]]}
    assert lexicon_text([other, row, row]) == "x a b\nx b\ny c\n"


def test_another_process_makes_the_same_bytes(corpus):
    folder, _ = corpus
    Espeak().synthesize("something else before")
    before = read_files(folder)
    elsewhere = folder.parent / "elsewhere" / "corpus"
    code = "import sys; from espnet_ext.data.synth.__main__ import main; sys.exit(main())"
    args = ["--train-minutes", "0.5", "--dev-utts", "4", "--test-utts", "4"]
    root = str(Path(espnet_ext.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", code, str(elsewhere), *args],
        check=True,
        env=dict(os.environ, PYTHONPATH=root, PYTHONHASHSEED="7"),
        stdout=subprocess.DEVNULL,
    )
    after = read_files(elsewhere)
    assert set(after) == set(before)
    for name in before:
        here = before[name].replace(str(folder).encode(), str(elsewhere).encode())
        assert after[name] == here, name


def test_rerun_leaves_it_and_a_change_or_a_lost_file_remakes_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = {"train_minutes": 0.05, "dev_utts": 1, "test_utts": 1, "language": "fr"}
    first = make_corpus("c", **tiny)
    assert first.made and read_table("c/dev/wav.scp").popitem()[1].startswith("c/wav/fr-dev")
    lines = []
    again = make_corpus("c", **tiny, progress=lines.append)
    assert not again.made and lines == ["c is up to date"]
    assert again.audio_sha256 == first.audio_sha256
    next(Path("c/wav").rglob("*.flac")).unlink()
    assert make_corpus("c", **tiny).audio_sha256 == first.audio_sha256
    os.rename("c", "d")  # wav.scp would name the old place
    assert make_corpus("d", **tiny).made
    other = make_corpus("d", **tiny, seed=2)
    assert other.made and other.audio_sha256 != first.audio_sha256


def test_train_sentences_are_said_again_by_others_when_they_run_out():
    grammar = Grammar("ar")
    n = sum(map(len, grammar.sentences().values()))
    plan = _plan(grammar, grammar.speakers, 1, n - 6, 1)
    held_out = {s.text for split in ("dev", "test") for *_, s in plan[split]}
    said = [(utt, spk, s.text) for utt, spk, _, s in islice(plan["train"], 35)]
    assert len({utt for utt, *_ in said}) == len({(spk, text) for _, spk, text in said}) == 35
    assert len({text for *_, text in said}) == 5
    assert not held_out & {text for *_, text in said}


def test_too_few_sentences_are_a_usage_error_and_leave_nothing(tmp_path):
    n = sum(map(len, Grammar("ar").sentences().values()))
    with pytest.raises(UsageError, match="too few"):
        make_corpus(tmp_path / "c", language="ar", dev_utts=n - 1, test_utts=1)
    assert not (tmp_path / "c").exists()


def test_foreign_folder_is_not_replaced(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a synthetic corpus"):
        make_corpus(tmp_path, **TINY)
    assert (tmp_path / "precious.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "wrong",
    [
        {"train_minutes": 0},
        {"train_minutes": math.inf},
        {"train_minutes": math.nan},
        {"dev_utts": 0},
        {"test_utts": -1},
        {"train_speakers": 0},
        {"seed": -1},
    ],
)
def test_sizes_out_of_range_are_usage_errors(tmp_path, wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        make_corpus(tmp_path / "c", **wrong)


def test_command_line_says_what_is_wrong(tmp_path, capsys):
    assert main([str(tmp_path / "c"), "--language", "eng"]) == 2
    assert "did you mean 'en'?" in capsys.readouterr().err


def test_times_are_rounded_to_samples_and_resampling_moves_nothing():
    assert on_grid([Segment("a", 0.10001, 0.2)], 100, 3000) == [("a", 1700 / 16000, 3000 / 16000)]
    pulse = np.zeros(22050)
    pulse[11025] = 1.0
    out = soxr.resample(pulse, 22050, RATE_HZ)
    assert len(out) == RATE_HZ and int(np.abs(out).argmax()) == 8000
