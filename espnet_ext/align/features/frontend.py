# SPDX-License-Identifier: Apache-2.0
"""Features as a pass sees them: deltas, or spliced frames under LDA+MLLT and speaker transforms."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from espnet_ext.align.features.features import add_deltas, splice
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.formats.arrays import load_arrays, save_arrays
from espnet_ext.files import file_version


class Frontend:
    """Reads an utterance's features.

    Args:
        store: Folder of MFCCs.
        deltas: Order and window of the derivatives.
        transform: npz with ``matrix`` (dim, D (2 s + 1)) and ``splice`` s; empty: deltas.
        fmllr: What :func:`save_speakers` wrote for a shard; empty: none.
    """

    def __init__(self, store: str, deltas: tuple[int, int], transform: str = "", fmllr: str = ""):
        self.store = open_store(store)
        self.order, self.window = deltas
        self.matrix = self.affine = None
        if transform:
            z = load_arrays(transform, ("matrix", "splice"))
            self.matrix = torch.from_numpy(z["matrix"].astype(np.float32))
            self.context = int(z["splice"])
        if fmllr:
            z = load_arrays(fmllr, ("speakers", "matrices"))
            matrices = torch.from_numpy(z["matrices"].astype(np.float32))
            self.affine = dict(zip(z["speakers"].tolist(), matrices, strict=True))

    def spliced(self, utt: str) -> torch.Tensor:
        """Return ``(T, D (2 s + 1))``, before the transform."""
        return splice(torch.as_tensor(self.store.read(utt)), self.context, self.context)

    def plain(self, utt: str) -> torch.Tensor:
        """Return ``(T, dim)`` without the speaker's transform."""
        if self.matrix is None:
            return add_deltas(torch.as_tensor(self.store.read(utt)), self.order, self.window)
        return self.spliced(utt) @ self.matrix.T

    def read(self, utt: str) -> torch.Tensor:
        """Return ``(T, dim)`` float32."""
        x = self.plain(utt)
        if self.affine is None:
            return x
        a = self.affine.get(self.store.speaker(utt))
        return x if a is None else x @ a[:, :-1].T + a[:, -1]


def open_store(store: str) -> FeatureStore:
    """Open features, once per process and version."""
    return _open(store, tuple(map(file_version, sorted(Path(store).iterdir()))))


@lru_cache(maxsize=4)
def _open(store: str, version: tuple) -> FeatureStore:
    return FeatureStore.open(Path(store))


def save_transform(path: Path, matrix: np.ndarray, splice: int) -> None:
    """Write an LDA+MLLT matrix."""
    save_arrays(path, {"matrix": matrix, "splice": np.array(splice)})


def save_speakers(path: Path, found: dict[str, np.ndarray]) -> None:
    """Write one ``(dim, dim + 1)`` matrix for each speaker, whatever the speakers are called."""
    matrices = np.stack(list(found.values())) if found else np.zeros((0, 0, 1))
    speakers = np.array(list(found), dtype=np.str_)
    save_arrays(path, {"speakers": speakers, "matrices": matrices})
