# SPDX-License-Identifier: Apache-2.0
"""Segmentations of a shard of utterances in one file."""

from pathlib import Path

import numpy as np

from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.files import atomic_path


def save(path: Path, segs: dict[str, Segmentation]) -> None:
    """Write segmentations atomically (npz, no pickle)."""
    empty = np.zeros((0,), np.int32)
    parts = list(segs.values())
    with atomic_path(path) as tmp, open(tmp, "wb") as f:
        np.savez(
            f,
            utts=np.array(list(segs), dtype=np.str_),
            counts=np.array([len(s.phones) for s in parts], np.int64),
            phones=np.concatenate([empty, *(s.phones for s in parts)]).astype(np.int16),
            words=np.concatenate([empty, *(s.words for s in parts)]).astype(np.int32),
            durations=np.concatenate(
                [np.zeros((0, 3), np.int32), *(s.durations for s in parts)]
            ).astype(np.int32),
            loglik=np.array([s.loglik for s in parts], np.float64),
        )


def load(path: Path) -> dict[str, Segmentation]:
    """Read what :func:`save` wrote, in its order."""
    with np.load(path, allow_pickle=False) as z:
        utts, counts, loglik = z["utts"], z["counts"], z["loglik"]
        phones, words, durations = z["phones"], z["words"], z["durations"]
    ends = np.cumsum(counts)
    return {
        str(utt): Segmentation(
            phones[e - n : e], words[e - n : e], durations[e - n : e], float(score)
        )
        for utt, n, e, score in zip(utts, counts, ends, loglik, strict=True)
    }
