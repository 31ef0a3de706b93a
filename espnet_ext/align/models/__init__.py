# SPDX-License-Identifier: Apache-2.0
"""Aligners that come with the package, a folder each, and where a named aligner lies.

``local/en_us_aligner.py`` of the repository makes ``en_us``; its README.md says from what.
"""

from pathlib import Path

from espnet_ext.hub import found
from espnet_ext.packed import kept_unpacked

HERE = Path(__file__).parent
DEFAULT = "en_us"


def names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(p.parent.name for p in HERE.glob("*/model.json"))


def folder(model: Path | str) -> Path:
    """Return the folder of a model: a name of :func:`names`, OUT of ``align train``, or itself.

    An archive of it and a name on the Hugging Face hub are taken as well; a path of the user's goes
    before a name.

    Raises:
        DataError: The archive is not usable.
        SetupError: The hub does not have it.
    """
    path = Path(model)
    if not path.exists() and str(model) in names():
        return HERE / path
    path = found(path)
    if path.is_file():
        path = kept_unpacked(path)
        path = next((p.parent for p in sorted(path.rglob("model.json"))), path)
    inner = path / "model"
    return inner if inner.is_dir() else path


def told(folder: Path) -> str:
    """Return how a model is named where others read it, in labels and run records.

    A name of :func:`names`, or its path; of a path from the root only its end, which is the same on
    every machine.
    """
    if folder.parent == HERE:
        return folder.name
    return str(Path(*folder.parts[-2:]) if folder.is_absolute() else folder)
