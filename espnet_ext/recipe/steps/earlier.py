# SPDX-License-Identifier: Apache-2.0
"""What earlier starts of a training have left in its folder: whether to go on with it."""

import json
import os
from collections.abc import Set
from pathlib import Path

from espnet_ext.files import write_json
from espnet_ext.plugin import extendable
from espnet_ext.recipe import records
from espnet_ext.recipe.console import say
from espnet_ext.recipe.environment import git_state
from espnet_ext.recipe.stages import Plan

# Options that a checkpoint may be gone on with, and those that the task's package names; any other
# change starts the phase over.
EXTENDABLE = {
    "max_epoch", "patience", "log_interval", "num_workers", "keep_nbest_models", "num_att_plot",
    "use_matplotlib", "use_tensorboard", "max_cache_size", "valid_max_cache_size",
}  # fmt: skip


def set_aside_if_changed(plan: Plan, task: str, out: Path) -> None:
    """Keep a checkpoint only if it belongs to the same training; nothing is ever deleted.

    Args:
        plan: What is to be trained now.
        task: Of the phase.
        out: Its folder.
    """
    now = records.current(plan)
    settings, free = dict(now["settings"]), EXTENDABLE | extendable(task)
    del settings["model"]
    identity = {**settings, "config": _without(settings["config"], free), "inputs": now["inputs"]}
    marker = out / "identity.json"
    before = records.read(marker)
    if before is not None:  # an option may have become free since it was written
        before["config"] = _without(before.get("config") or {}, free)
    if out.exists() and before != identity:
        n = 1
        while (old := out.with_name(f"{out.name}.old{n}")).exists():
            n += 1
        os.replace(out, old)
        changed = ", ".join(records.changes(before or {}, identity))
        say(f"  another training than before ({changed or 'unknown'}): the old one is now {old}")
    elif (out / "checkpoint.pth").exists():
        say("  going on from the last checkpoint")
    out.mkdir(parents=True, exist_ok=True)
    write_json(marker, identity)


def _without(config: dict, names: Set[str], at: str = "") -> dict:
    """Return a configuration without the options of these dotted names."""
    out = {}
    for key, value in config.items():
        if (place := f"{at}{key}") in names:
            continue
        if isinstance(value, dict) and any(name.startswith(f"{place}.") for name in names):
            value = _without(value, names, f"{place}.")
            if not value:  # nothing but such options: as good as no section
                continue
        out[key] = value
    return out


def note_commit(out: Path) -> None:
    """Add the commit that trains now to those that trained before it, for the run record."""
    state = git_state()
    commit = f"{state['commit'] or 'unknown'}{'+' if state['dirty'] else ''}"
    path = out / "commits.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    write_json(path, [*(c for c in before if c != commit), commit])
