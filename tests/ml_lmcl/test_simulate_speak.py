# SPDX-License-Identifier: Apache-2.0
"""Speaking and recognising: nothing is lost, batches are kept, audio is what it was asked to be."""

import numpy as np
import pytest
import soundfile

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.ml_lmcl.simulate.speak import Speaker, speak

TEXTS = {f"u{i}": "word " * (i % 7) for i in range(200)}


def tone(utt, text):
    """One sample a word: its value names the utterance."""
    n = len(text.split())
    return np.full(n * 100, float(utt[1:]), np.float32) if n else None


class Echo:
    """A recogniser that writes an utterance's words, or those of ``wrong``."""

    def __init__(self, wrong=()):
        self.wrong, self.batches = wrong, []

    def __call__(self, speech):
        self.batches.append([len(x) for x in speech])
        names = [int(x[0]) for x in speech]
        return ["x" if n in self.wrong else "WORD " * (n % 7) for n in names]


def test_every_utterance_gets_its_own_text():
    echo, done = Echo(), []
    found = speak(TEXTS, tone, echo, rate_hz=100, batch_s=20, progress=lambda *x: done.append(x))
    assert found.score.rate == 0.0
    assert found.texts.keys() == TEXTS.keys()
    assert found.silent == [u for u in TEXTS if not TEXTS[u]]
    assert sum(map(len, echo.batches)) + len(found.silent) == len(TEXTS)
    assert found.audio_s == sum(len(t.split()) for t in TEXTS.values())
    assert all(max(b) * len(b) <= 2000 for b in echo.batches) and max(map(len, echo.batches)) > 2
    assert done[-1] == (len(TEXTS) - len(found.silent), len(TEXTS))


def test_errors_are_measured():
    found = speak(TEXTS, tone, Echo(wrong={1, 2}), rate_hz=100)
    totals = found.score.totals()
    assert (totals["sub"], totals["del"], totals["ins"]) == (2, 1, 0)


def test_one_longer_than_a_batch_is_recognised_alone():
    echo = Echo()
    speak({"u5": TEXTS["u5"], "u6": TEXTS["u6"]}, tone, echo, rate_hz=100, batch_s=1)
    assert echo.batches == [[600], [500]]


def test_kept_audio(tmp_path):
    def quiet(utt, text):
        return None if not text else np.full(1600, 0.25, np.float32)

    few = {u: TEXTS[u] for u in ("u0", "u1", "u2")}
    speak(few, quiet, lambda xs: ["word"] * len(xs), keep_audio=tmp_path / "a")
    scp = read_table(tmp_path / "a/wav.scp")
    assert scp.keys() == {"u1", "u2"}
    samples, rate = soundfile.read(scp["u1"])
    assert rate == 16000 and samples == pytest.approx(np.full(1600, 0.25), abs=1e-4)
    with pytest.raises(UsageError, match="a/b"):
        speak({"a/b": "x"}, quiet, lambda xs: ["x"], keep_audio=tmp_path / "b")


def test_texts_without_a_word():
    with pytest.raises(DataError):
        speak({}, tone, Echo())


class TestSpeaker:
    @pytest.fixture(autouse=True)
    def needs_espeak(self):
        pytest.importorskip("espeakng_loader")

    def test_equal_seeds_speak_alike_and_utterances_differ(self):
        one = Speaker()("a", "turn on the light")
        assert one.dtype == np.float32 and 0 < np.abs(one).max() < 1
        assert 0.8 * 16000 < len(one) < 4 * 16000
        np.testing.assert_array_equal(one, Speaker()("a", "turn on the light"))
        for other in (
            Speaker(seed=2)("a", "turn on the light"),
            Speaker()("b", "turn on the light"),
        ):
            assert len(other) != len(one) or (other != one).any()

    def test_rate_and_silence(self):
        speaker = Speaker(rate_hz=8000)
        assert len(speaker("a", "turn on the light")) < 2.5 * 8000
        assert speaker("a", "") is None and speaker("a", " ") is None and speaker("a", "--") is None

    def test_noise(self):
        def pause_level(low, high):  # the first 100 ms hold no speech
            x = Speaker(snr_db=(low, high))("a", "turn on the light")
            return np.sqrt(np.mean(x[:1600] ** 2) / np.mean(x**2))

        assert pause_level(60, 60) < 0.01 < 0.3 < pause_level(0, 0)
        with pytest.raises(UsageError, match="signal-to-noise"):
            Speaker(snr_db=(10, 0))

    def test_no_such_voice(self):
        with pytest.raises(UsageError, match="no voice 'klingonese"):
            Speaker(voice="klingonese")("a", "x")
