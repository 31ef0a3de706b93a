# SPDX-License-Identifier: Apache-2.0
"""Sets of utterances with a manual transcript, an ASR transcript and labels: write, count, degrade.

A set is a folder of three tables, ``utt value``: text_manual, text_asr (either may be empty for an
utterance) and label (one label per head, in the recipe's order of heads).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from espnet_ext.data.lines import utf8_lines
from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError
from espnet_ext.ml_lmcl.simulate.confusion import ConfusionModel
from espnet_ext.ml_lmcl.simulate.estimate import estimate
from espnet_ext.ml_lmcl.simulate.generate import make_degraded
from espnet_ext.text.normalize import normalize

RULES = {"none": "as is", "lower": "lower-cased", "words": "no punctuation"}


@dataclass(frozen=True)
class Pair:
    """An utterance. ``label`` is one word per head."""

    manual: str
    asr: str
    label: str


Pairs = dict[str, Pair]


def read_parallel(paths: list[Path]) -> Iterator[tuple[int, list[str]]]:
    """Yield ``(number from 1, one line of each file)``.

    Raises:
        DataError: The files differ in their numbers of lines, or one is missing or not UTF-8.
    """
    columns = [[line for _, line in utf8_lines(path, blank=True)] for path in paths]
    counts = [len(c) for c in columns]
    if len(set(counts)) > 1:
        first, last = counts.index(min(counts)), counts.index(max(counts))
        what = "the parallel files differ in their numbers of lines: " + ", ".join(
            f"{p.name} has {n}" for p, n in zip(paths, counts, strict=True)
        )
        where = f"{paths[last]}:{counts[first] + 1} has no counterpart in {paths[first]}"
        raise DataError(what, where, "get the files again, or find the line that is lost")
    for number, lines in enumerate(zip(*columns, strict=True), 1):
        yield number, list(lines)


def write_pairs(folder: Path, pairs: Pairs) -> None:
    """Write the three tables of a set.

    Raises:
        DataError: The set is empty.
    """
    if not pairs:
        raise DataError("the set would be empty", folder, "check that the copy is complete")
    write_table(folder / "text_manual", {u: p.manual for u, p in pairs.items()})
    write_table(folder / "text_asr", {u: p.asr for u, p in pairs.items()})
    write_table(folder / "label", {u: p.label for u, p in pairs.items()})


def error_rate(pairs: Iterable[Pair], rule: str = "none") -> float:
    """Return the word error rate in percent, after ``normalize`` by ``rule``; 0 without words."""
    from espnet_ext.scoring.edits import score_sets

    texts = [(normalize(p.manual, rule), normalize(p.asr, rule)) for p in pairs]
    if not any(manual for manual, _ in texts):
        return 0.0
    refs, hyps = ({str(i): t[k] for i, t in enumerate(texts)} for k in (0, 1))
    return score_sets(refs, hyps).rate


def counts_table(sets: dict[str, Pairs]) -> list[str]:
    """Return lines with the counts of every set: a table for people."""
    head = ["set", "sentences", "labels", *(f"WER {x}" for x in RULES.values())]
    rows = [[*head, "exact match", "empty manual", "empty ASR", "majority class"]]
    for name, pairs in sets.items():
        values = list(pairs.values())
        labels = Counter(p.label for p in values)
        label, most = max(labels.items(), key=lambda kv: (kv[1], kv[0]))
        exact = sum(p.manual == p.asr for p in values)
        rows.append([
            name, str(len(values)), str(len(labels)),
            *(f"{error_rate(values, rule):.1f} %" for rule in RULES),
            f"{100 * exact / len(values):.1f} %",
            str(sum(not p.manual for p in values)), str(sum(not p.asr for p in values)),
            f"{label} {100 * most / len(values):.1f} %",
        ])  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in rows]  # fmt: skip


def shared_texts(sets: dict[str, Pairs]) -> list[str]:
    """Return a line for every two sets: how many different manual texts occur in both."""
    texts = {name: {p.manual for p in pairs.values()} for name, pairs in sets.items()}
    return [
        f"{len(texts[a] & texts[b])} texts of {b} occur in {a} too"
        f" ({sum(p.manual in texts[a] for p in sets[b].values())} of {len(sets[b])} utterances)"
        for a, b in combinations(sets, 2)
    ]


def tell(sets: dict[str, Pairs]) -> None:
    """Print what is in the sets."""
    for line in (*counts_table(sets), *shared_texts(sets)):
        print(line)


def degraded(train: Pairs, test: Pairs, rates: list[float], seed: int = 1) -> dict[str, Pairs]:
    """Return copies of a test set whose ASR text is simulated, at other word error rates.

    Errors are drawn by a confusion model estimated from the training pairs. Both sides are
    reduced to lower-case words first, because ASR text has neither capitals nor punctuation, and
    the rates are those of such text.

    Args:
        train: Pairs of manual and ASR text to estimate from.
        test: The set to copy; manual text and labels stay.
        rates: Word error rates in percent.
        seed: Draws the errors.

    Returns:
        ``{"test_wer10": pairs, ...}``.
    """
    if not rates:
        return {}
    model = confusion_model(train)
    texts = make_degraded(model, {u: p.manual for u, p in test.items()}, list(rates), seed)
    return {
        f"test_wer{rate:g}": {u: replace(test[u], asr=asr) for u, asr in texts[rate].items()}
        for rate in rates
    }


def confusion_model(pairs: Pairs) -> ConfusionModel:
    """Estimate what the recogniser makes of words, from pairs without capitals and punctuation."""
    manual, asr = ({u: getattr(p, x) for u, p in pairs.items()} for x in ("manual", "asr"))
    return estimate(manual, asr, mode="words")
