# SPDX-License-Identifier: Apache-2.0
"""Gaussian statistics of triphone states, from which questions and the decision tree are made."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path
from espnet_ext.lang.phones import SILENCE_ID, STATES

PHONE_BITS = 15  # of a phone id inside an encoded key; three ids and a state fit into int64
BATCH_FRAMES = 1 << 14


@dataclass(frozen=True, eq=False)
class TriphoneStats:
    """Sufficient statistics per triphone state; M triphone states, D features.

    Rows made by :meth:`collect` and :meth:`merge` are distinct and sorted by key. Silence does
    not depend on its context: its key has left = right = 0.

    Args:
        keys: ``(M, 4)`` int32: left phone, phone, right phone, HMM state.
        occ: ``(M,)`` frames.
        sx: ``(M, D)`` sum of the features.
        sxx: ``(M, D)`` sum of their squares.
    """

    keys: np.ndarray
    occ: np.ndarray
    sx: np.ndarray
    sxx: np.ndarray

    def __post_init__(self) -> None:
        m = len(self.keys)
        if (
            self.keys.shape != (m, 4)
            or self.occ.shape != (m,)
            or self.sx.ndim != 2
            or len(self.sx) != m
            or self.sxx.shape != self.sx.shape
        ):
            raise DataError("the arrays of the triphone statistics do not fit together")

    @classmethod
    def collect(cls, pairs: Iterable[tuple[Segmentation, np.ndarray]]) -> "TriphoneStats":
        """Sum the features of every triphone state.

        Args:
            pairs: Alignment and features ``(T, D)`` of each utterance; read once, in batches.

        Returns:
            The statistics; of no utterance at all: M = D = 0, which :meth:`merge` accepts.

        Raises:
            DataError: Lengths differ, or features are not finite.
        """
        total, pending = [], []
        batch: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        frames = waiting = 0
        for segmentation, feats in pairs:
            if segmentation.frames != len(feats):
                raise DataError(
                    f"an alignment has {segmentation.frames} frames, its features {len(feats)}",
                    "triphone statistics", "align again with the features used here",
                )  # fmt: skip
            batch.append((_codes(segmentation), segmentation.durations.ravel(), feats))
            frames += len(feats)
            if frames >= BATCH_FRAMES:
                pending.append(_sum_batch(batch))
                waiting += len(pending[-1][0])
                batch, frames = [], 0
                # Sorting again only when the table would double keeps the cost per frame constant.
                if waiting > max(1 << 16, len(total[0][0]) if total else 0):
                    total, pending, waiting = [_sum_equal(total + pending)], [], 0
        if batch:
            pending.append(_sum_batch(batch))
        return cls._unpack(*_sum_equal(total + pending))

    def merge(self, *others: "TriphoneStats") -> "TriphoneStats":
        """Return the sum of these and other statistics (shards), rows sorted and distinct."""
        parts = [(_encode(x.keys), x.packed()) for x in (self, *others) if len(x.keys)]
        if len({values.shape[1] for _, values in parts}) > 1:
            raise DataError("triphone statistics of features of different sizes", "merge")
        return self._unpack(*_sum_equal(parts))

    def __add__(self, other: "TriphoneStats") -> "TriphoneStats":
        return self.merge(other)

    def packed(self) -> np.ndarray:
        """Return ``(M, 1 + 2 D)``: occ, sx, sxx side by side, so that one sum adds all three."""
        return np.concatenate([self.occ[:, None], self.sx, self.sxx], axis=1)

    def variance_floor(self, share: float) -> np.ndarray:
        """Return ``(D,)`` floors: ``share`` of the variance of all frames.

        Raises:
            DataError: There are no frames.
        """
        frames = float(self.occ.sum())
        if not frames:
            raise DataError(
                "there are no frames to build a decision tree from", "triphone statistics",
                "see skipped.tsv: every utterance was left out",
            )  # fmt: skip
        variance = self.sxx.sum(0) / frames - (self.sx.sum(0) / frames) ** 2
        return np.maximum(share * variance, 1e-10)

    def save(self, path: Path | str) -> None:
        """Write the statistics to an ``.npz`` file atomically."""
        with atomic_path(path, durable=False) as tmp, open(tmp, "wb") as f:
            np.savez(f, keys=self.keys, occ=self.occ, sx=self.sx, sxx=self.sxx)

    @classmethod
    def load(cls, path: Path | str) -> "TriphoneStats":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing, cut off or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as z:
                return cls(z["keys"], z["occ"], z["sx"], z["sxx"])
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            EOFError,
            DataError,
            zipfile.BadZipFile,
        ) as e:
            raise DataError(
                f"no triphone statistics can be read ({e})", path, "delete it and run again"
            ) from e

    @classmethod
    def _unpack(cls, codes: np.ndarray, packed: np.ndarray) -> "TriphoneStats":
        mask = (1 << PHONE_BITS) - 1
        phone, state = np.divmod(codes >> 2 * PHONE_BITS, STATES)
        parts = ((codes >> PHONE_BITS) & mask, phone, codes & mask, state)
        dim = packed.shape[1] // 2
        keys = np.stack(parts, 1).astype(np.int32)
        return cls(keys, packed[:, 0].copy(), packed[:, 1 : 1 + dim], packed[:, 1 + dim :])


def log_likelihood(packed: np.ndarray, floor: np.ndarray) -> np.ndarray:
    """Log-likelihood of data under its own maximum-likelihood diagonal Gaussian.

    With variances v, floored f = max(v, floor): ``-occ / 2 sum_d (log 2 pi f_d + v_d / f_d)``,
    which is the maximum over all Gaussians that respect the floor, so pooling never gains.

    Args:
        packed: ``(..., 1 + 2 D)``, see :meth:`TriphoneStats.packed`.
        floor: ``(D,)`` smallest variances.

    Returns:
        ``(...)`` natural logarithms; 0 where there are no frames.
    """
    dim = len(floor)
    occ = packed[..., 0]
    scale = 1.0 / np.where(occ > 0, occ, 1.0)[..., None]
    mean = packed[..., 1 : 1 + dim] * scale
    variance = np.maximum(packed[..., 1 + dim :] * scale - mean * mean, 0.0)
    floored = np.maximum(variance, floor)
    return -0.5 * occ * (np.log(2 * np.pi * floored) + variance / floored).sum(-1)


def sum_rows(index: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    """Return ``(count, C)``: row k is the sum of the rows of ``values`` ``(M, C)`` with index k."""
    order = np.argsort(index, kind="stable")
    found, starts = np.unique(index[order], return_index=True)
    out = np.zeros((count, values.shape[1]))
    if len(found):
        out[found] = np.add.reduceat(values[order], starts, axis=0)
    return out


def _encode(keys: np.ndarray) -> np.ndarray:
    left, phone, right, state = keys.astype(np.int64).T
    # Phone and state come first: sorted rows of one root of the tree lie together.
    return ((phone * STATES + state) << PHONE_BITS | left) << PHONE_BITS | right


def _codes(segmentation: Segmentation) -> np.ndarray:
    """Return ``(3 P,)`` encoded keys of the states of an utterance in time order."""
    phones = segmentation.phones.astype(np.int64)
    if len(phones) and not 0 <= phones.min() <= phones.max() < 1 << PHONE_BITS:
        raise DataError(f"phone ids must lie in [0, {1 << PHONE_BITS})", "triphone statistics")
    context = np.full(len(phones) + 2, SILENCE_ID, dtype=np.int64)
    context[1:-1] = phones
    speech = phones != SILENCE_ID
    keys = np.zeros((len(phones), STATES, 4), dtype=np.int64)
    keys[..., 0] = np.where(speech, context[:-2], SILENCE_ID)[:, None]
    keys[..., 1] = phones[:, None]
    keys[..., 2] = np.where(speech, context[2:], SILENCE_ID)[:, None]
    keys[..., 3] = np.arange(STATES)
    return _encode(keys.reshape(-1, 4))


def _sum_batch(
    batch: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
    durations = np.concatenate([d for _, d, _ in batch])
    feats = np.concatenate([f for _, _, f in batch])
    if not np.isfinite(feats).all():
        raise DataError(
            "features are not finite (NaN or infinity)", "triphone statistics",
            "compute the features again; look for broken audio files",
        )  # fmt: skip
    frame_codes = np.repeat(np.concatenate([c for c, _, _ in batch]), durations)
    order = np.argsort(frame_codes, kind="stable")
    found, starts, occ = np.unique(frame_codes[order], return_index=True, return_counts=True)
    x = feats[order].astype(np.float64)
    sums = [np.add.reduceat(values, starts, axis=0) for values in (x, x * x)]
    return found, np.concatenate([occ[:, None], *sums], axis=1)


def _sum_equal(parts: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Add the rows with equal codes; codes of the result are sorted and distinct."""
    if not parts:
        return np.zeros(0, dtype=np.int64), np.zeros((0, 1))
    codes, values = (np.concatenate(x) for x in zip(*parts, strict=True))
    found, index = np.unique(codes, return_inverse=True)
    return found, sum_rows(index, values, len(found))
