# SPDX-License-Identifier: Apache-2.0
"""The scores of a page's runs, each resampled once: what tables, comparisons and pictures read."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from espnet_ext.files import sha256_json
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.record import Decoded, Record
from espnet_ext.scoring.significance import SAMPLES, Resampled, interval, resample


class System(NamedTuple):
    """Runs that differ by their seed only, decoded in one way."""

    group: str
    method: str


class Field(NamedTuple):
    """The systems that have scores of one metric on one set, with their runs."""

    set_name: str
    metric: Metric
    systems: Mapping[System, list[Record]]

    def decoded(self, system: System) -> list[Decoded]:
        """Return what the runs of a system have on the set."""
        return [run.sets[self.set_name][system.method] for run in self.systems[system]]


def reference_of(decoded: Decoded) -> str:
    """Return a hash of what was scored: two scores with the same one can be averaged or paired."""
    return sha256_json([decoded.ref_sha256, decoded.ids_sha256, decoded.input_sha256])


class Scores:
    """Scores of runs on sets, resampled on first use; one draw takes the same utterances for all.

    Args:
        records: All runs of the page.
        metrics: Those that the page knows, by name, in the order in which it shows them.
        samples: Number of draws.
    """

    def __init__(
        self, records: Iterable[Record], metrics: Mapping[str, Metric], samples: int = SAMPLES
    ):
        self.records = list(records)
        self.metrics = dict(metrics)
        self._samples = samples
        self._fields: dict[str, list[Field]] = {}
        self._known: dict[tuple[str, str, str], tuple[Resampled, dict[tuple[str, str], int]]] = {}

    def fields(self, set_name: str) -> list[Field]:
        """Return the systems with scores of a set, by metric; systems by name."""
        if set_name in self._fields:
            return self._fields[set_name]
        found = self._fields[set_name] = []
        for metric in (m for m in self.metrics.values() if not m.before):
            systems: dict[System, list[Record]] = {}
            for run in self.records:
                for method in run.sets.get(set_name, {}):
                    if run.counted(set_name, method, metric) is not None:
                        systems.setdefault(System(run.group, method), []).append(run)
            if systems:
                found.append(Field(set_name, metric, dict(sorted(systems.items()))))
        return found

    def of(self, field: Field, runs: Sequence[Record], method: str) -> Resampled:
        """Return the scores of runs of a field; they share their reference."""
        reference = reference_of(runs[0].sets[field.set_name][method])
        key = (field.set_name, field.metric.name, reference)
        if key not in self._known:
            self._known[key] = self._resampled(field, reference)
        scores, rows = self._known[key]
        return scores.take([rows[run.name, method] for run in runs])

    def values(self, field: Field, system: System) -> np.ndarray:
        """Return the score of each run of a system, ``(S,)``, percent."""
        return np.array([d.value(field.metric) for d in field.decoded(system)])

    def interval(self, field: Field, runs: Sequence[Record], method: str) -> tuple[float, float]:
        """Return the two-level interval of the mean of runs that differ by their seed."""
        return interval(self.of(field, runs, method))

    def ranked(self, field: Field, systems: Iterable[System] | None = None) -> list[System]:
        """Return systems from the best mean over seeds to the worst; equal ones by name."""
        sign = 1 if field.metric.better == "lower" else -1

        def place(system: System) -> tuple[float, System]:
            return sign * float(self.values(field, system).mean()), system

        return sorted(field.systems if systems is None else systems, key=place)

    def _resampled(
        self, field: Field, reference: str
    ) -> tuple[Resampled, dict[tuple[str, str], int]]:
        rows = {
            (run.name, system.method): run.counted(field.set_name, system.method, field.metric)
            for system, run in _runs(field)
            if reference_of(run.sets[field.set_name][system.method]) == reference
        }
        counts = np.stack([counted.counts for counted in rows.values()])
        scores = resample(counts, field.metric.value, samples=self._samples)
        return scores, {name: i for i, name in enumerate(rows)}


def _runs(field: Field) -> Iterator[tuple[System, Record]]:
    for system, runs in field.systems.items():
        for run in runs:
            yield system, run
