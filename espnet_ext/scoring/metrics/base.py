# SPDX-License-Identifier: Apache-2.0
"""What a metric is: integer counts of each utterance, and the value that their sums have.

Everything downstream (run records, pages, comparisons, sweeps, plots) takes a metric as data. The
value is a function of summed counts, so that utterances and seeds can be resampled:
``value(counts[draw].sum(axis=-2))``. Letters: U utterances, K counts, D details.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring.paired import ids_sha256, same_utterances

Better = Literal["lower", "higher"]
_NAME = re.compile(r"[a-z][a-z0-9_]*")


def percent(totals: np.ndarray) -> np.ndarray:
    """Return the first count in percent of the second; NaN where the second is 0.

    Args:
        totals: Summed counts, ``(..., K)`` with K >= 2.

    Returns:
        ``(...)`` float64.
    """
    totals = np.asarray(totals, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 100.0 * totals[..., 0] / totals[..., 1]
    return np.where(totals[..., 1] == 0, np.nan, share)


@dataclass(frozen=True)
class Scored:
    """One metric of one set.

    Attributes:
        utt_ids: The ``U`` utterance ids in byte order; the rows of ``counts`` follow it.
        counts: ``(U, K)`` int64, the columns are :attr:`Metric.counts`.
        totals: Sum over utterances of each count and each detail, by name.
    """

    utt_ids: tuple[str, ...]
    counts: np.ndarray
    totals: dict[str, int]

    @property
    def ids_sha256(self) -> str:
        """SHA-256 of the utterance ids, one a line: tells whether two scores can be paired."""
        return ids_sha256(self.utt_ids)


@dataclass(frozen=True)
class Metric:
    """A metric as data; one file of this package, or of a recipe, holds one as ``METRIC``.

    Attributes:
        name: Key in ``score.metrics`` of recipe.yaml and in run records: ``[a-z][a-z0-9_]*``.
        title: Its name on pages and axes, for example ``WER``.
        better: Which way is better.
        counts: Names of the K counts of an utterance that the value needs.
        score: Takes references and hypotheses of the same U utterances; returns their counts and
            details, ``(U, K + D)`` integers >= 0.
        value: Takes summed counts, ``(..., K)``, which are means where seeds are pooled; returns
            ``(...)`` in percent, NaN where it is not defined.
        details: Names of D further counts, of which records keep the total only.
        columns: Further columns of the page: title to ``(part, whole)``, names of counts or
            details; shown as percent.
        alternatives: Columns that are the same score by other rules; the page shows them for the
            main set beside the value.
        ref_file: Table of the references below ``data/<set>/``.
        ref_else: The table that is taken where ``ref_file`` is missing; empty for none.
        hyp_file: Table of the hypotheses below ``exp/<name>/decode/<method>/<set>/``.
        before: The metric that this one is for the model before its final training phase; the page
            shows the two side by side, and no other table of this one.
        optional: A set that has no such table is scored without this metric; else it is an error.
        note: One sentence for the results page: how it counts.
        files: Takes references, hypotheses and the folder of the hypotheses; writes what helps a
            person there, after scoring. Called once a set; may raise SetupError without matplotlib.
    """

    name: str
    title: str
    better: Better
    counts: tuple[str, ...]
    score: Callable[[Sequence[str], Sequence[str]], np.ndarray]
    value: Callable[[np.ndarray], np.ndarray] = percent
    details: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    alternatives: tuple[str, ...] = ()
    ref_file: str = "text"
    ref_else: str = ""
    hyp_file: str = "text"
    before: str = ""
    optional: bool = False
    note: str = ""
    files: Callable[[Mapping[str, str], Mapping[str, str], Path], None] | None = None

    def __post_init__(self):
        names = [*self.counts, *self.details]
        if not _NAME.fullmatch(self.name):
            raise UsageError("a metric's name needs letters, digits and '_'", f"'{self.name}'")
        if self.better not in get_args(Better):
            how = "lower or higher"
            raise UsageError(f"better cannot be '{self.better}'", f"metric {self.name}", how)
        if not self.counts or len(set(names)) < len(names):
            raise UsageError("a metric needs counts of distinct names", f"metric {self.name}")
        if unknown := {n for pair in self.columns.values() for n in pair} - set(names):
            raise UsageError(f"columns of unknown counts: {sorted(unknown)}", f"metric {self.name}")
        if unknown := set(self.alternatives) - self.columns.keys():
            raise UsageError(f"no columns: {sorted(unknown)}", f"metric {self.name}")

    def references(self, folder: Path) -> Path:
        """Return the table of the references of a set, which need not exist."""
        path = folder / self.ref_file
        return folder / self.ref_else if self.ref_else and not path.is_file() else path

    def score_set(self, refs: Mapping[str, str], hyps: Mapping[str, str]) -> Scored:
        """Score one set.

        Args:
            refs: Utterance id to reference.
            hyps: The same for exactly the same utterances.

        Raises:
            DataError: There is no utterance, one stands on one side only, or the metric did not
                return one row of counts for each.
        """
        utt_ids = same_utterances(refs, hyps)
        rows = np.asarray(self.score([refs[u] for u in utt_ids], [hyps[u] for u in utt_ids]))
        names = (*self.counts, *self.details)
        if rows.shape != (len(utt_ids), len(names)) or rows.dtype.kind not in "iub":
            raise DataError(
                f"counts are {rows.dtype} of shape {rows.shape}, not integers of shape "
                f"({len(utt_ids)}, {len(names)}): {', '.join(names)}",
                f"metric {self.name}",
            )
        if (rows < 0).any():
            raise DataError("a count is negative", f"metric {self.name}")
        rows = rows.astype(np.int64)
        totals = dict(zip(names, rows.sum(axis=0).tolist(), strict=True))
        return Scored(tuple(utt_ids), rows[:, : len(self.counts)], totals)

    def of_totals(self, totals: Mapping[str, float]) -> float:
        """Return the value of summed counts, in percent.

        Raises:
            DataError: It is not defined, for example because all references are empty.
        """
        value = float(self.value(np.array([totals[name] for name in self.counts])))
        if not np.isfinite(value):
            found = ", ".join(f"{name} {totals[name]}" for name in self.counts)
            what = f"{self.title} is not defined for {found}, the sums of the whole set"
            how = "the references of the set hold nothing that it counts: leave it out of score."
            raise DataError(what, f"metric {self.name}", f"{how}metrics, or decode other sets")
        return value

    def column(self, title: str, totals: Mapping[str, float]) -> float:
        """Return a further column's share in percent; NaN where the whole is 0."""
        return float(percent(np.array([totals[name] for name in self.columns[title]])))
