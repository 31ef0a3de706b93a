# SPDX-License-Identifier: Apache-2.0
"""Features against the formula written out, and their invariants."""

import numpy as np
import pytest
import torch

from espnet_ext.align.features import features
from espnet_ext.align.features.features import (
    FeatureOptions,
    add_deltas,
    compute,
    min_samples,
    samples_to_frames,
    splice,
)
from espnet_ext.errors import UsageError


def noise(n, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


def reference(wave, o):
    """Frame by frame in float64: mirror, remove DC, emphasise, window, mel, log, DCT, lifter."""
    hop, window, size = o.fs // 100, o.fs // 40, 512 if o.fs == 16000 else 256
    mirrored = np.concatenate([wave[::-1], wave, wave[::-1]]).astype(np.float64) * 32768

    def mel(hz):
        return 1127 * np.log(1 + hz / 700)

    edges = np.linspace(mel(o.low_hz), mel(o.high_hz or o.fs / 2), o.mel + 2)
    rows = []
    for t in range((len(wave) + hop // 2) // hop):
        start = len(wave) + t * hop + hop // 2 - window // 2
        x = mirrored[start : start + window]
        x = x - x.mean()
        x = x - 0.97 * np.concatenate([x[:1], x[:-1]])
        x *= (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / (window - 1))) ** 0.85
        power = np.abs(np.fft.rfft(x, size)) ** 2
        bins = mel(np.arange(size // 2) * o.fs / size)
        bands = []
        for left, centre, right in zip(edges, edges[1:], edges[2:], strict=False):
            up, down = (bins - left) / (centre - left), (right - bins) / (right - centre)
            bands.append(power[: size // 2] @ np.clip(np.minimum(up, down), 0, None))
        logs = np.log(bands)
        if o.kind == "mfcc":
            k, n = np.arange(o.num_ceps)[:, None], np.arange(o.mel)
            dct = np.sqrt(2 / o.mel) * np.cos(np.pi * k * (n + 0.5) / o.mel)
            dct[0] = np.sqrt(1 / o.mel)
            logs = (dct @ logs) * (1 + 11 * np.sin(np.pi * np.arange(o.num_ceps) / 22))
        rows.append(logs)
    return np.array(rows)


@pytest.mark.parametrize("fs", [8000, 16000])
@pytest.mark.parametrize("kind", ["mfcc", "fbank"])
def test_formula(kind, fs):
    o, wave = FeatureOptions(fs=fs, kind=kind, high_hz=3700 if fs == 16000 else 0), noise(fs // 4)
    got = compute(wave, o)
    assert got.shape == (25, o.dim) and got.dtype == np.float32
    np.testing.assert_allclose(got, reference(wave, o), atol=2e-3)


@pytest.mark.parametrize("fs", [8000, 16000, 44100])
def test_frame_count(fs):
    hop = fs // 100
    for n in (min_samples(fs), 5 * hop - hop // 2 - 1, 5 * hop - hop // 2, 5 * hop, 6 * hop - 1):
        assert len(compute(noise(n), FeatureOptions(fs=fs))) == samples_to_frames(n, hop)
    assert samples_to_frames(5 * hop - hop // 2, hop) == 5  # half a shift more is one more frame
    with pytest.raises(UsageError):
        compute(noise(min_samples(fs) - 1), FeatureOptions(fs=fs))


def test_blocks_and_shifts(monkeypatch):
    wave, o = noise(16000), FeatureOptions()
    whole = compute(wave, o)
    np.testing.assert_allclose(compute(wave[160:], o)[2:-2], whole[3:-2], atol=1e-4)
    monkeypatch.setattr(features, "BLOCK_FRAMES", 7)
    np.testing.assert_allclose(compute(wave, o), whole, atol=1e-4)


@pytest.mark.parametrize("frames", [1, 3, 20])
def test_deltas_against_loops(frames):
    x = np.random.default_rng(1).standard_normal((frames, 3))

    def at(t):
        return x[min(max(t, 0), frames - 1)]

    first, second = np.zeros_like(x), np.zeros_like(x)
    for t in range(frames):
        for i in range(-2, 3):
            first[t] += i / 10 * at(t + i)
            for j in range(-2, 3):
                second[t] += i / 10 * j / 10 * at(t + i + j)
    got = add_deltas(torch.from_numpy(x))
    np.testing.assert_allclose(got, np.hstack([x, first, second]), atol=1e-12)


def test_splice():
    x = torch.arange(8.0).reshape(4, 2)
    got = splice(x, 1, 2)
    assert got[0].tolist() == [0, 1, 0, 1, 2, 3, 4, 5]
    assert got[3].tolist() == [4, 5, 6, 7, 6, 7, 6, 7]


@pytest.mark.parametrize(
    "bad",
    [{"fs": 11025}, {"kind": "mfc"}, {"num_ceps": 24}, {"low_hz": 8000.0}, {"high_hz": 9000.0}],
)
def test_misuse(bad):
    with pytest.raises(UsageError):
        FeatureOptions(**bad)
