# SPDX-License-Identifier: Apache-2.0
"""Aligners that come with the package, a folder each, and where a named aligner lies.

``local/en_us_aligner.py`` of the repository makes ``en_us``; its README.md says from what.
"""

from pathlib import Path

HERE = Path(__file__).parent
DEFAULT = "en_us"


def names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(p.parent.name for p in HERE.glob("*/model.json"))


def folder(model: Path | str) -> Path:
    """Return the folder of a model: a name of :func:`names`, OUT of ``align train``, or itself.

    A folder of the user's goes before a name.
    """
    path = Path(model)
    if not path.exists() and str(model) in names():
        return HERE / path
    inner = path / "model"
    return inner if inner.is_dir() else path
