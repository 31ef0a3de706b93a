# SPDX-License-Identifier: Apache-2.0
"""What audio must contain, whoever reads it: finite, not silent, not flat, channels in phase."""

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.data import audio, content
from espnet_ext.data.content import CANCEL, FLAT, NOT_FINITE, SILENT, Content, inspect
from espnet_ext.errors import DataError

RATE = 16000


def speech(seconds=0.5, seed=0):
    """Noise whose level changes, as in speech."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * RATE)
    level = 0.02 + 0.3 * np.abs(np.sin(np.arange(samples) * 7 / RATE))
    return (level * rng.uniform(-1, 1, samples)).astype(np.float32)


def spoilt(value=np.nan, at=100, count=10):
    wave = speech()
    wave[at : at + count] = value
    return wave


BAD = {
    "nan": (spoilt(), NOT_FINITE, "10 of 8000 samples are NaN or infinite, the first is 100"),
    "inf": (spoilt(-np.inf, 7999, 1), NOT_FINITE, "the first is 7999"),
    "zero": (np.zeros(800, np.float32), SILENT, "the peak is 0"),
    "constant": (np.full(800, 0.9, np.float32), SILENT, "the peak is 0"),
    "faint": (1e-4 * speech(), SILENT, "dB"),
    "flat": (np.clip(1000 * speech(), -1, 1), FLAT, "at the extremes"),
    "opposite": (np.stack([speech(), -speech()], 1), CANCEL, "average of 2 channels"),
    "almost opposite": (np.stack([speech(), -0.9 * speech()], 1), CANCEL, "almost silent"),
}


@pytest.mark.parametrize("name", BAD)
def test_each_fault_is_named_with_its_numbers(name):
    wave, reason, detail = BAD[name]
    fault = inspect(wave).fault()
    assert fault.reason == reason and detail in fault.detail and fault.how
    with pytest.raises(content.ContentError, match=reason) as e:
        content.require(wave, "utt1")
    assert e.value.where == "utt1" and e.value.fault == fault and e.value.exit_code == 3


GOOD = {
    "mono": speech(),
    "offset": 0.5 + 0.3 * speech(),
    "quiet": 0.001 * speech(),
    "clipped": np.clip(4 * speech(), -1, 1),
    "equal": np.stack([speech()] * 2, 1),
    "unrelated": np.stack([speech(seed=i) for i in range(8)], 1),
    "one of two": np.stack([speech(), 0 * speech()], 1),
    "half opposite": np.stack([speech(), -0.5 * speech()], 1),
}


@pytest.mark.parametrize("name", GOOD)
def test_usable_audio_has_no_fault(name):
    assert inspect(GOOD[name]).fault() is None
    content.require(GOOD[name], name)


def test_unequal_channels_and_clipping_are_told():
    assert [inspect(GOOD[n]).unequal for n in ("mono", "equal", "unrelated", "one of two")] == [
        False, False, True, True,
    ]  # fmt: skip
    left, right = inspect(GOOD["one of two"]).levels_db
    assert left > -12 and right == -200
    assert inspect(GOOD["clipped"]).clipped > content.CLIPPED_SHARE > inspect(speech()).clipped


@given(st.sampled_from([*BAD.values(), *((w, None, "") for w in GOOD.values())]), st.integers(1, 9))
def test_blocks_give_what_the_whole_gives(case, blocks):
    wave, reason, _ = case
    whole = inspect(wave)
    parts = Content(1 if wave.ndim == 1 else wave.shape[1])
    for block in np.array_split(wave, blocks):
        parts.add(block)
    fault = parts.fault()
    assert (fault and fault.reason) == reason == (whole.fault() and whole.fault().reason)
    assert parts.samples == whole.samples and parts.not_finite == whole.not_finite
    if reason != NOT_FINITE:
        assert parts.clipped == whole.clipped and parts.unequal == whole.unequal


def test_reading_refuses_what_no_model_can_use(tmp_path):
    for name in ("nan", "inf", "opposite"):
        sf.write(tmp_path / "a.wav", BAD[name][0], RATE, subtype="FLOAT")
        with pytest.raises(content.ContentError, match=BAD[name][1]) as e:
            audio.read(tmp_path / "a.wav")
        assert str(tmp_path / "a.wav") in str(e.value)
    # Silence is a matter of who reads: a recogniser may well be asked about it.
    sf.write(tmp_path / "a.wav", BAD["zero"][0], RATE)
    assert len(audio.read(tmp_path / "a.wav")[0]) == 800


def test_a_channel_can_be_chosen(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, BAD["opposite"][0], RATE, subtype="FLOAT")
    for channel, sign in ((0, 1), (1, -1)):
        assert np.array_equal(audio.read(path, channel=channel)[0], sign * speech())
    with pytest.raises(DataError, match="no channel 2: the audio has 2"):
        audio.read(path, channel=2)
    with audio.open_audio(path) as f:
        assert audio.check_frames(f, 0, f.frames, path).fault().reason == CANCEL
        assert audio.check_frames(f, 0, f.frames, path, channel=1).fault() is None


def test_audio_that_is_damaged_in_the_middle_is_found_by_its_file(tmp_path):
    path = tmp_path / "a.flac"
    sf.write(path, speech(4), RATE)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    assert audio.info(path).frames == 4 * RATE  # the header and the end are as they were
    with audio.open_audio(path) as f, pytest.raises(DataError, match=r"a\.flac"):
        audio.check_frames(f, 0, f.frames, path)
    with pytest.raises(DataError, match=r"a\.flac"):
        audio.read(path)
