# SPDX-License-Identifier: Apache-2.0
"""Alignments in cuts: from where their times count.

A supervision's start counts from the beginning of the cut, and the times of its alignment from that
of the recording (lhotse says so since 1.17; before, both moved with the cut).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_ext.align.formats import jsonl
from espnet_ext.align.formats.ctm import ENDING, iter_ctm
from espnet_ext.align.formats.sources import made_in, open_alignment
from espnet_ext.align.formats.tiers import TIERS, Interval, Utterance, last_end_s
from espnet_ext.data.lhotse.cuts import BEYOND_S
from espnet_ext.data.lookup import in_order


def placed(
    utt: str, alignment: dict[str, Any], times: tuple[float, float], cut_s: float
) -> Utterance | None:
    """Return an utterance with its words and phones, whose times count from its beginning.

    Args:
        utt: Its name.
        alignment: Of the supervision.
        times: Where the utterance lies in the recording, in seconds.
        cut_s: Where its cut begins there.

    Returns:
        None where the times do not lie in the utterance, however they are counted.

    Raises:
        KeyError, TypeError, ValueError, IndexError: The alignment is not as lhotse writes it.
    """
    start_s, end_s = times
    row = {"id": utt, "recording_id": utt, "duration": end_s - start_s, "alignment": alignment}
    for origin_s in dict.fromkeys((start_s, start_s - cut_s)):
        u = jsonl.from_supervision({**row, "start": origin_s})
        rows = [i for tier in u.tiers.values() for i in tier]
        if all(i.start_s >= -BEYOND_S and i.end_s <= u.length_s + BEYOND_S for i in rows):
            tiers = {name: [_inside(i) for i in tier] for name, tier in u.tiers.items()}
            return replace(u, start_s=0.0, tiers=tiers)
    return None


def _inside(i: Interval) -> Interval:
    return i if i.start_s >= 0 else replace(i, start_s=0.0, end_s=max(0.0, i.end_s))


class InOrder:
    """Words and phones of CTM files in byte order of the utterances, asked for in that order.

    Args:
        files: By tier. Memory holds one utterance of each.
    """

    def __init__(self, files: Mapping[str, Path]):
        self._rows = {tier: iter_ctm(path) for tier, path in files.items()}
        self._next = {tier: next(rows, None) for tier, rows in self._rows.items()}

    def get(self, utt: str) -> Utterance | None:
        """Return the utterance; None if it has neither words nor phones."""
        tiers = {}
        for tier, rows in self._rows.items():
            found = self._next[tier]
            while found is not None and found[0].encode() < utt.encode():
                found = next(rows, None)
            self._next[tier] = found
            if found is not None and found[0] == utt:
                tiers[tier] = found[1]
        return Utterance(utt, last_end_s(tiers), tiers) if tiers else None


def open_aligned(path: Path, table: Path) -> "Mapping[str, Utterance] | InOrder":
    """Open an alignment whose utterances will be asked for in the order of a table.

    Where both are in byte order, as the aligner and data folders have it, nothing is held.

    Raises:
        DataError: It is missing or not usable.
        UsageError: Its form is not known.
    """
    path = made_in(path)
    files = {tier: path / f"{tier}{ENDING}" for tier in TIERS}
    there = {tier: file for tier, file in files.items() if file.is_file()}
    if there and all(in_order(file) for file in (table, *there.values())):
        return InOrder(there)
    return open_alignment(path).utterances


def to_alignment(u: Utterance, start_s: float) -> dict[str, Any]:
    """Return words and phones as the alignment of a supervision; ``start_s`` in its recording."""
    return jsonl.to_supervision(replace(u, start_s=start_s))["alignment"]
