# SPDX-License-Identifier: Apache-2.0
"""Where relative paths of the user are meant from: run.sh changes into its recipe's folder."""

import os
from pathlib import Path


def called_from() -> Path:
    """Return the folder that run.sh was called from; the current one without it."""
    return Path(os.environ.get("ESPNET_EXT_CALLED_FROM") or os.getcwd())


def absolute(path: str, folder: Path | None = None) -> Path:
    """Return a path of the user without ``~`` and ``..``; links stay.

    Args:
        path: As it was given.
        folder: That a relative one is meant from; None: :func:`called_from`.
    """
    start = called_from() if folder is None else folder
    return Path(os.path.abspath(start / os.path.expanduser(path)))
