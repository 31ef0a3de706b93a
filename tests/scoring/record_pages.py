# SPDX-License-Identifier: Apache-2.0
"""What the tests of run records and of their pages share."""

import copy
import re

PLANNED = "results: {planned: {system: new, against: base}}\n"


def changed(record, keys, value=None):
    """Return a copy in which the value at ``keys`` is replaced, or removed for ``None``."""
    record = copy.deepcopy(record)
    inner = record
    for key in keys[:-1]:
        inner = inner[key]
    if value is None:
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return record


def tables(text):
    """Return every table as a list of rows (dicts by header), in order."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("| "):
            rows.append([c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            found.append([dict(zip(rows[0], r, strict=True)) for r in rows[2:]])
            rows = []
    return found


def section(text, heading):
    """Return the tables below ``## heading``, or of the folded part of that summary."""
    start = next(s for s in (f"## {heading}\n", f"<summary>{heading}</summary>") if s in text)
    rest = text.split(start, 1)[1]
    return tables(re.split(r"\n## |</details>", rest)[0])


def comparisons(text):
    """Return the rows of the main table of comparisons."""
    return section(text, "Comparisons")[0]
