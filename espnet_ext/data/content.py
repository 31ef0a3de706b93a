# SPDX-License-Identifier: Apache-2.0
"""One check of what audio contains: finite, not silent, not clipped flat, channels not cancelling.

Doctor, format, the aligner and every reading of audio share it. Samples may come in blocks, so a
recording of hours needs no more memory than a short one. Levels are relative to full scale (1.0).
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from espnet_ext.errors import DataError

SILENT_PEAK = 1e-4  # -80 dB: three steps of 16 bit
CLIPPED_SHARE = 0.01  # of the samples at the extremes: audible, worth a warning
FLAT_SHARE = 0.5  # nothing but clipping is left
# What averaging leaves of the channels' power, times their number: 0 for opposite channels, 1 for
# unrelated ones, their number for equal ones.
CANCELLED = 0.1
UNEQUAL = 0.01  # share of the channels' power that averaging takes away

NOT_FINITE, CANCEL, SILENT, FLAT = "not finite", "channels cancel", "silent", "clipped flat"
BROKEN = (NOT_FINITE, CANCEL)  # no model can use it; the others are of no use for training
ALL = (NOT_FINITE, CANCEL, SILENT, FLAT)
HOW = {
    NOT_FINITE: "make the audio again from its source, or remove the utterance",
    CANCEL: "choose one channel (format.channel in recipe.yaml, --channel), counted from 0",
    SILENT: "remove the utterance, or correct its times or its file",
    FLAT: "record or convert it again at a lower level, or remove the utterance",
}


@dataclass(frozen=True)
class Fault:
    """Why audio cannot be used: one of :data:`ALL`, the numbers, and what can be done."""

    reason: str
    detail: str

    @property
    def how(self) -> str:
        """Tell how to fix it."""
        return HOW[self.reason]


class Content:
    """Figures of audio, collected block by block.

    Args:
        channels: Number of channels that are going to be averaged.
    """

    def __init__(self, channels: int = 1):
        self.samples = 0
        self.not_finite: tuple[int, int] | None = None  # first sample, how many
        self.high = np.full(channels, -np.inf)
        self.low = np.full(channels, np.inf)
        self._at_high = np.zeros(channels, dtype=np.int64)
        self._at_low = np.zeros(channels, dtype=np.int64)
        self._mean_high, self._mean_low = -np.inf, np.inf
        self._sums = np.zeros((2, channels + 1))  # of x and x^2; last: of the average

    def add(self, block: np.ndarray) -> None:
        """Add ``block`` ``(N, C)`` or ``(N,)`` float, the samples after those before."""
        block = block.reshape(len(block), -1)
        good = np.isfinite(block)
        if not good.all():
            bad = ~good.all(axis=1)
            first, count = self.not_finite or (self.samples + int(bad.argmax()), 0)
            self.not_finite = (first, count + int(bad.sum()))
        elif len(block):
            self._extremes(block)
            self._powers(block)
        self.samples += len(block)

    def _extremes(self, block: np.ndarray) -> None:
        high, low = block.max(axis=0), block.min(axis=0)
        self._at_high = np.where(high > self.high, 0, self._at_high)
        self._at_low = np.where(low < self.low, 0, self._at_low)
        self.high, self.low = np.maximum(self.high, high), np.minimum(self.low, low)
        self._at_high = self._at_high + (block == self.high).sum(axis=0)
        self._at_low = self._at_low + (block == self.low).sum(axis=0)

    def _powers(self, block: np.ndarray) -> None:
        if block.shape[1] == 1:
            return
        mean = block.mean(axis=1, dtype=np.float64)
        self._mean_high = max(self._mean_high, mean.max())
        self._mean_low = min(self._mean_low, mean.min())
        both = np.column_stack([block, mean])
        self._sums += [both.sum(axis=0), np.einsum("nc,nc->c", both, both)]

    @property
    def clipped(self) -> float:
        """Share of the samples at the highest or the lowest value, of the worst channel."""
        loud = self.high - self.low > 100 * SILENT_PEAK  # else few steps are normal
        shares = (self._at_high + self._at_low) / max(1, self.samples)
        return float(np.max(np.where(loud, shares, 0.0)))

    @property
    def levels_db(self) -> list[float]:
        """Peak of each channel in dB of full scale."""
        peaks = np.maximum((self.high - self.low) / 2, 1e-10)
        return [round(20 * float(np.log10(peak)), 1) for peak in peaks]

    @property
    def unequal(self) -> bool:
        """Whether the channels differ, so that their average is another signal than each."""
        channels, mean = self._variances()
        return bool(channels > 0 and 1 - mean / channels > UNEQUAL)

    def _variances(self) -> tuple[float, float]:
        """Return the average variance of the channels and the variance of their average."""
        mean, square = self._sums / max(1, self.samples)
        variances = np.maximum(square - mean**2, 0)
        return float(variances[:-1].mean()), float(variances[-1])

    def fault(self, among: Collection[str] = ALL) -> Fault | None:
        """Return the first fault among these; None where the audio can be used."""
        found = self._faults()
        return next((Fault(r, found[r]) for r in ALL if r in found and r in among), None)

    def require(self, where: object, among: Collection[str] = ALL) -> None:
        """Refuse audio with one of these faults.

        Raises:
            ContentError: What is wrong with it; ``where`` is its place.
        """
        if fault := self.fault(among):
            raise ContentError(fault, where)

    def _faults(self) -> dict[str, str]:
        if self.not_finite:
            first, count = self.not_finite
            what = f"{count} of {self.samples} samples are NaN or infinite, the first is {first}"
            return {NOT_FINITE: what}
        peak = max(float(np.max(self.high - self.low)) / 2, 0.0) if self.samples else 0.0
        if peak < SILENT_PEAK:
            level = f"{20 * np.log10(peak):.0f} dB" if peak else "0"
            return {SILENT: f"the peak is {level}"}
        out = {}
        if len(self.high) > 1 and self._cancel():
            out[CANCEL] = f"the average of {len(self.high)} channels is almost silent"
        if self.clipped >= FLAT_SHARE:
            out[FLAT] = f"{100 * self.clipped:.0f} % of the samples are at the extremes"
        return out

    def _cancel(self) -> bool:
        channels, mean = self._variances()
        silent = (self._mean_high - self._mean_low) / 2 < SILENT_PEAK
        return silent or mean * len(self.high) < CANCELLED * channels


def inspect(speech: np.ndarray) -> Content:
    """Return the figures of audio ``(N,)`` or ``(N, C)`` that is in memory."""
    content = Content(1 if speech.ndim == 1 else speech.shape[1])
    content.add(speech)
    return content


class ContentError(DataError):
    """Audio whose content cannot be used; ``fault`` tells why."""

    def __init__(self, fault: Fault, where: object):
        self.fault = fault
        super().__init__(f"{fault.reason}: {fault.detail}", where, fault.how)


def require(speech: np.ndarray, where: object, among: Collection[str] = ALL) -> None:
    """Refuse audio ``(N,)`` or ``(N, C)`` with one of these faults.

    Raises:
        ContentError: What is wrong with it; ``where`` is its place.
    """
    inspect(speech).require(where, among)


def channel_fault(channel: int | None, channels: int) -> str | None:
    """Return what is wrong with the choice of ``channel`` (from 0; None: the average)."""
    if channel is None or 0 <= channel < channels:
        return None
    return f"there is no channel {channel}: the audio has {channels}, counted from 0"
