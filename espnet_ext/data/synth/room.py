# SPDX-License-Identifier: Apache-2.0
"""Mild reverberation and noise that move nothing in time (the direct path has delay 0)."""

import hashlib

import numpy as np


def utterance_rng(seed: int, utt_id: str) -> np.random.Generator:
    """Return a generator that depends on ``seed`` and ``utt_id`` only, not on any order."""
    digest = hashlib.sha256(f"{seed} {utt_id}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def room_response(
    rng: np.random.Generator, rate_hz: int, rt60_s: float, direct_to_reverb_db: float
) -> np.ndarray:
    """Return an impulse response: a unit direct path at 0, then decaying noise from 4 ms on.

    Args:
        rng: Source of the noise.
        rate_hz: Sampling rate.
        rt60_s: Time in which the reverberation falls by 60 dB.
        direct_to_reverb_db: Energy of the direct path over that of the rest.

    Returns:
        (K,) float64, K = ``rt60_s * rate_hz``.
    """
    n = max(1, round(rt60_s * rate_hz))
    time_s = np.arange(n) / rate_hz
    tail = rng.standard_normal(n) * 10.0 ** (-3.0 * time_s / rt60_s)
    tail[time_s < 0.004] = 0.0
    energy = float(tail @ tail)
    if energy > 0.0:
        tail *= np.sqrt(10.0 ** (-direct_to_reverb_db / 10.0) / energy)
    tail[0] = 1.0
    return tail


def convolve(speech: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Return the first N samples of the convolution of ``speech`` (N,) and ``response`` (K,)."""
    n = len(speech) + len(response) - 1
    size = 1 << max(0, n - 1).bit_length()
    spectrum = np.fft.rfft(speech, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(speech)]


def coloured_noise(rng: np.random.Generator, n: int, slope_db_per_octave: float) -> np.ndarray:
    """Return (n,) noise of mean square 1 whose spectrum falls by the given slope (0: white)."""
    size = 1 << max(1, n - 1).bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(size))
    bins = np.maximum(np.arange(len(spectrum)), size // 256 + 1)  # flat below the lowest speech
    spectrum *= bins ** (-slope_db_per_octave / (20.0 * np.log10(2.0)))
    noise = np.fft.irfft(spectrum, size)[:n]
    return noise / np.sqrt(np.mean(noise**2))


def record(
    speech: np.ndarray,
    rate_hz: int,
    rng: np.random.Generator,
    *,
    snr_db: tuple[float, float] = (20.0, 35.0),
    rt60_s: tuple[float, float] = (0.1, 0.3),
    direct_to_reverb_db: tuple[float, float] = (8.0, 16.0),
    peak: tuple[float, float] = (0.3, 0.8),
) -> np.ndarray:
    """Return ``speech`` as a microphone in a quiet room would have it.

    Args:
        speech: (N,) clean speech, any scale.
        rate_hz: Sampling rate.
        rng: Draws the room, the noise and the level.
        snr_db: Range of the signal-to-noise ratio, over the whole signal.
        rt60_s: Range of the reverberation time.
        direct_to_reverb_db: Range of the direct-to-reverberant ratio.
        peak: Range of the largest absolute value of the result.

    Returns:
        (N,) float64 in (-1, 1), as long as ``speech`` and not shifted.
    """
    response = room_response(rng, rate_hz, rng.uniform(*rt60_s), rng.uniform(*direct_to_reverb_db))
    wet = convolve(np.asarray(speech, np.float64), response)
    noise = coloured_noise(rng, len(wet), rng.uniform(0.0, 3.0))
    noise_power = np.mean(wet**2) * 10.0 ** (-rng.uniform(*snr_db) / 10.0)
    mixed = wet + np.sqrt(noise_power) * noise
    return mixed * (rng.uniform(*peak) / max(float(np.abs(mixed).max()), 1e-9))
