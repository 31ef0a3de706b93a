# SPDX-License-Identifier: Apache-2.0
"""``.done`` records: is a stage up to date, and if not, what changed."""

import json
import time
from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.files import write_json
from espnet_ext.installation import recipe_line
from espnet_ext.recipe import stages, whole
from espnet_ext.recipe.content import Contents
from espnet_ext.recipe.options import without
from espnet_ext.recipe.stages import Context, Plan, Stage

_RESTORE = "restore it, or correct recipe.yaml"
LISTS = "lists of "  # how inputs that are a corpus begin


def current(plan: Plan) -> dict:
    """Return what the products depend on, as it is now."""
    known = Contents()
    inputs = plan.needs if plan.inputs is None else plan.inputs
    prints = {str(p): known.fingerprint(p) for p in inputs}
    prints |= {f"{LISTS}{n}": known.lists(p) for n, p in plan.corpora.items() if p.is_dir()}
    known.save()
    return {
        "settings": json.loads(json.dumps(plan.settings, default=str)),
        "inputs": prints,
    }


def why_run(ctx: Context, stage: Stage, plan: Plan, now: dict) -> str:
    """Return why the stage must run, or an empty text when it is up to date."""
    path = ctx.done_path(stage)
    record = read(path)
    if record is None:
        return f"its record {path} is damaged" if path.exists() else "first run"
    changed = changes(record.get("settings", {}), now["settings"])
    if not changed:  # other settings make other products, which are not gone
        gone = [str(p) for p in plan.makes if not p.exists()]
        damaged = gone[0] + " is gone" if gone else whole.damage(record.get("made", {}))[0]
        if damaged:
            return damaged
    before, inputs = record.get("inputs", {}), now["inputs"]
    # A corpus that is no longer there, or was not looked at then, is no reason.
    either = {k for k in before.keys() ^ inputs.keys() if k.startswith(LISTS)}
    changed += changes(*({k: v for k, v in d.items() if k not in either} for d in (before, inputs)))
    return "changed: " + ", ".join(changed) if changed else ""


def will_run(ctx: Context, stage: Stage, plan: Plan) -> bool:
    """Return whether the stage is going to run, by all that is known now."""
    return bool(ctx.options.force or why_run(ctx, stage, plan, current(plan)))


def edited(ctx: Context, stage: Stage) -> list[str]:
    """Return which products of an up-to-date stage a person edited."""
    return whole.damage((read(ctx.done_path(stage)) or {}).get("made", {}))[1]


def changes(old: dict, new: dict) -> list[str]:
    """Return the dotted keys whose values differ."""
    out = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if a == b:
            continue
        if isinstance(a, dict) and isinstance(b, dict):
            out += [f"{key}.{k}" for k in changes(a, b)]
        else:
            out.append(key)
    return out


def read(path: Path) -> dict | None:
    """Return a record, or None when there is none or it is not readable."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # no JSON, or not even text
        return None
    return record if isinstance(record, dict) else None


def write(ctx: Context, stage: Stage, plan: Plan, now: dict, wall_s: float) -> None:
    """Record that the stage is done; the last thing a stage does."""
    record = {
        **now,
        "stage": stage.name,
        "wall_s": round(wall_s, 2),
        "date": time.strftime("%Y-%m-%d %H:%M:%S"),
        "made": whole.counts(plan.makes),
    }
    write_json(ctx.done_path(stage), record)


def check_needs(ctx: Context, stage: Stage, plan: Plan) -> None:
    """Raise if a file that the stage needs is missing; name the stage that makes it."""
    for path in plan.needs:
        if not path.exists():
            maker = _maker(ctx, stage, path)
            keep = without(ctx.options.argv, {"stage", "stop-stage"})  # --name above all
            how = recipe_line("--stage", str(maker), *keep) if maker else _RESTORE
            if have := _have(ctx, path):
                how += f"; or take an experiment that has it: --name {' or '.join(have[:5])}"
            raise DataError(f"stage {stage.number} ({stage.name}) needs a missing file", path, how)


def _have(ctx: Context, path: Path) -> list[str]:
    """Return the experiments that have what this one lacks, where nothing of this one is there."""
    if ctx.exp.joinpath(".stages").exists() or not path.is_relative_to(ctx.exp):
        return []
    found = ctx.exp.parent.glob(f"*/{path.relative_to(ctx.exp)}")
    return sorted(p.relative_to(ctx.exp.parent).parts[0] for p in found)


def _maker(ctx: Context, stage: Stage, path: Path) -> int | None:
    for earlier in stages.STAGES[: stage.number - 1]:
        made = stages.plan(ctx, earlier).makes
        if any(path == m or m in path.parents for m in made):
            return earlier.number
    return None
