# SPDX-License-Identifier: Apache-2.0
"""Times within recordings, cut into the utterances of a Kaldi ``segments`` file."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from espnet_ext.align.formats.tiers import Interval, Tier
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError


def read_segments(path: Path | str) -> dict[str, tuple[str, float, float]]:
    """Return ``{utterance: (recording, start in s, end in s)}``; an end of -1 is infinite.

    Raises:
        DataError: The file is missing or a line is not usable.
    """
    out = {}
    for utt, value in iter_table(path):
        try:
            recording, start, end = value.split()[:3]
            times = float(start), math.inf if float(end) == -1 else float(end)
        except ValueError:
            times = (math.nan, math.nan)
        if not 0 <= times[0] < times[1]:
            raise DataError(
                f"the line of '{utt}' is not 'utterance recording start end'", path,
                "times are in seconds, and the end comes after the start",
            )  # fmt: skip
        out[utt] = (recording, *times)
    return out


class Segmented(Mapping[str, list[Interval]]):
    """A tier by utterance from one by recording; lazy.

    An interval belongs to the utterance that its middle lies in, cut at the utterance's ends.

    Args:
        tier: Intervals by recording; its order of reading is that of ``segments``.
        segments: See :func:`read_segments`.
    """

    def __init__(self, tier: Tier, segments: Mapping[str, tuple[str, float, float]]):
        self.tier = tier
        self.segments = {u: s for u, s in segments.items() if s[0] in tier}
        self._held: tuple[str, list[Interval]] = ("", [])

    def __getitem__(self, utt: str) -> list[Interval]:
        recording, start, end = self.segments[utt]
        if self._held[0] != recording:  # the utterances of a recording follow one another
            self._held = recording, self.tier[recording]
        rows = [i for i in self._held[1] if start <= (i.start_s + i.end_s) / 2 < end]
        return [
            replace(i, start_s=max(0.0, i.start_s - start), end_s=min(i.end_s, end) - start)
            for i in rows
        ]

    def __iter__(self) -> Iterator[str]:
        return iter(self.segments)

    def __len__(self) -> int:
        return len(self.segments)

    def __contains__(self, utt: object) -> bool:
        return utt in self.segments


def by_utterance(tier: Tier, segments: Mapping[str, tuple[str, float, float]] | None) -> Tier:
    """Return the tier by utterance, cut by ``segments`` where its keys are recordings.

    A tier is taken as it is if it has utterances of ``segments`` already.
    """
    if not segments or any(utt in tier for utt in segments):
        return tier
    cut = Segmented(tier, segments)
    return cut if len(cut) else tier
