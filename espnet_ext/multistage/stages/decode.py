# SPDX-License-Identifier: Apache-2.0
"""Stage 8: the standard decoding by the final model, then translations by that of mid-training.

``decode.args`` are those of the standard stage and two more: ``translate``, the sets to translate,
and ``translation``, options of ``espnet2.bin.st_inference.Speech2Text``. A set's folder
``exp/<name>/decode/translation/<set>`` gets ``translation``, ``decode.json`` and ``bleu.json``.
"""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.data.transcripts import read_texts
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.espnet.search_options import named_files
from espnet_ext.files import atomic_dir, write_json
from espnet_ext.recipe.console import Progress, say
from espnet_ext.recipe.decoding import check_decoding
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import decode, launch
from espnet_ext.recipe.steps import stock as commands
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import DATA, sets
from espnet_ext.recipe.steps.streams import main_file
from espnet_ext.recipe.steps.train import config_of, model_file

PHASE = "midtrain"
METHOD = "translation"  # folder beside those of the recogniser's methods
TASKS = "espnet_ext.multistage.translation."
BEAM = {"beam_size": 5}


def split_args(ctx: Context) -> tuple[Context, list[str], dict[str, Any]]:
    """Return the context of the standard stage, the sets to translate, and how.

    Raises:
        UsageError: There is no such set, or it is no list.
    """
    args = copy.deepcopy(ctx.recipe.decode.args)
    names, options = args.pop("translate", []), args.pop("translation", {})
    for key, value, kind in (("translate", names, list), ("translation", options, dict)):
        if not isinstance(value, kind):
            how = "a list of sets" if kind is list else "a section {beam_size: 5, ...}"
            raise UsageError(f"{key} must be {how}, not {value!r}", f"decode.args.{key}", how)
    for name in names:
        if name not in sets(ctx):
            how = nearest(str(name), sets(ctx))
            raise UsageError(f"there is no set '{name}'", "decode.args.translate", how)
    section = dataclasses.replace(ctx.recipe.decode, args=args, code="")
    standard = dataclasses.replace(ctx, recipe=dataclasses.replace(ctx.recipe, decode=section))
    return standard, names if translates(ctx) else [], {**BEAM, **options}


def translates(ctx: Context) -> bool:
    """Whether mid-training is there and is translation: controls leave it out, or recognise."""
    phase = getattr(ctx.recipe, PHASE)
    return phase is not None and phase.task.startswith(TASKS)


def check_args(ctx: Context) -> None:
    """Check the options of both searches before anything is trained.

    Raises:
        UsageError: ESPnet's search does not have one, or not this value.
    """
    standard, names, options = split_args(ctx)
    check_decoding(standard)
    if names:
        from espnet_ext.espnet import fastimport
        from espnet_ext.espnet.compat import quiet_import

        fastimport.enable()
        with quiet_import():
            from espnet_ext.espnet.search_options import check_translation
        check_translation(options, "decode.args.translation")
        _check_ctc(ctx, options)


def _check_ctc(ctx: Context, options: dict[str, Any]) -> None:
    """ESPnet would tell by an AssertionError without words, after the trainings."""
    config = config_of(ctx, PHASE)
    with_ctc = not config or (config.get("model_conf") or {}).get("st_mtlalpha")
    if options.get("ctc_weight") and not with_ctc:
        where = "decode.args.translation.ctc_weight"
        how = f"{where}: 0, or a translator with CTC: --{PHASE}.args.model_conf.st_mtlalpha 0.3"
        raise UsageError("this search needs CTC, and the model of translation has none", where, how)


def out_dir(ctx: Context, name: str) -> Path:
    """Return the folder of one set's translations."""
    return ctx.exp / "decode" / METHOD / name


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    standard, names, options = split_args(ctx)
    plan = decode.plan(standard)
    if not names:
        return plan
    model, config = model_file(ctx, PHASE), ctx.phase_dir(PHASE) / "config.yaml"
    further = [model, config, *(DUMP / s / main_file(ctx, s) for s in names)]
    further += [*(DATA / s / "text" for s in names), *named_files(options).values()]
    files = ("translation", "decode.json", "bleu.json")
    out, told = ctx.exp / "decode" / "stock" / METHOD, ", ".join(names)
    lack, files_of = commands.lacks(ctx, PHASE), (config, model)
    return dataclasses.replace(
        plan,
        needs=[*dict.fromkeys([*plan.needs, *further])],
        makes=[*plan.makes, *(out_dir(ctx, s) / f for s in names for f in files)],
        settings={**plan.settings, "translate": names, "translation": options},
        stock=[
            *plan.stock,
            *(commands.inference("st", files_of, DUMP / s, out, options, lack) for s in names),
        ],
        does=f"{ctx.stage.does}, then translation of {told} by the model of {PHASE}",
        notes=[*plan.notes, *commands.told(lack, PHASE)],
    )


def run(ctx: Context, plan: Plan) -> None:
    """Decode, then translate each set and score it; count in = count out."""
    standard, names, options = split_args(ctx)
    decode.run(standard, decode.plan(standard))
    if not names:
        return
    from espnet_ext.espnet.decode import recognise_all
    from espnet_ext.espnet.translate import Translator

    section, model = ctx.recipe.decode, model_file(ctx, PHASE)
    device = "cuda" if launch.gpus(ctx.options) else "cpu"
    config = ctx.phase_dir(PHASE) / "config.yaml"
    translate = Translator(config, model, options, device, section.longest_s)
    for name in names:
        wavs = read_table(DUMP / name / main_file(ctx, name))
        told = Progress(f"translate {name}")
        result = recognise_all(translate, 0.0, section.longest_s, list(wavs.items()), told)
        decode.add_unusable(name, result.texts)
        with atomic_dir(out_dir(ctx, name)) as tmp:
            write_table(tmp / "translation", result.texts)
            write_json(tmp / "decode.json", decode.figures(result, model))
            write_json(tmp / "bleu.json", bleu(DATA / name / "text", result.texts))
        found = json.loads((out_dir(ctx, name) / "bleu.json").read_text(encoding="utf-8"))
        say(f"  {name}: BLEU {found['bleu']:.2f} ({found['signature']}), {len(wavs)} utterances")
        decode.tell(name, result)


def bleu(references: Path, texts: dict[str, str]) -> dict[str, Any]:
    """Return BLEU of translations against a table, its signature and the sums that it is made of.

    Raises:
        DataError: An utterance stands on one side only.
    """
    from espnet_ext.scoring.metrics import bleu as metric

    refs = read_texts(references)
    if differ := sorted(refs.keys() ^ texts.keys()):
        what = f"{len(refs)} references and {len(texts)} translations; {differ[0]} is on one side"
        raise DataError(what, references, "./run.sh --stage format")
    scored = metric.METRIC.score_set(refs, texts)
    value = metric.METRIC.of_totals(scored.totals)
    return {"bleu": value, "signature": metric.signature(), "totals": scored.totals}
