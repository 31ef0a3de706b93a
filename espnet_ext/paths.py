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


def clone_around(folder: Path) -> Path | None:
    """Return the root of the clone that a folder is in; None outside of one."""
    marks = ("egs2", "utils/recipe.sh")
    roots = (root for root in (folder, *folder.parents) if all((root / x).exists() for x in marks))
    return next(roots, None)


def shipped_tree() -> Path | None:
    """Return the folder that has ``egs2/TEMPLATE`` and ``local`` beside it.

    It is the clone that this package lies in, or what setup.py puts into an installed one.
    """
    package = Path(__file__).resolve().parent
    trees = (package.parent, package / "shipped")
    return next((root for root in trees if (root / "egs2/TEMPLATE").is_dir()), None)
