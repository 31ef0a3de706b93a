# SPDX-License-Identifier: Apache-2.0
"""Named arrays in npz files without pickle: models, statistics and transforms of the aligner."""

from pathlib import Path

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path


def save_arrays(path: Path | str, arrays: dict[str, np.ndarray], durable: bool = True) -> None:
    """Write named arrays as an npz file, atomically; ``durable`` as in ``atomic_path``."""
    with atomic_path(path, durable) as tmp, open(tmp, "wb") as f:
        np.savez(f, **arrays)


def load_arrays(path: Path | str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read the named arrays of an npz file.

    Raises:
        DataError: The file is missing, damaged or lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in names}
    except FileNotFoundError:
        raise DataError("the model file is missing", path, "run the stage that makes it") from None
    except Exception as e:  # a damaged zip fails in many ways: OSError, zlib.error, BadZipFile, ...
        raise DataError(
            f"the model file cannot be read ({type(e).__name__}: {e})", path,
            "delete it and run the stage that makes it again",
        ) from e  # fmt: skip
