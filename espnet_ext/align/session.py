# SPDX-License-Identifier: Apache-2.0
"""One training of the aligner in its work folder: jobs over shards, pass records, resume.

A pass is done when ``WORK/<pass>/done.json`` holds its key: a hash of the data, of its options and
of the passes before it. A killed training starts again at the pass it was in.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from espnet_ext.align.corpus import Corpus, MapFn
from espnet_ext.align.options import AlignOptions
from espnet_ext.files import sha256_json, write_json

GENERAL = (
    "lexicon", "lexicon_kind", "stress", "oov", "fs", "num_ceps", "cmvn_vars", "delta_order",
    "delta_window", "sil_prob", "power", "tolerance", "seed", "device", "frame_shift_ms",
)  # fmt: skip


PATHS = ("gmm", "tree", "transform", "fmllr", "before")  # of a model, below the work folder


@dataclass
class Model:
    """Files of a trained GMM pass; an empty path means that there is no such part."""

    name: str
    gmm: str
    tree: str
    transform: str = ""
    fmllr: str = ""  # folder of the training speakers' transforms
    before: str = ""  # sat: folder of the speaker-independent pass that starts a new speaker


@dataclass
class Session:
    """What all passes share."""

    work: Path
    corpus: Corpus
    options: AlignOptions
    map_fn: MapFn
    say: Callable[[str], None]
    reports: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, Model] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)  # passes that an earlier run had finished
    key: str = ""  # of the pass that was begun last; at first, of the data

    def folder(self, name: str) -> Path:
        return self.work / name

    def run(self, fn: Callable[[dict], dict], **job: Any) -> tuple[list[dict], float]:
        """Run a job for each shard; return the results in order and the wall time in seconds."""
        o, start = self.options, time.perf_counter()
        base = {
            "work": str(self.work),
            "sil_prob": o.sil_prob,
            "deltas": (o.delta_order, o.delta_window),
            "device": o.device,
            "shift_s": o.shift_s,
            **job,
        }
        jobs = [{**base, "shard": i} for i in range(self.corpus.shards)]
        # A GPU here is one resource: its jobs follow one another in this process. Workers elsewhere
        # pick the device of their own machine.
        here = base["device"] != "cpu" and torch.cuda.is_available()
        apply = map if here else self.map_fn
        return list(apply(fn, jobs)), time.perf_counter() - start

    def begin(self, name: str) -> Model | None:
        """Return the model of a pass as an earlier run finished it; else None, its folder empty."""
        own = getattr(self.options, name)
        general = {k: getattr(self.options, k) for k in GENERAL}
        # Chained to the passes before, the first one to the data.
        self.key = sha256_json([self.key, name, asdict(own), general])
        if (done := self._finished(name)) is None:
            self.fresh_folder(name)
        return done

    def _finished(self, name: str) -> Model | None:
        try:
            done = json.loads((self.folder(name) / "done.json").read_text(encoding="utf-8"))
            same, files = done["key"] == self.key, dict(done["model"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not same:
            return None
        self.say(f"  {name}: finished by an earlier run, taken over")
        self.reports.append(done["report"])
        self.reused.append(name)
        paths = {k: str(self.work / v) if k in PATHS and v else v for k, v in files.items()}
        self.models[name] = Model(**paths)
        return self.models[name]

    def finish(self, name: str, model: Model, report: dict[str, Any]) -> Model:
        """Record the pass that was begun last as done."""
        self.reports.append(report)
        self.models[name] = model
        # Relative: the work folder may be moved, or named by another path, before it goes on.
        files = {
            k: os.path.relpath(v, self.work) if k in PATHS and v else v
            for k, v in asdict(model).items()
        }
        record = {"key": self.key, "model": files, "report": report}
        write_json(self.folder(name) / "done.json", record)
        return model

    def fresh_folder(self, name: str) -> None:
        """Make the folder of a pass empty."""
        # First of all: a kill while the rest is removed must not leave a finished pass.
        (self.folder(name) / "done.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder(name), ignore_errors=True)
        self.folder(name).mkdir(parents=True)


def totals(results: list[dict]) -> dict[str, Any]:
    """Add up the counts of shards."""
    out: dict[str, Any] = {"failed": [row for r in results for row in r.get("failed", [])]}
    for key in ("frames", "aligned", "loglik", "silence", "shared", "changed", "cpu_s"):
        if any(key in r for r in results):
            out[key] = sum(r.get(key, 0) for r in results)
    return out


def sum_stats(kind: type, results: list[dict]) -> Any:
    """Add up the statistics that the shards' results name, in their order, and remove the files.

    Args:
        kind: Class of the statistics, with ``load(path)`` and addition.
        results: Each with ``stats``, see :func:`espnet_ext.align.passes.shard.save_stats`.

    Returns:
        The sum; None if no shard has statistics.
    """
    total, files = None, [Path(r["stats"]) for r in results if r["stats"]]
    for file in files:
        part = kind.load(file)
        if total is None:
            total = part
        else:
            total += part
    for file in files:
        file.unlink()
    return total
