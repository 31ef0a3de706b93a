# SPDX-License-Identifier: Apache-2.0
"""MFCC and log mel filter bank features as Kaldi computes them, deltas and splicing.

Frame t covers ``[h t, h (t + 1))``, h being the shift; its window of 25 ms lies around the centre,
and the audio is mirrored at both ends (Kaldi's ``--snip-edges=false``). N samples give
``(N + hop // 2) // hop`` frames, Kaldi's rule. The first cepstrum is C0, not the energy
(``--use-energy=false`` of the recipes' mfcc.conf). T frames, D dimensions.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torchaudio.compliance.kaldi as kaldi

from espnet_ext.errors import UsageError, nearest

WINDOW_S = 0.025
INT16 = 32768.0  # Kaldi's samples are 16-bit integers
BLOCK_FRAMES = 3000  # bounds the memory that a very long utterance takes
KINDS = {"mfcc": 23, "fbank": 40}  # mel filters unless told otherwise


@dataclass(frozen=True)
class FeatureOptions:
    """What to compute.

    Args:
        fs: Sampling rate in Hz, with which a shift is a whole number of samples.
        kind: ``mfcc`` or ``fbank``.
        num_ceps: Cepstra, C0 included (mfcc).
        num_mel: Mel filters; 0 is 23 for mfcc and 40 for fbank.
        low_hz: Lower edge of the lowest filter.
        high_hz: Upper edge of the highest filter; 0 is ``fs / 2``, below 0 counts from there.
        dither: Standard deviation of noise added, in 16-bit steps; above 0 features differ from
            run to run.
        cmvn_vars: Speakers' variances are made 1 as well as their means 0 when features are read.
        channel: Of the audio: ``mix``, a number from 0, or ``auto``: the mix, and one channel where
            the channels cancel each other.
        shift_ms: Time between frames.
    """

    fs: int = 16000
    kind: str = "mfcc"
    num_ceps: int = 13
    num_mel: int = 0
    low_hz: float = 20.0
    high_hz: float = 0.0
    dither: float = 0.0
    cmvn_vars: bool = False
    channel: str = "auto"
    shift_ms: int = 10

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(
                f"there is no kind of features '{self.kind}'", "kind", nearest(self.kind, KINDS)
            )
        if self.fs * self.shift_ms % 1000 or self.fs < 4000:
            raise UsageError(
                f"a shift of {self.shift_ms} ms is no whole number of samples at {self.fs} Hz",
                "fs",
                f"use a multiple of {1000 // self.shift_ms} from 4000 on, e.g. 16000",
            )
        top = self.high_hz if self.high_hz > 0 else self.fs / 2 + self.high_hz
        if not 0 <= self.low_hz < top <= self.fs / 2:
            raise UsageError(
                f"no mel filters fit between {self.low_hz:g} and {top:g} Hz at {self.fs} Hz",
                "low_hz, high_hz",
                "keep 0 <= low_hz < high_hz <= fs / 2",
            )
        if self.kind == "mfcc" and not 1 <= self.num_ceps <= self.mel:
            raise UsageError(
                f"num_ceps ({self.num_ceps}) must not exceed the mel filters ({self.mel})",
                "num_ceps",
                "use 1 to num_mel",
            )

    @property
    def mel(self) -> int:
        """Number of mel filters."""
        return self.num_mel or KINDS[self.kind]

    @property
    def dim(self) -> int:
        """D of the features, without deltas."""
        return self.num_ceps if self.kind == "mfcc" else self.mel

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return self.fs * self.shift_ms // 1000


def samples_to_frames(samples: int, hop: int) -> int:
    """Return the number of frames of ``samples``, one every ``hop``."""
    return (samples + hop // 2) // hop


def min_samples(fs: int) -> int:
    """Return the length of one window, the shortest audio that has features."""
    return int(fs * WINDOW_S)


def compute(wave: np.ndarray, options: FeatureOptions) -> np.ndarray:
    """Compute the features of an utterance.

    Args:
        wave: ``(N,)`` in [-1, 1], at least one window long.
        options: What to compute.

    Returns:
        ``(T, D)`` float32.

    Raises:
        UsageError: The audio is shorter than one window.
    """
    window, hop = min_samples(options.fs), options.hop
    if len(wave) < window:
        raise UsageError(
            f"{len(wave)} samples are less than one window of {window}", "wave", "skip it"
        )
    x = torch.as_tensor(np.asarray(wave, np.float32)) * INT16
    frames, pad = samples_to_frames(len(x), hop), window // 2 - hop // 2
    # Mirrored here, so that blocks are the same as the whole.
    x = torch.cat([x[:pad].flip(0), x, x[-window:].flip(0)])
    out = []
    for first in range(0, frames, BLOCK_FRAMES):
        count = min(BLOCK_FRAMES, frames - first)
        out.append(_block(x[first * hop : (first + count - 1) * hop + window], options))
    return torch.cat(out).numpy()


def _block(x: torch.Tensor, o: FeatureOptions) -> torch.Tensor:
    common = {
        "sample_frequency": float(o.fs),
        "frame_length": 1000 * WINDOW_S,
        "frame_shift": float(o.shift_ms),
        "num_mel_bins": o.mel,
        "low_freq": o.low_hz,
        "high_freq": o.high_hz,
        "dither": o.dither,
        "use_energy": False,
        "snip_edges": True,
    }
    if o.kind == "fbank":
        return kaldi.fbank(x[None], **common)
    return kaldi.mfcc(x[None], num_ceps=o.num_ceps, **common)


def add_deltas(x: torch.Tensor, order: int = 2, window: int = 2) -> torch.Tensor:
    """Append derivatives as Kaldi's add-deltas.

    The filter of an order is that of the first applied ``order`` times, over the features with
    the first and last frame repeated at the ends.

    Args:
        x: ``(T, D)``.
        order: Number of derivatives.
        window: Frames on each side of the first derivative.

    Returns:
        ``(T, D (order + 1))``.
    """
    x = torch.as_tensor(x)
    slope = np.arange(-window, window + 1, dtype=np.float64)
    slope /= (slope**2).sum()
    taps, out, reach = np.ones(1), [x], order * window
    at = torch.arange(-reach, len(x) + reach, device=x.device).clamp(0, len(x) - 1)
    padded = x[at]
    for _ in range(order):
        taps = np.convolve(taps, slope)
        side = len(taps) // 2
        delta = torch.zeros_like(x)
        for offset, tap in zip(range(-side, side + 1), taps, strict=True):
            if tap:
                start = reach + offset
                delta.add_(padded[start : start + len(x)], alpha=float(tap))
        out.append(delta)
    return torch.cat(out, dim=1)


def splice(x: torch.Tensor, left: int = 4, right: int = 4) -> torch.Tensor:
    """Put each frame beside its neighbours, earliest first; the end frames are repeated.

    Args:
        x: ``(T, D)``.
        left: Frames before.
        right: Frames after.

    Returns:
        ``(T, D (left + 1 + right))``.
    """
    x = torch.as_tensor(x)
    near = torch.arange(-left, right + 1, device=x.device)
    at = torch.arange(len(x), device=x.device)[:, None] + near
    return x[at.clamp(0, len(x) - 1)].reshape(len(x), -1)
