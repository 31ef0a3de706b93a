# SPDX-License-Identifier: Apache-2.0
"""The few pieces of Markdown that a results page needs, safe for any text in a cell."""

import re
from collections.abc import Collection, Iterable, Sequence


def cell(value: object) -> str:
    """Return ``value`` as one table cell: one line, with ``|``, a backslash and ``<`` harmless."""
    text = " ".join(str(value).split())
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def table(
    header: Sequence[str], rows: Iterable[Sequence[object]], text: Collection[str]
) -> list[str]:
    """Return the lines of a table; columns named in ``text`` are set left, numbers right."""
    rule = [":---" if name in text else "---:" for name in header]
    lines = [header, rule, *([cell(v) for v in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def code(text: str) -> str:
    """Return ``text`` as a code span on one line, fenced by more backticks than it holds."""
    text = " ".join(text.split())
    runs = [len(run) for run in re.findall("`+", text)]
    fence = "`" * next(n for n in range(1, len(runs) + 2) if n not in runs)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"
