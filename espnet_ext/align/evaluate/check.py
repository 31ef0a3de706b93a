# SPDX-License-Identifier: Apache-2.0
"""The utterances that a person should listen to, by the confidence in their words.

    check.tsv        utterances with a word that was less probably spoken than not, worst first
    confidence.tsv   every utterance: the probability that all of its words were spoken

Confidences are those of :mod:`espnet_ext.align.confidence`; without any there are no such files.
"""

import math
from typing import Any

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.files import write_text

CHECK, ALL = "check.tsv", "confidence.tsv"
DOUBTFUL = 0.5
HEAD = "utt\tconfidence\twords\n"
SHOWN = 5


def doubtful(a: AlignmentDir) -> dict[str, list[Interval]] | None:
    """Return the doubtful words of each utterance that has such; None without confidences."""
    found, known = {}, False
    for utt in a.utts:
        scored = [w for w in a.words[utt] if w.score is not None]
        known = known or bool(scored)
        if words := sorted((w for w in scored if w.score < DOUBTFUL), key=lambda w: w.score):
            found[utt] = words
    return dict(sorted(found.items(), key=lambda kv: kv[1][0].score)) if known else None


def write_check(a: AlignmentDir) -> dict[str, Any] | None:
    """Write both; return counts and first rows of the list, None without confidences."""
    if (found := doubtful(a)) is None:
        for name in (CHECK, ALL):
            (a.path / name).unlink(missing_ok=True)
        return None
    rows = [
        f"{utt}\t{words[0].score:.4f}\t" + "; ".join(_told(w) for w in words) + "\n"
        for utt, words in found.items()
    ]
    write_text(a.path / CHECK, HEAD + "".join(rows))
    scores = {u: [w.score for w in a.words[u] if w.score is not None] for u in a.utts}
    lines = [f"{u}\t{math.prod(x):.4f}\n" for u, x in scores.items()]
    write_text(a.path / ALL, "utt\tconfidence\n" + "".join(lines))
    first = [[u, words[0].name, words[0].score] for u, words in list(found.items())[:SHOWN]]
    return {"utterances": len(found), "words": sum(map(len, found.values())), "first": first}


def _told(w: Interval) -> str:
    return f"{w.name} at {w.start_s:.2f} s ({w.score:.2f})"


def check_line(check: dict[str, Any]) -> str:
    """Return the line of the report's summary."""
    if not check["utterances"]:
        return "no word is doubtful"
    first = ", ".join(f"{utt} ({word} {score:.2f})" for utt, word, score in check["first"])
    more = ", ..." if check["utterances"] > SHOWN else ""
    return (
        f"utterances to check: {check['utterances']:,}, in which {check['words']:,} words were "
        f"probably not spoken: {first}{more} (list: {CHECK})"
    )
