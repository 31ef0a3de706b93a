# SPDX-License-Identifier: Apache-2.0
"""Templates of the files: ``@NAME@`` is a value, ``#@if FLAG`` to ``#@end`` a part for one kind."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from espnet_ext.errors import EspnetExtError

FOLDER = Path(__file__).parent / "templates"
NAME = re.compile(r"@([A-Z][A-Z_]*)@")


def template(name: str, values: Mapping[str, str], flags: Collection[str] = ()) -> str:
    """Return a filled template.

    Args:
        name: Path below ``templates``, without ``.in``.
        values: By name.
        flags: Parts to keep.

    Raises:
        EspnetExtError: A value is missing.
    """
    text = (FOLDER / f"{name}.in").read_text(encoding="utf-8")
    kept, inside = [], True
    for line in text.splitlines(keepends=True):
        if line.startswith("#@if "):
            inside = line.split()[1] in flags
        elif line.startswith("#@end"):
            inside = True
        elif inside:
            kept.append(line)

    def value(match: re.Match) -> str:
        if match[1] not in values:
            raise EspnetExtError(f"the template has no value for {match[0]}", name)
        return values[match[1]]

    return NAME.sub(value, "".join(kept))
