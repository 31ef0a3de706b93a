# SPDX-License-Identifier: Apache-2.0
"""RTTM: who talks when. Nine or ten fields a line, of which SPEAKER lines are read."""

import math
from pathlib import Path
from typing import NamedTuple

from espnet_ext.errors import DataError


class Turn(NamedTuple):
    """A speaker talks in ``[start_s, end_s)``."""

    start_s: float
    end_s: float
    speaker: str


def read_rttm(path: Path) -> dict[str, list[Turn]]:
    """Return ``{recording: turns}`` in the order of their start.

    Raises:
        DataError: Missing, empty, or a line that is not ``SPEAKER REC CHAN START LENGTH .. NAME``.
    """
    if not path.is_file():
        raise DataError("rttm is missing", path, "diarisation needs wav.scp and rttm")
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start_s, length_s = float(fields[3]), float(fields[4])
            name, recording = fields[7], fields[1]
        except (IndexError, ValueError):
            start_s = math.nan
        if not (math.isfinite(start_s) and start_s >= 0 and 0 <= length_s < math.inf):
            how = "SPEAKER recording 1 start length <NA> <NA> speaker <NA> <NA>, in seconds"
            raise DataError("not a line of RTTM", f"{path}:{number}", how)
        if length_s > 0:
            found.setdefault(recording, []).append(Turn(start_s, start_s + length_s, name))
    if not found:
        raise DataError("rttm has no SPEAKER line", path, "prepare the data again")
    return {rec: sorted(turns) for rec, turns in found.items()}
