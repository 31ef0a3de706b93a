# SPDX-License-Identifier: Apache-2.0
"""Experiments as a page reads them: run record, curves and folders; what is missing is said."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring.curve import PHASES
from espnet_ext.scoring.pairs import Compare
from espnet_ext.scoring.record import Record, load_record
from espnet_ext.scoring.record_base import SWEEP
from espnet_ext.scoring.settings import Settings, read_settings

SCORES, SPENT, PHASE = "scores.json", "spent.json", "phase.json"
SIGNS = (SCORES, "log", "decode", ".stages", *PHASES)  # what an experiment's folder holds
LOG_LINES = 12
NO_SET = "/"  # settings of a sweep are not compared: that would be fishing
SWEPT = " (sweep)"  # how the name of a sweep's setting ends


@dataclass(frozen=True)
class Experiment:
    """One run.

    Attributes:
        given: The path as the user wrote it.
        folder: ``exp/NAME``; None where only the run record is left.
        recipe: Folder of the recipe, which paths in its tables are meant from.
        record: What was scored; None where nothing was.
        curves: By phase: for each epoch ``{"train": {...}, "valid": {...}, "updates": n}``.
        costs: By phase: contents of ``phase.json``, also of runs that were not scored.
        problem: Why there is no record; empty where there is one.
        log: The last lines of the newest log, where there is no record.
    """

    given: str
    folder: Path | None
    recipe: Path
    record: Record | None = None
    curves: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)
    problem: str = ""
    log: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Its name on the page."""
        return self.record.name if self.record else Path(self.given).resolve().name

    @property
    def group(self) -> str:
        """The system that it is a run of."""
        return self.record.group if self.record else self.name


def open_experiments(paths: Sequence[str]) -> list[Experiment]:
    """Open experiments; their names and systems are distinct on the page.

    Args:
        paths: Folders ``exp/NAME`` of recipes, or run records ``results/NAME.json``.

    Raises:
        UsageError: One is named twice, or is no experiment.
        DataError: There is nothing at a path.
    """
    found = [_open(Path(p), p) for p in paths]
    seen: dict[Path, str] = {}
    for path, e in zip(paths, found, strict=True):
        key = (e.folder or Path(path)).resolve()
        if key in seen:
            raise UsageError(f"the experiment is named twice: {seen[key]} and {path}", path)
        seen[key] = path
    return _distinct(found)


def settings_of(experiments: Sequence[Experiment]) -> Settings:
    """Return what the recipes say of their results pages, the first one's order first."""
    found = [read_settings(d / "recipe.yaml") for d in dict.fromkeys(e.recipe for e in experiments)]
    metrics = {name: m for s in reversed(found) for name, m in s.metrics.items()}
    ordered = {name: metrics[name] for s in found for name in s.metrics}
    groups = {e.group for e in experiments if e.record}
    planned = found[0].planned if len(found) == 1 else None
    if planned and not {planned.system, planned.against} <= groups:
        planned = None  # the page is of other systems
    swept = any(group.endswith(SWEPT) for group in groups)
    return replace(
        found[0],
        metrics=ordered,
        planned=None if swept else planned,
        compare=Compare(sets=[NO_SET]) if swept else found[0].compare,
        test=tuple(dict.fromkeys(name for s in found for name in s.test)),
    )


def _open(path: Path, given: str) -> Experiment:
    if not path.exists():
        raise DataError("there is no such experiment", given, "give exp/NAME of a recipe")
    if path.is_file():
        return _of_record(path, given)
    if (path / "recipe.yaml").is_file():
        known = sorted(p.name for p in (path / "exp").glob("*/") if _is_experiment(p))
        how = f"give some of: {', '.join(f'{path}/exp/{n}' for n in known)}" if known else "run it"
        raise UsageError("this is a recipe, not an experiment", given, how)
    if not _is_experiment(path):
        raise UsageError("this is no experiment", given, "give exp/NAME of a recipe")
    return _read(Experiment(given, path, path.resolve().parent.parent), path / SCORES)


def _is_experiment(path: Path) -> bool:
    return any((path / name).exists() for name in SIGNS)


def _of_record(path: Path, given: str) -> Experiment:
    """Open a run record; with its experiment, if that has the same scores."""
    if path.suffix != ".json":
        raise UsageError("this is no run record", given, "give exp/NAME or results/NAME.json")
    record, recipe = load_record(path), path.resolve().parent.parent
    folder = recipe / "exp" / record.name
    same = (folder / SCORES).is_file() and (folder / SCORES).read_bytes() == path.read_bytes()
    return _read(Experiment(given, folder if same else None, recipe), path)


def _read(e: Experiment, scores: Path) -> Experiment:
    record, problem = None, ""
    if scores.is_file():
        try:
            record = load_record(scores)
        except DataError as error:
            problem = f"its scores cannot be read: {error.what}"
    else:
        problem = _unfinished(e.folder)
    costs = {p: c for p in PHASES if (c := _json(e.folder, p, PHASE))}
    for phase, cost in (record.phases if record else {}).items():
        costs[phase] = costs.get(phase, {}) | cost.model_dump()  # the record is what was scored
    curves = {p: c for p in (*PHASES, *costs) if (c := _curves(e.folder, p, costs.get(p, {})))}
    log = () if record else _log(e.folder)
    return replace(e, record=record, problem=problem, costs=costs, curves=curves, log=log)


def _json(folder: Path | None, *parts: str) -> dict[str, Any]:
    """Return a JSON file of an experiment; empty where there is none that can be read."""
    path = folder.joinpath(*parts) if folder else None
    if path is None or not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _curves(folder: Path | None, phase: str, cost: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each epoch has measured; of older releases what the record has kept."""
    spent = _json(folder, phase, SPENT)
    epochs = [spent[e] for e in sorted(spent, key=int)]
    if epochs and all("curves" in e for e in epochs):
        done, points = 0, []
        for e in epochs:
            done += e.get("updates", 0)
            points.append({**e["curves"], "updates": done})
        return points
    kept = {k.removeprefix("valid_"): cost.get(k) or [] for k in ("valid_acc", "valid_cer_ctc")}
    length = max(map(len, kept.values()))
    updates = cost.get("valid_updates") or []
    return [
        {
            "train": {},
            "valid": {k: v[i] for k, v in kept.items() if i < len(v)},
            "updates": updates[i] if i < len(updates) else None,
        }
        for i in range(length)
    ]


def _unfinished(folder: Path | None) -> str:
    done = [p.stem for p in sorted((folder / ".stages").glob("*.json"))] if folder else []
    newest = _newest_log(folder)
    parts = [f"finished stages: {', '.join(done)}"] if done else []
    parts += [f"the newest log is {newest.name}"] if newest else []
    return "; ".join(["it has no scores", *parts])


def _newest_log(folder: Path | None) -> Path | None:
    logs = list((folder / "log").glob("*.log")) if folder else []
    return max(logs, key=lambda p: (p.stat().st_mtime, p.name), default=None)


def _log(folder: Path | None) -> tuple[str, ...]:
    newest = _newest_log(folder)
    if newest is None:
        return ()
    lines = newest.read_text(encoding="utf-8", errors="replace").splitlines()
    return tuple(x for x in lines if x.strip())[-LOG_LINES:]


def _distinct(found: list[Experiment]) -> list[Experiment]:
    """Give each run a name of its own, and each system one seed once."""
    recipes = {e.record.recipe for e in found if e.record}
    names: Counter[str] = Counter()
    seeds: set[tuple[str, int]] = set()
    out = []
    for e in found:
        if (r := e.record) is not None:
            group = f"{r.recipe} {r.group}" if len(recipes) > 1 else r.group
            name = f"{r.recipe} {r.name}" if len(recipes) > 1 else r.name
            if r.group.startswith(SWEEP):  # a results page would show it apart
                group = group.replace(SWEEP, "", 1) + SWEPT
            names[name] += 1
            if names[name] > 1:
                name = f"{name} ({names[name]})"
            if (group, r.seed) in seeds:
                group = name if name != group else f"{name} ({r.seed})"
            seeds.add((group, r.seed))
            e = replace(e, record=r.model_copy(update={"group": group, "name": name}))
        out.append(e)
    return out
