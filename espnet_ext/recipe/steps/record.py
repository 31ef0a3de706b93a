# SPDX-License-Identifier: Apache-2.0
"""What every score stage writes about a run: what was trained, how, where, and what was decoded."""

import dataclasses
import datetime
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file, sha256_json, write_json
from espnet_ext.installation import recipe_line
from espnet_ext.recipe import lock, records
from espnet_ext.recipe.options import without
from espnet_ext.recipe.stages import PHASES, Context, find
from espnet_ext.recipe.steps.decode import last_phase
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.train import init_params, model_file, training_config, why_off

NOT_IN_COMMAND = {"stage", "stop-stage", "wait", "force", "debug"}


def record_path(ctx: Context) -> Path:
    """Return the path of the run record, which git keeps."""
    return Path("results") / f"{ctx.recipe.name}.json"


def write_record(ctx: Context, record: dict) -> None:
    """Write the record where git keeps it, and a copy beside the model."""
    write_json(ctx.exp / "scores.json", record)
    write_json(record_path(ctx), record)


def write_page() -> Path:
    """Write RESULTS.md of this folder; runs that end at the same time do so in turn.

    Returns:
        Its path.

    Raises:
        DataError: A run record is not usable.
    """
    from espnet_ext.scoring.results import write_results

    # Else the page of one that read the records first could take the place of a newer one.
    with lock.brief(Path(".stages/page.lock")):
        return write_results(Path.cwd()).resolve()


def read_scores(ctx: Context) -> dict[str, dict[str, dict]]:
    """Return the scores of the last score stage, by set and method; empty before it."""
    return (records.read(ctx.exp / "scores.json") or {}).get("sets", {})


def decodings(
    ctx: Context, asked: Mapping[str, Sequence[str]], also: Collection[str], file: str
) -> dict[str, list[str]]:
    """Return the sets to score by method: those that recipe.yaml asks for, and others on disk.

    What another method has decoded counts only if the present model did it: scores of an older
    model, or of a training that has gone on since, never stand beside new ones.

    Args:
        ctx: With the sets that are decoded.
        asked: Sets by method that this run has decoded.
        also: Names of methods whose results are taken as well.
        file: Name of the hypotheses' file.

    Raises:
        DataError: What was asked for was decoded by another model.
    """
    model = model_file(ctx, last_phase(ctx))
    found = {method: list(sets) for method, sets in asked.items()}
    if not model.exists():
        return found
    digest, modified_s = sha256_file(model), model.stat().st_mtime
    for method, sets in asked.items():
        for name in sets:
            out = ctx.exp / "decode" / method / name
            if _is_old(out, file, digest, modified_s):
                what = f"the hypotheses of {name} are of another model than {model}"
                raise DataError(what, out, "./run.sh --stage decode")
    every = {name for sets in asked.values() for name in sets}
    for method in (m for m in also if m not in asked):
        folders = ctx.exp / "decode" / method
        current = [
            name
            for name in sorted(every)
            if (folders / name / file).exists()
            and not _is_old(folders / name, file, digest, modified_s)
        ]
        if current:
            found[method] = current
    return found


def _is_old(out: Path, file: str, digest: str, modified_s: float) -> bool:
    """Whether a set was decoded by another model; by time where an older release decoded."""
    cost = records.read(out / "decode.json")
    if cost is None:
        return (out / file).exists()
    if "model_sha256" in cost:
        return cost["model_sha256"] != digest
    return (out / file).exists() and (out / file).stat().st_mtime < modified_s


def decoding_command(ctx: Context, method: str, name: str, hyp_sha256: str) -> str:
    """Return the command that decoded: the last record's where it has the same hypotheses."""
    before = (records.read(record_path(ctx)) or {}).get("sets", {}).get(name, {}).get(method, {})
    same = before.get("hyp_sha256") == hyp_sha256
    return before["command"] if same and before.get("command") else command(ctx)


def base_record(ctx: Context) -> dict:
    """Return a run record without its ``sets``: what was trained, how, where, at what cost."""
    from espnet_ext.recipe.environment import describe_device, git_state, versions
    from espnet_ext.scoring.record import SCHEMA
    from espnet_ext.scoring.spent import total_budget

    phases = {}
    for phase, folder in trained(ctx).items():
        cost = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
        commits = json.loads((folder / "commits.json").read_text(encoding="utf-8"))
        phases[phase] = {**cost, "wall_s": cost["train_wall_s"], "commits": commits}
    devices = dict.fromkeys(d for p in phases.values() for d in p.get("devices", ()))
    state = git_state()
    return {
        "schema": SCHEMA,
        "recipe": ctx.recipe.recipe,
        "title": ctx.recipe.title,
        "name": ctx.recipe.name,
        "group": ctx.recipe.group or ctx.recipe.name,
        "seed": ctx.recipe.seed,
        "date": datetime.date.today().isoformat(),
        "commit": state["commit"] or "unknown",
        "dirty": bool(state["dirty"]),
        "command": command(ctx),
        "config_sha256": config_sha256(ctx),
        # Where it was trained: the model may be scored on another machine.
        "device": "; ".join(devices) or describe_device(),
        "versions": versions(),
        "phases": phases,
        # What two runs must share to be compared; data and reference are checked apart.
        "budget": total_budget(phases.values()),
        "alignment": _alignment(ctx),
    }


def config_sha256(ctx: Context) -> str:
    """Hash what was trained: data and configuration, the number of epochs and models included."""
    configs = {}
    for phase, folder in trained(ctx).items():
        # The identity leaves out what a training can go on with, as max_epoch.
        config = {}
        if folder == ctx.phase_dir(phase):
            config = training_config(dataclasses.replace(ctx, stage=find(phase)))
        configs[phase] = [records.read(folder / "identity.json") or {}, config]
    return sha256_json(configs)


def trained(ctx: Context) -> dict[str, Path]:
    """Return the folders of the phases that made the model, those of other experiments as well.

    A phase may start from a file of another experiment, whose training has its cost, too.
    """
    folders: dict[str, Path] = {}
    for phase in PHASES:
        if not _is_on(ctx, phase):
            continue
        folders[phase] = ctx.phase_dir(phase)
        for text in init_params(dataclasses.replace(ctx, stage=find(phase))):
            folder = Path(text.partition(":")[0]).parent
            folders.setdefault(folder.name, folder)
    return {p: folders[p] for p in PHASES if p in folders and (folders[p] / "phase.json").exists()}


def _is_on(ctx: Context, phase: str) -> bool:
    """Whether the model of this configuration comes from a phase, or one is left from another."""
    if getattr(ctx.recipe, phase) is None:
        return False
    return not why_off(dataclasses.replace(ctx, stage=find(phase)))


def _alignment(ctx: Context) -> dict:
    """Tell where the labels of frames came from; a stronger outside model would leak knowledge."""
    header = DUMP / ctx.recipe.data.train / "align" / "header.json"
    if ctx.recipe.align is None or not header.exists():
        return {}
    about = json.loads(header.read_text(encoding="utf-8"))
    return {k: about[k] for k in ("unit", "num_classes", "source", "source_train_data")}


def command(ctx: Context) -> str:
    """Return the command of the whole experiment: that of this run without its range of stages."""
    return recipe_line(*without(ctx.options.argv, NOT_IN_COMMAND))
