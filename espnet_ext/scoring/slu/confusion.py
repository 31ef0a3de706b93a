# SPDX-License-Identifier: Apache-2.0
"""Picture of the concepts that were taken for others, missed or made up."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from espnet_ext.scoring.intent_plots import draw_confusions
from espnet_ext.scoring.slu.concepts import NONE

SHOWN = 40  # more rows cannot be read
OTHER = "(other)"


def plot_confusions(counts: Mapping[tuple[str, str], int], path: Path | str) -> Path:
    """Draw which concepts stand opposite which, as PNG.

    At most 40 concepts are shown, those with the most errors; pairs of two others are left out.

    Args:
        counts: See :func:`~.concepts.confusions`.
        path: File to write.

    Raises:
        DataError: There is no concept on either side.
        SetupError: matplotlib is not installed.
    """
    cells, classes = chosen(counts)
    right = sum(n for (r, h), n in counts.items() if r == h)
    total = sum(counts.values())
    title = f"{right:,} of {total:,} right ({100 * right / max(total, 1):.2f} %)"
    if OTHER in classes:
        title += f"; {len(classes) - 1 - (NONE in classes)} concepts with the most errors"
    return draw_confusions(
        cells, classes, path, title=title, axes=("Hypothesis", "Reference"), unit="concepts"
    )


def chosen(
    counts: Mapping[tuple[str, str], int], shown: int = SHOWN
) -> tuple[dict[tuple[str, str], int], list[str]]:
    """Return the cells of the picture and the names of its rows and columns, in order."""
    errors: Counter[str] = Counter()
    for (ref, hyp), n in counts.items():
        errors.update({name: 0 if ref == hyp else n for name in (ref, hyp) if name != NONE})
    by_errors = sorted(errors, key=lambda name: (-errors[name], name))
    named = set(by_errors[:shown]) | {NONE}
    cells: Counter[tuple[str, str]] = Counter()
    for (ref, hyp), n in counts.items():
        pair = tuple(name if name in named else OTHER for name in (ref, hyp))
        if pair not in ((OTHER, OTHER), (NONE, OTHER), (OTHER, NONE)):
            cells[pair] += n
    found = {name for pair in cells for name in pair}
    return dict(cells), [
        *sorted(found - {NONE, OTHER}),
        *(name for name in (OTHER, NONE) if name in found),
    ]
