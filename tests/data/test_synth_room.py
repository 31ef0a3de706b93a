# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.data.synth.room import (
    coloured_noise,
    convolve,
    record,
    room_response,
    utterance_rng,
)


def test_rng_depends_on_seed_and_utterance_only():
    draws = [utterance_rng(s, u).random() for s, u in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))]
    assert draws[0] == draws[1]
    assert len(set(draws)) == 3


def test_response_starts_with_the_direct_path_and_has_the_asked_energies():
    h = room_response(np.random.default_rng(0), 16000, 0.2, 10.0)
    assert h[0] == 1.0 and not h[1:64].any() and len(h) == 3200
    assert 10 * np.log10(1.0 / np.sum(h[1:] ** 2)) == pytest.approx(10.0)
    early, late = h[64:864], h[-800:]
    assert np.sum(early**2) > 100 * np.sum(late**2)


@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 400), k=st.integers(1, 500), seed=st.integers(0, 99))
def test_convolve_is_the_head_of_the_full_convolution(n, k, seed):
    rng = np.random.default_rng(seed)
    x, h = rng.standard_normal(n), rng.standard_normal(k)
    np.testing.assert_allclose(convolve(x, h), np.convolve(x, h)[:n], atol=1e-9)


def test_noise_has_power_one_and_falls_with_frequency():
    def low_over_high(slope):
        noise = coloured_noise(np.random.default_rng(1), 20000, slope)
        assert np.mean(noise**2) == pytest.approx(1.0)
        power = np.abs(np.fft.rfft(noise)) ** 2
        return power[1000:2000].sum() / power[8000:9000].sum()

    assert 0.8 < low_over_high(0.0) < 1.25
    assert low_over_high(6.0) > 10


def test_record_keeps_length_and_time_and_the_asked_ratio():
    speech = np.zeros(16000)
    speech[4000:8000] = np.random.default_rng(2).standard_normal(4000)
    dry = {"direct_to_reverb_db": (200.0, 200.0), "peak": (0.5, 0.5)}
    out = record(speech, 16000, np.random.default_rng(3), snr_db=(20.0, 20.0), **dry)
    assert len(out) == 16000 and np.abs(out).max() == pytest.approx(0.5)
    lags = np.fft.irfft(np.fft.rfft(out) * np.conj(np.fft.rfft(speech)))
    assert int(lags.argmax()) == 0
    noise = out[8000:]
    signal = out[4000:8000]
    share = np.sum(signal**2) - np.sum(noise**2) / 2
    assert 10 * np.log10(share / (2 * np.sum(noise**2))) == pytest.approx(20.0, abs=0.5)


def test_record_of_silence_is_finite():
    out = record(np.zeros(2000), 16000, np.random.default_rng(4))
    assert np.isfinite(out).all() and np.abs(out).max() < 1
