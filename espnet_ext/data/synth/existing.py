# SPDX-License-Identifier: Apache-2.0
"""Whether a folder already holds the corpus that is asked for."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_ext.data.synth.espeak import Espeak
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError

RECORD = "corpus.json"
GENERATOR_VERSION = 1


def versions(espeak: Espeak) -> dict[str, object]:
    """Return the versions that decide the bytes of a corpus."""
    return {
        "generator": GENERATOR_VERSION,
        "espeak_ng": espeak.version,
        "libsndfile": soundfile.__libsndfile_version__,
        "numpy": np.__version__,
        "soxr": soxr.__version__,
    }


def existing(out_dir: Path, request: dict, sets: Iterable[str]) -> dict | None:
    """Return the counts of the corpus in ``out_dir`` if it was made by ``request``.

    Args:
        out_dir: Folder of the corpus; it need not exist.
        request: What corpus.json must hold, as JSON gives it back.
        sets: Folders whose audio must be there, below ``out_dir``.

    Raises:
        UsageError: ``out_dir`` holds something else.
    """
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return None
    try:
        found = json.loads((out_dir / RECORD).read_text(encoding="utf-8"))
        same, counts = found["request"] == request, found["counts"]
        audio = {Path(a) for s in sets for a in read_table(out_dir / s / "wav.scp").values()}
    except DataError:
        return None  # a table was lost: make it again
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(
            "the folder holds something that is not a synthetic corpus",
            out_dir,
            "name a new folder, or remove this one",
        ) from None
    moved = any(out_dir not in a.parents for a in audio)
    return counts if same and not moved and all(a.is_file() for a in audio) else None
