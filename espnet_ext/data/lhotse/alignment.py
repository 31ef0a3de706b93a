# SPDX-License-Identifier: Apache-2.0
"""Alignments in cuts: from where their times count.

A supervision's start counts from the beginning of the cut, and the times of its alignment from that
of the recording (lhotse says so since 1.17; before, both moved with the cut).
"""

from dataclasses import replace
from typing import Any

from espnet_ext.align.formats import jsonl
from espnet_ext.align.formats.tiers import Interval, Utterance
from espnet_ext.data.lhotse.cuts import BEYOND_S


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


def to_alignment(u: Utterance, start_s: float) -> dict[str, Any]:
    """Return words and phones as the alignment of a supervision; ``start_s`` in its recording."""
    return jsonl.to_supervision(replace(u, start_s=start_s))["alignment"]
