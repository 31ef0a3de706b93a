# SPDX-License-Identifier: Apache-2.0
"""A page with one table and one figure over several recipes, made from their run records.

A page says itself what it shows, between two comments that no reader sees::

    <!-- results: egs2/an4/weak_align1 egs2/an4/bl_just1; figure: docs/results.png -->
    <!-- end of results -->

Paths are relative to the page's folder.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import UsageError
from espnet_ext.files import write_text
from espnet_ext.scoring.summary import read_rows, summary_lines
from espnet_ext.scoring.summary_plot import draw_summary

BEGIN = re.compile(r"<!-- results: (?P<recipes>[^;>]+?)(?:; figure: (?P<figure>\S+))? -->\n")
END = "<!-- end of results -->"
_HOW = f"<!-- results: RECIPE ...; figure: FILE.png --> and {END}, each on a line of its own"


def write_page(path: Path | str) -> Path:
    """Write the results between the marks of a page again, and its figure.

    Raises:
        UsageError: The page is missing or has no marks.
        DataError: A recipe has no usable record.
        SetupError: The page wants a figure and matplotlib is not installed.
    """
    path = Path(path)
    recipes, figure, text, inside = _parse(path)
    rows = read_rows(path.parent, recipes)
    lines = summary_lines(rows, figure)
    if figure:
        draw_summary(rows, path.parent / figure, fingerprint(lines))
    write_text(path, text[: inside.start] + "\n".join(lines) + "\n" + text[inside.stop :])
    return path


def current(path: Path | str) -> tuple[str, str]:
    """Return what stands between the marks of a page, and what would be written there."""
    recipes, figure, text, inside = _parse(Path(path))
    lines = summary_lines(read_rows(Path(path).parent, recipes), figure)
    return text[inside], "\n".join(lines) + "\n"


def fingerprint(lines: Sequence[str]) -> str:
    """Return what a figure is stamped with, so that a test can tell whether it fits the table."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _parse(path: Path) -> tuple[list[str], str | None, str, slice]:
    """Return the recipes, the figure, the page's text, and where its results stand."""
    if not path.is_file():
        raise UsageError("there is no such page", path, "espnet-ext results --page README.md")
    text = path.read_text(encoding="utf-8")
    begin = BEGIN.search(text)
    end = text.find(END, begin.end()) if begin else -1
    if begin is None or end < 0:
        raise UsageError("the page does not say where its results go", path, _HOW)
    return begin["recipes"].split(), begin["figure"], text, slice(begin.end(), end)
