# SPDX-License-Identifier: Apache-2.0
"""``.done`` records: is a stage up to date, and if not, what changed."""

import hashlib
import json
import os
import time
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file, sha256_json, write_json
from espnet_ext.recipe import stages
from espnet_ext.recipe.stages import Context, Plan, Stage

HASH_WHOLE_MB = 256  # larger files are known by size and time


def fingerprint(path: Path) -> str:
    """Return a text that changes when the content of file ``path`` changes."""
    if not path.exists():
        return "missing"
    if path.is_dir():
        return sha256_json({str(p.relative_to(path)): fingerprint(p) for p in _files(path)})
    stat = path.stat()
    if stat.st_size > HASH_WHOLE_MB << 20:
        return f"{stat.st_size}:{stat.st_mtime_ns}"
    if path.name == "wav.scp":  # moving the recipe's folder is no change of its data
        here = os.fsencode(Path.cwd()) + b"/"
        return hashlib.sha256(path.read_bytes().replace(here, b"")).hexdigest()
    if path.suffix == ".scp":  # equal offsets do not mean equal archives
        return sha256_json([sha256_file(path), *map(fingerprint, _archives(path))])
    return sha256_file(path)


def _archives(path: Path) -> list[Path]:
    """Return the files of ``utterance FILE:OFFSET`` lines."""
    values = (value.rpartition(":") for _, value in iter_table(path))
    return sorted({Path(file) for file, _, offset in values if file and offset.isdecimal()})


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def current(plan: Plan) -> dict:
    """Return what the products depend on, as it is now."""
    inputs = plan.needs if plan.inputs is None else plan.inputs
    return {
        "settings": json.loads(json.dumps(plan.settings, default=str)),
        "inputs": {str(p): fingerprint(p) for p in inputs},
    }


def why_run(ctx: Context, stage: Stage, plan: Plan, now: dict) -> str:
    """Return why the stage must run, or an empty text when it is up to date."""
    record = read(ctx.done_path(stage))
    if record is None:
        return "not done yet"
    gone = [str(p) for p in plan.makes if not p.exists()]
    if gone:
        return f"{gone[0]} is gone"
    changed = changes(record.get("settings", {}), now["settings"])
    changed += changes(record.get("inputs", {}), now["inputs"])
    return "changed: " + ", ".join(changed) if changed else ""


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


def write(ctx: Context, stage: Stage, now: dict, wall_s: float) -> None:
    """Record that the stage is done; the last thing a stage does."""
    made = time.strftime("%Y-%m-%d %H:%M:%S")
    record = {**now, "stage": stage.name, "wall_s": round(wall_s, 2), "made": made}
    write_json(ctx.done_path(stage), record)


def check_needs(ctx: Context, stage: Stage, plan: Plan) -> None:
    """Raise if a file that the stage needs is missing; name the stage that makes it."""
    for path in plan.needs:
        if not path.exists():
            maker = _maker(ctx, stage, path)
            how = f"./run.sh --stage {maker}" if maker else "restore it, or correct recipe.yaml"
            raise DataError(f"stage {stage.number} ({stage.name}) needs a missing file", path, how)


def _maker(ctx: Context, stage: Stage, path: Path) -> int | None:
    for earlier in stages.STAGES[: stage.number - 1]:
        made = stages.plan(ctx, earlier).makes
        if any(path == m or m in path.parents for m in made):
            return earlier.number
    return None
