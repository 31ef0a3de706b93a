# SPDX-License-Identifier: Apache-2.0
"""Audio that is made of another file notes in its header of which one, and of which version of it.

Times alone do not tell: a corrected manifest may name a file that is older than what was made of
another one under the same id.
"""

import os
from pathlib import Path

import numpy as np
import soundfile as sf

from espnet_ext.files import atomic_path, file_version, sha256_json


def origin_of(source: Path | str) -> str:
    """Return what tells a file, and this version of it, from all others."""
    return sha256_json([os.path.abspath(source), *file_version(source)])[:16]


def is_of(path: Path, origin: str) -> bool:
    """Whether audio is there and was made of this origin; what cannot be read was not."""
    try:
        with sf.SoundFile(path) as f:
            return f.comment == origin
    except (sf.LibsndfileError, OSError):
        return False


def write_of(
    path: Path, samples: np.ndarray, rate_hz: int, subtype: str, format: str, origin: str
) -> None:
    """Write audio ``(N,)`` or ``(N, C)`` atomically, with a note of its origin."""
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp, sf.SoundFile(
        tmp, "w", rate_hz, channels, subtype, format=format
    ) as f:  # fmt: skip
        f.comment = origin  # before the samples: it is of the header
        f.write(samples)
