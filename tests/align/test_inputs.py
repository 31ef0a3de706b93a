# SPDX-License-Identifier: Apache-2.0
"""Recordings with their transcripts beside them, one recording, arrays; channels and rates."""

import numpy as np
import pytest
import soundfile
import soxr

from espnet_ext.align.aligner import Aligner
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.inputs import data_folder, plain_words
from espnet_ext.cli import main
from espnet_ext.data.tables import read_table, write_set
from espnet_ext.errors import DataError

QUICK = ["--nj", "1", "--no-textgrid", "--set", "passes=[mono]", "--set", "mono.gaussians=150"]
QUICK += ["--set", "mono.iterations=2", "--set", "mono.realign=[1]"]


@pytest.fixture(scope="module")
def model(spoken, tmp_path_factory):
    """An aligner of the first utterances of the training set."""
    folder = tmp_path_factory.mktemp("model")
    tables = [read_table(spoken / "train" / name) for name in ("wav.scp", "text", "utt2spk")]
    few = {utt: tuple(t[utt] for t in tables) for utt in list(tables[0])[:16]}
    write_set(folder / "data", few)
    argv = ["train", folder / "data", folder / "out", "--lexicon", spoken / "lexicon.txt", *QUICK]
    assert main(["align", *map(str, argv)]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def utterance(spoken):
    """Samples at 16 kHz, and the words."""
    texts = read_table(spoken / "train/text")
    utt = next(iter(texts))
    wave, rate = soundfile.read(read_table(spoken / "train/wav.scp")[utt])
    assert rate == 16000
    return wave, texts[utt]


def edges(words):
    return np.asarray([t for w in words for t in (w.start_s, w.end_s)])


def test_a_folder_of_pairs(model, utterance, tmp_path, capsys):
    wave, text = utterance
    pairs = tmp_path / "my corpus"
    for speaker in ("anna", "ben b"):
        (pairs / speaker).mkdir(parents=True)
    cd = soxr.resample(wave, 16000, 44100)
    soundfile.write(pairs / "anna/anna_1.wav", wave, 16000)
    (pairs / "anna/anna_1.txt").write_text("something else")
    (pairs / "anna/anna_1.lab").write_text("\ufeff" + text.upper())  # .lab goes first
    soundfile.write(pairs / "anna/2.FLAC", np.stack([cd, -cd], 1), 44100)
    (pairs / "anna/2.txt").write_text(f"“{text.replace(' ', ', ', 1)}!” –\n")
    soundfile.write(pairs / "ben b/take 3.wav", wave, 16000)
    (pairs / "ben b/take 3.txt").write_bytes(text.encode() + b" \xff")
    soundfile.write(pairs / "4.wav", wave, 16000)
    (pairs / "README.txt").write_text("no transcript")
    argv = ["align", "apply", str(model), str(pairs), str(tmp_path / "out"), "--nj", "1"]
    assert main(argv) == 0
    said = capsys.readouterr().out
    for part in ("audio without .lab or .txt: 1", "text without audio: 1", "README.txt",
                 "not UTF-8: 1", "take 3.txt", "channels cancel", "44100 to 16000"):  # fmt: skip
        assert part in said
    out = str(tmp_path / "s.jsonl")
    assert main(["align", "export", str(tmp_path / "out"), out, "--format", "lhotse"]) == 0
    assert '"speaker": "anna"' in (tmp_path / "s.jsonl").read_text()
    assert "2 utterances have no alignment" in capsys.readouterr().out
    a = AlignmentDir(tmp_path / "out/alignment")
    assert a.utts == ["anna-2", "anna_1"]
    assert {u: r for u, (r, _) in a.skipped.items()} == {
        "4": "no transcript", "ben_b-take_3": "no transcript"
    }  # fmt: skip
    assert read_table(tmp_path / "out" / "work" / "data" / "utt2spk") == {
        "anna-2": "anna", "anna_1": "anna", "ben_b-take_3": "ben_b", "4": "4"
    }  # fmt: skip
    assert [w.name for w in a.words["anna-2"]] == text.split()
    # Of opposite channels one is taken; a rate of 44.1 kHz moves nothing by more than two frames.
    np.testing.assert_allclose(edges(a.words["anna-2"]), edges(a.words["anna_1"]), atol=0.021)


def test_one_recording_and_arrays_give_the_same(model, utterance, tmp_path, capsys):
    wave, text = utterance
    soundfile.write(tmp_path / "hello.wav", wave, 16000, subtype="FLOAT")
    job = ["align", "apply", str(model), str(tmp_path / "hello.wav"), str(tmp_path / "out")]
    assert main(job) == 3
    assert "hello.txt beside it, or give --text" in capsys.readouterr().err
    assert main([*job, "--text", text]) == 0
    (tmp_path / "hello.txt").write_text(text + "\n")
    assert main(job) == 0
    a = AlignmentDir(tmp_path / "out/alignment")
    u = Aligner.from_folder(model).align(wave, 16000, text + ".")
    assert u.words == a.words["hello"] and u.phones == a.phones["hello"]
    assert u.words[0].name == text.split()[0] and u.phones[0].name == "SIL"
    assert u.phones[-1].end_s == pytest.approx(len(wave) / 16000, abs=0.02)
    assert main([*job[:3], str(tmp_path), str(tmp_path / "out"), "--text", text]) == 2


def test_channels_of_arrays(model, utterance):
    wave, text = utterance
    mono = Aligner.from_folder(model).align(wave, 16000, text)
    noise = 0.01 * np.random.default_rng(0).standard_normal(len(wave))
    stereo = np.stack([noise, wave], 1)
    for channels, channel in ((np.stack([wave, -wave], 1), "auto"), (stereo, "1")):
        u = Aligner.from_folder(model, channel=channel).align(channels, 16000, text)
        np.testing.assert_allclose(edges(u.words), edges(mono.words), atol=0.011)
    as_int = (wave * 32767).astype(np.int16)
    found = Aligner.from_folder(model).align(as_int, 16000, text)
    np.testing.assert_allclose(edges(found.words), edges(mono.words), atol=0.021)
    for speech, options, said, what in (
        (np.stack([wave, -wave], 1), {"channel": "mix"}, text, "channels cancel"),
        (wave, {"channel": "2"}, text, "no such channel"),
        (0 * wave, {}, text, "silent"),
        (wave, {}, "", "empty transcript"),
        (wave, {"oov": "skip"}, "xylophone " + text, "no pronunciation"),
        (wave[:4000], {}, text, "needs"),
        (np.zeros((2, 16000)), {}, text, r"give \(samples"),
    ):
        with pytest.raises(DataError, match=what):
            Aligner.from_folder(model, **options).align(speech, 16000, said)


def test_plain_words():
    text = "  “Well—,” she said: don't (ever)\tgo…\n[noise] <unk> 'tis e\u0301 -- "
    assert plain_words(text) == "Well she said don't ever go [noise] <unk> 'tis é"


def test_two_recordings_of_one_name(tmp_path):
    for name in ("a/b-c.wav", "a-b/c.wav"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / name, np.zeros(100), 16000)
    with pytest.raises(DataError, match="two recordings are called 'a-b-c'"):
        data_folder(tmp_path, tmp_path / "work", print)
