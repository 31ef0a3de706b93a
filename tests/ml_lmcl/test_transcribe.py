# SPDX-License-Identifier: Apache-2.0
"""ASR transcripts of a data directory: count in = count out, a killed run goes on, n-best."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.ml_lmcl import transcribe as module
from espnet_ext.ml_lmcl.transcribe import transcribe

RATE = 16000


class Stub:
    """Hears the loudness of an utterance, in tenths, as a number of words."""

    fs = RATE
    calls: ClassVar[list[list[int]]] = []
    fail_at = 0

    def __init__(self, config, model_file, beam, nbest, device):
        self.nbest = nbest

    def __call__(self, speech):
        Stub.calls.append([len(x) for x in speech])
        if len(Stub.calls) == Stub.fail_at:
            raise KeyboardInterrupt
        out = []
        for x in speech:
            count = round(10 * float(np.abs(x[len(x) // 4 : -len(x) // 4]).mean()))
            words = "  ".join(["Word"] * count)
            out.append([(words, -0.5), (f"{words} more", -2.5)][: self.nbest])
        return out


@pytest.fixture
def asr(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "load_recogniser", Stub)
    monkeypatch.setattr(Stub, "calls", [])
    monkeypatch.setattr(Stub, "fail_at", 0)
    for name in ("config.yaml", "m.pth"):
        (tmp_path / name).write_text(name)
    return tmp_path / "config.yaml", tmp_path / "m.pth"


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", 7)


def write_data(folder: Path, count: int) -> Path:
    folder.mkdir()
    rows = []
    for i in range(count):
        file = folder / f"{i}.wav"
        soundfile.write(file, np.full(RATE // 2 + 1000 * i, 0.1 * i), RATE)
        rows.append(f"u{i} {file}\n")
    (folder / "wav.scp").write_text("".join(rows))
    return folder


def words(count: int) -> str:
    return " ".join(["Word"] * count)


def test_count_in_is_count_out(asr, data, tmp_path):
    out = tmp_path / "new/text_asr"
    (data / "text").write_text("".join(f"u{i} {'word ' * i}\n" for i in range(7)))
    result = transcribe(data, *asr, out, part=3)
    # u0 is silent: an empty text, kept.
    assert read_table(out) == result.texts == {f"u{i}": words(i) for i in range(7)}
    assert result.wer == 0
    figures = json.loads((tmp_path / "new/text_asr.json").read_text())
    assert figures["utterances"] == 7 and figures["empty"] == 1 and figures["wer"] == 0
    assert figures["audio_s"] == pytest.approx(sum(0.5 + i / 16 for i in range(7)), abs=0.01)
    assert sorted(p.name for p in out.parent.iterdir()) == ["text_asr", "text_asr.json"]


def test_the_word_error_rate_is_of_the_utterances_recognised(asr, data, tmp_path):
    (data / "text").write_text("".join(f"u{i} {'word ' * 2}\n" for i in range(9)))
    errors = sum(abs(i - 2) for i in range(7))
    assert transcribe(data, *asr, tmp_path / "x").wer == pytest.approx(100 * errors / 14)
    (data / "text").write_text("u0 word\n")
    assert transcribe(data, *asr, tmp_path / "x").wer is None


def test_a_killed_run_goes_on(asr, data, tmp_path, monkeypatch):
    out = tmp_path / "text_asr"
    monkeypatch.setattr(Stub, "fail_at", 3)
    with pytest.raises(KeyboardInterrupt):
        transcribe(data, *asr, out, part=2)
    assert not out.exists() and len(Stub.calls) == 3  # two parts are done
    result = transcribe(data, *asr, out, part=3)  # parts may be of another size
    assert sum(map(len, Stub.calls[3:])) == 3
    assert result.texts == {f"u{i}": words(i) for i in range(7)}


@pytest.mark.parametrize("changed", ["model", "audio", "options"])
def test_other_work_starts_anew(asr, data, tmp_path, monkeypatch, changed):
    monkeypatch.setattr(Stub, "fail_at", 3)
    with pytest.raises(KeyboardInterrupt):
        transcribe(data, *asr, tmp_path / "x", part=2)
    if changed == "model":
        asr[1].write_text("trained further")
    elif changed == "audio":
        lines = (data / "wav.scp").read_text().splitlines(True)
        (data / "wav.scp").write_text("".join(lines[:-1]))
    beam = {"beam_size": 2} if changed == "options" else None
    result = transcribe(data, *asr, tmp_path / "x", beam, part=2)
    count = 6 if changed == "audio" else 7
    assert sum(map(len, Stub.calls[3:])) == count == len(result.texts)


def test_segments_and_another_rate(asr, tmp_path):
    rate, speech = 8000, np.concatenate([np.full(8000, 0.2), np.full(16000, 0.5)])
    (tmp_path / "d").mkdir()
    soundfile.write(tmp_path / "d/r.wav", speech, rate)
    (tmp_path / "d/wav.scp").write_text(f"r {tmp_path}/d/r.wav\n")
    (tmp_path / "d/segments").write_text("a r 0.0 1.0\nb r 1.0 3.0\n")
    result = transcribe(tmp_path / "d", *asr, tmp_path / "x")
    assert result.texts == {"a": words(2), "b": words(5)}
    assert (
        sorted(n for call in Stub.calls for n in call) == [RATE, 2 * RATE] and result.audio_s == 3
    )
    (tmp_path / "d/segments").write_text("a r 0.0 1.0\nb q 1.0 3.0\n")
    with pytest.raises(DataError, match="segments:2"):
        transcribe(tmp_path / "d", *asr, tmp_path / "x")


def test_nbest(asr, data, tmp_path):
    result = transcribe(data, *asr, tmp_path / "x", {"beam_size": 3}, nbest=2)
    assert result.nbest["u2"] == [("Word Word", -0.5), ("Word Word more", -2.5)]
    rows = [x.split("\t") for x in (tmp_path / "x.nbest.tsv").read_text().splitlines()]
    assert len(rows) == 14 and rows[1] == ["u0", "-2.5", "more"]


def test_misuse(asr, data, tmp_path):
    with pytest.raises(UsageError, match="greedy search"):
        transcribe(data, *asr, tmp_path / "x", nbest=2)
    with pytest.raises(UsageError, match="at least 1"):
        transcribe(data, *asr, tmp_path / "x", nj=0)
    with pytest.raises(DataError, match="no such file"):
        transcribe(data, asr[0], tmp_path / "none.pth", tmp_path / "x")
    (data / "3.wav").unlink()
    with pytest.raises(DataError, match="u3"):
        transcribe(data, *asr, tmp_path / "x")
    (data / "wav.scp").write_text("")
    with pytest.raises(DataError, match="empty"):
        transcribe(data, *asr, tmp_path / "x")


def test_a_model_of_espnet(tiny_argv, tiny_data, tmp_path, monkeypatch):
    """Greedy and beam search of a trained ESPnet model, from its files and packed."""
    from espnet_ext.espnet import train
    from espnet_ext.espnet.decode import decode
    from espnet_ext.espnet.pack import pack_asr

    monkeypatch.chdir(tmp_path)
    train.run("asr", [*tiny_argv, "--output_dir", "exp", "--max_epoch", "1"])
    files = Path("exp/config.yaml"), Path("exp/valid.acc.ave.pth")
    pack_asr(*files, [], Path("asr.zip"))
    data = tiny_data / "valid"
    wavs = read_table(data / "wav.scp")
    greedy = transcribe(data, *files, "greedy")
    assert greedy.texts == decode(*files, None, 60.0, "cpu", 120.0, list(wavs.items())).texts
    assert greedy.wer is not None
    # A length ratio, because a model of one epoch ends before its first letter.
    options = {"beam_size": 3, "ctc_weight": 0.5, "maxlenratio": -3, "minlenratio": 1.0}
    soundfile.write("short.wav", np.zeros(40), RATE)
    folder = Path("both")
    folder.mkdir()
    # Less than a window of the features: ESPnet itself fails with it, alone or in any batch.
    (folder / "wav.scp").write_text((data / "wav.scp").read_text() + "z short.wav\n")
    beam = transcribe(folder, "asr.zip", None, "beam", options, nbest=3)
    want = decode(*files, options, 60.0, "cpu", 120.0, list(wavs.items()))
    assert beam.texts == {**want.texts, "z": ""} and beam.too_short == ["z"]
    assert json.loads(Path("beam.json").read_text())["too_short"] == 1
    assert transcribe(folder, "asr.zip", None, "greedy").texts == {**greedy.texts, "z": ""}
    for utt in wavs:
        scores = [score for _, score in beam.nbest[utt]]
        assert len(scores) > 1 and scores == sorted(scores, reverse=True)
    with pytest.raises(UsageError, match="beem_size"):
        transcribe(data, *files, "beam", {"beem_size": 3})
