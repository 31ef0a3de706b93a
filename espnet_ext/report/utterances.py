# SPDX-License-Identifier: Apache-2.0
"""The utterances that went worst: reference, what each system made of it, errors of every seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_ext.data.transcripts import read_texts
from espnet_ext.errors import DataError
from espnet_ext.report.experiments import Experiment
from espnet_ext.scoring.edits import aligned_units, confusions, mark
from espnet_ext.scoring.metrics import Metric, percent
from espnet_ext.scoring.paired import ids_sha256
from espnet_ext.scoring.record import Decoded
from espnet_ext.scoring.scored import Field, System, reference_of

CONFUSIONS = 15
BY_CHARACTER = ("cer", "cer_plain")


@dataclass(frozen=True)
class Word:
    """A unit of a hypothesis beside the reference's: ``kind`` is S, D, I, or empty for equal."""

    ref: str
    hyp: str
    kind: str


@dataclass(frozen=True)
class Hypothesis:
    """What a run made of an utterance.

    Attributes:
        system: Place of its system, for the colour.
        run: Name of the run.
        words: The aligned units.
        score: What the metric says of the utterance, for a reader.
        errors: What utterances are ranked by; the greater, the worse.
    """

    system: int
    run: str
    words: list[Word]
    score: str
    errors: float


@dataclass(frozen=True)
class Utterance:
    """An utterance: first runs of each system in ``shown``, the other seeds in ``others``."""

    name: str
    reference: str
    shown: list[Hypothesis]
    others: list[Hypothesis]
    more: list[tuple[str, str]] = field(default_factory=list)  # further transcripts: title, text

    @property
    def errors(self) -> float:
        """Errors of all runs together."""
        return sum(h.errors for h in (*self.shown, *self.others))

    @property
    def spread(self) -> float:
        """By how much the systems differ."""
        found = [h.errors for h in self.shown]
        return max(found) - min(found) if found else 0.0


@dataclass(frozen=True)
class Run:
    """A run whose hypotheses of a set are on disk.

    Attributes:
        experiment: Where it lies.
        system: Its system.
        refs: References by utterance.
        hyps: Hypotheses by utterance.
        counts: Of the metric, ``(U, K)``, in byte order of the utterances.
    """

    experiment: Experiment
    system: System
    refs: Mapping[str, str]
    hyps: Mapping[str, str]
    counts: np.ndarray


def runs_of(
    experiments: Sequence[Experiment], fld: Field, systems: Sequence[System]
) -> tuple[list[Run], list[tuple[str, str]]]:
    """Return the runs of a field whose texts can be shown, and why others cannot, by name.

    All have one reference, that of the first system.
    """
    found: list[Run] = []
    missing: list[tuple[str, str]] = []
    reference = ""
    for system in systems:
        names = {r.name for r in fld.systems[system]}
        for e in (e for e in experiments if e.record and e.record.name in names):
            decoded = e.record.sets[fld.set_name][system.method]
            reference = reference or reference_of(decoded)
            if reference_of(decoded) != reference:
                missing.append((e.name, "scored against another reference"))
                continue
            try:
                found.append(_run(e, fld, system, decoded))
            except DataError as error:
                where = f" ({error.where})" if error.where else ""
                missing.append((e.name, f"{error.what}{where}"))
    return found, missing


def _run(e: Experiment, fld: Field, system: System, decoded: Decoded) -> Run:
    metric = fld.metric
    if e.folder is None:
        raise DataError("only the run record is left, without the decoded text")
    folder = e.folder / "decode" / system.method / fld.set_name
    hyps = read_texts(folder / metric.hyp_file)
    refs = read_texts(metric.references(e.recipe / "data" / fld.set_name))
    utts = sorted(hyps, key=str.encode)
    if ids_sha256(utts) != decoded.ids_sha256 or refs.keys() != hyps.keys():
        raise DataError("the texts are not those that were scored", folder)
    counts = decoded.counts(metric)
    rows = np.asarray(metric.score([refs[u] for u in utts], [hyps[u] for u in utts]))
    if not np.array_equal(rows[:, : counts.shape[1]], counts):
        raise DataError("the texts have changed since they were scored", folder)
    return Run(e, system, refs, hyps, counts)


def badness(metric: Metric, counts: np.ndarray) -> np.ndarray:
    """Return ``(U,)`` what to rank utterances by, the greater the worse.

    Errors where the metric is a rate of them; else how far the utterance's own score is from the
    best one.
    """
    if metric.better == "lower":
        return counts[:, 0].astype(np.float64)
    values = np.nan_to_num(metric.value(counts), nan=100.0)
    return 100.0 - values


def worst(
    runs: Sequence[Run], metric: Metric, count: int, systems: Mapping[str, int]
) -> list[Utterance]:
    """Return the utterances in which all runs together went worst; right ones are left out."""
    if not runs:
        return []
    utts = sorted(runs[0].hyps, key=str.encode)
    by_run = [badness(metric, r.counts) for r in runs]
    total = np.sum(by_run, axis=0)
    shares = np.sum([_share(r.counts) for r in runs], axis=0)
    order = sorted(range(len(utts)), key=lambda i: (-total[i], -shares[i], utts[i].encode()))
    chosen = [i for i in order if total[i] > 0][:count]
    first = {}
    for i, r in enumerate(runs):
        first.setdefault(r.system, i)
    out = []
    for i in chosen:
        made = [
            _hypothesis(r, utts[i], metric, r.counts[i], float(bad[i]), systems)
            for r, bad in zip(runs, by_run, strict=True)
        ]
        shown = [made[n] for n in first.values()]
        others = [h for n, h in enumerate(made) if n not in first.values()]
        reference = runs[0].refs[utts[i]]
        out.append(Utterance(utts[i], reference, shown, others))
    return out


def _share(counts: np.ndarray) -> np.ndarray:
    """Return ``(U,)`` errors in percent of the reference; 0 where nothing tells its length."""
    if counts.shape[1] < 2:
        return np.zeros(len(counts))
    return np.nan_to_num(percent(counts[:, :2]), nan=100.0)


def _hypothesis(
    run: Run, utt: str, metric: Metric, counts: np.ndarray, bad: float, systems: Mapping[str, int]
) -> Hypothesis:
    unit = "char" if metric.name in BY_CHARACTER else "word"
    pairs = aligned_units(run.refs[utt], run.hyps[utt], unit)
    words = [Word(r or "", h or "", mark(r, h)) for r, h in pairs]
    value = float(metric.value(counts))
    if metric.better == "lower" and np.isfinite(value) and len(metric.counts) == 2:
        score = f"{counts[0]:,} of {counts[1]:,} ({value:.0f} %)"
    else:
        score = f"{metric.title} {value:.1f} %" if np.isfinite(value) else f"{counts[0]:,} errors"
    return Hypothesis(systems[run.system.group], run.experiment.name, words, score, bad)


def frequent(runs: Sequence[Run], metric: Metric) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """Return the most frequent substitutions of each system, over all of its runs on disk."""
    unit = "char" if metric.name in BY_CHARACTER else "word"
    by_system: dict[str, dict[tuple[str, str], int]] = {}
    for r in runs:
        counts = by_system.setdefault(r.system.group, {})
        for ref, hyp, n in confusions(r.refs, r.hyps, unit, top=200):
            counts[ref, hyp] = counts.get((ref, hyp), 0) + n
    return [
        (
            name,
            [(*pair, n) for pair, n in sorted(c.items(), key=lambda x: (-x[1], x[0]))[:CONFUSIONS]],
        )
        for name, c in by_system.items()
        if c
    ]


def further_texts(recipe: Path, set_name: str, utts: Sequence[str]) -> dict[str, list]:
    """Return further transcripts of utterances: what was said, what a recogniser heard, ..."""
    folder = recipe / "data" / set_name
    found: dict[str, list] = {u: [] for u in utts}
    for file, title in (("text_manual", "said"), ("text_asr", "recognised"), ("plain", "plain")):
        if (folder / file).is_file():
            table = read_texts(folder / file)
            for utt in utts:
                if utt in table:
                    found[utt].append((title, table[utt]))
    return found
