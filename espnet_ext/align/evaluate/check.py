# SPDX-License-Identifier: Apache-2.0
"""The utterances that a person should listen to, by the confidence in their words.

    check.tsv        utterances with a word that was less probably spoken than not, or with a place
                     where one is more probably missing than not, worst first
    confidence.tsv   every utterance: the probability that all of its words were spoken
    missing.tsv      these places: between which times and words, and how probable it is

Confidences are those of :mod:`espnet_ext.align.confidence` and of :mod:`espnet_ext.align.missing`;
without any there are no such files.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.files import write_text

CHECK, ALL, MISSING = "check.tsv", "confidence.tsv", "missing.tsv"
DOUBTFUL = 0.5
HEAD = "utt\tconfidence\twords\n"
MISSING_HEAD = "utt\tstart_s\tend_s\tprobability\tplace\n"
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


def write_missing(a: AlignmentDir, places: Mapping[str, np.ndarray]) -> None:
    """Write the places where a word is probably missing.

    Args:
        a: The alignment.
        places: ``(words + 1,)`` probabilities of each utterance, before each word and after the
            last; empty: not known.
    """
    if not places:
        return
    lines = []
    for utt in a.utts:
        words = a.words[utt]
        for place in np.flatnonzero(places[utt] > 1 - DOUBTFUL):
            before, after = words[place - 1] if place else None, words[place : place + 1]
            start_s = before.end_s if before else 0.0
            end_s = after[0].start_s if after else a.phones[utt][-1].end_s
            names = [w.name for w in (before, *after) if w]
            where = "between" if len(names) == 2 else "after" if before else "before"
            said = f"no word {where} {' and '.join(names)}"
            lines.append(f"{utt}\t{start_s:.3f}\t{end_s:.3f}\t{places[utt][place]:.4f}\t{said}\n")
    write_text(a.path / MISSING, MISSING_HEAD + "".join(lines))


def missing(a: AlignmentDir) -> dict[str, list[Interval]]:
    """Return the places of each utterance where a word is missing; their scores are how probable
    it is that none is."""  # fmt: skip
    found: dict[str, list[Interval]] = {}
    if (a.path / MISSING).is_file():
        for line in (a.path / MISSING).read_text(encoding="utf-8").splitlines()[1:]:
            utt, start_s, end_s, probability, said = line.split("\t")
            place = Interval(float(start_s), float(end_s), said, 1 - float(probability))
            found.setdefault(utt, []).append(place)
    return found


def write_check(a: AlignmentDir) -> dict[str, Any] | None:
    """Write both; return counts and first rows of the list, None without confidences."""
    if (words := doubtful(a)) is None:
        for name in (CHECK, ALL):
            (a.path / name).unlink(missing_ok=True)
        return None
    places = missing(a)
    found = {
        utt: sorted([*words.get(utt, []), *places.get(utt, [])], key=lambda i: i.score)
        for utt in {**words, **places}
    }
    found = dict(sorted(found.items(), key=lambda kv: kv[1][0].score))
    rows = [
        f"{utt}\t{items[0].score:.4f}\t" + "; ".join(told(i) for i in items) + "\n"
        for utt, items in found.items()
    ]
    write_text(a.path / CHECK, HEAD + "".join(rows))
    scores = {u: [w.score for w in a.words[u] if w.score is not None] for u in a.utts}
    lines = [f"{u}\t{math.prod(x):.4f}\n" for u, x in scores.items()]
    write_text(a.path / ALL, "utt\tconfidence\n" + "".join(lines))
    first = [[u, items[0].name, items[0].score] for u, items in list(found.items())[:SHOWN]]
    counts = {"words": sum(map(len, words.values())), "missing": sum(map(len, places.values()))}
    return {"utterances": len(found), **counts, "first": first}


def told(item: Interval) -> str:
    """Return a word or place with its time and confidence, for a person."""
    return f"{item.name} at {item.start_s:.2f} s ({item.score:.2f})"


def check_line(check: dict[str, Any]) -> str:
    """Return the line of the report's summary."""
    if not check["utterances"]:
        return "no word is doubtful"
    first = ", ".join(f"{utt} ({word} {score:.2f})" for utt, word, score in check["first"])
    more = ", ..." if check["utterances"] > SHOWN else ""
    return (
        f"utterances to check: {check['utterances']:,}, in which {check['words']:,} words were "
        f"probably not spoken and {check.get('missing', 0):,} are missing: {first}{more} "
        f"(list: {CHECK})"
    )
