# SPDX-License-Identifier: Apache-2.0
"""Checks of the decoding options, before anything is trained for them."""

import dataclasses
from collections.abc import Callable

from espnet_ext.errors import UsageError
from espnet_ext.plugin import load_object
from espnet_ext.recipe import stages
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps import train
from espnet_ext.recipe.steps.decode import last_phase, search_files
from espnet_ext.recipe.steps.tokens import folder, tokens_of

CTC_WEIGHT = "decode.args.ctc_weight"
BEAM_CTC = 0.5  # of ESPnet's beam search, unless another is given


def check_of(ctx: Context) -> Callable[[Context], None] | None:
    """Return what checks ``decode.args``: of a method's own code ``check_args(ctx)``, or none."""
    if not ctx.recipe.decode.code:
        return check_decoding
    return getattr(stages.find("decode").code(ctx.recipe), "check_args", None)


def check_decoding(ctx: Context) -> None:
    """Check the options of the standard decoding.

    Raises:
        UsageError: ESPnet's search does not have one, or not this value.
    """
    section = ctx.recipe.decode
    if ":" in section.method:
        load_object(section.method, "decode.method")
        return
    if section.method != "beam":
        _check_greedy(ctx)
        _warn_of_choice(ctx, ctc_alone=True)
        return
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import quiet_import

    fastimport.enable()
    with quiet_import():
        from espnet_ext.espnet.search_options import check_beam, check_lm
    check_beam(section.args, "decode.args")
    _check_trained(ctx)
    check_lm(section.args, _tokens_there(ctx), "decode.args")
    if section.args.get("ctc_weight", BEAM_CTC) != 0 and _without_ctc(ctx):
        how = "decode.args.ctc_weight: 0, or a model with CTC: model_conf.ctc_weight"
        raise UsageError("this search needs CTC, and the model has none", CTC_WEIGHT, how)
    if section.args.get("ctc_weight", BEAM_CTC) in (0, 1):
        _warn_of_choice(ctx, ctc_alone=section.args["ctc_weight"] == 1)


def _check_trained(ctx: Context) -> None:
    """What another experiment makes for the search must be there before this one is trained."""
    for key, path in search_files(ctx.recipe.decode).items():
        other = "".join(path.parts[1:2])
        if path.exists() or path.is_relative_to(ctx.exp):
            continue
        preset = "--preset" if other in ctx.recipe.presets else "--name"
        how = f"train it first: ./run.sh {preset} {other}"
        raise UsageError("the search needs a missing file", f"decode.args.{key}: {path}", how)


def _tokens_there(ctx: Context) -> list[str] | None:
    """Return the token list that stage 4 has made; None if it is still to come."""
    from espnet_ext.espnet import init

    if not ctx.recipe.phases:
        return None  # the plan tells
    last = dataclasses.replace(ctx, stage=stages.find(last_phase(ctx)))
    section = tokens_of(last)
    if section is None or section.code:
        return None
    return init.tokens_of(str(folder(last) / "tokens.txt"))


def _warn_of_choice(ctx: Context, ctc_alone: bool) -> None:
    """Tell of a model that one part of it chooses and the other part decodes."""
    if not ctx.recipe.phases:
        return  # the plan tells
    *_, (name, phase) = ctx.recipe.phases.items()
    key, model = f"{name}.model", phase.model
    if ctc_alone and model.startswith("valid.acc."):
        say(
            f"WARNING: decoding takes CTC alone, and {key} ({model}) is chosen by the accuracy of "
            "the attention decoder, which may be best at another epoch; to choose by what is "
            "decoded: model_conf.report_cer: true, best_model_criterion: [[valid, cer_ctc, min]], "
            f"{key}: valid.cer_ctc.ave.pth"
        )
    elif not ctc_alone and model.startswith("valid.cer_ctc."):
        say(
            f"WARNING: decoding takes the attention decoder alone, and {key} ({model}) is chosen "
            "by the character error rate of CTC; to choose by what is decoded: "
            f"best_model_criterion: [[valid, acc, max]], {key}: valid.acc.ave.pth"
        )


def _check_greedy(ctx: Context) -> None:
    section = ctx.recipe.decode
    if section.args:
        key = next(iter(section.args))
        how = "decode.method: beam, or no decode.args"
        raise UsageError("greedy_ctc has no options", f"decode.args.{key}", how)
    if _without_ctc(ctx):
        how = "decode.method: beam"
        raise UsageError("greedy_ctc needs CTC, and its weight is 0", "decode.method", how)


def _without_ctc(ctx: Context) -> bool:
    """Whether the model of the last phase, one of ESPnet's ASR, has no CTC."""
    if not ctx.recipe.phases:
        return False  # the plan tells
    *_, name = ctx.recipe.phases
    model = train.config_of(ctx, name).get("model_conf") or {}
    return model.get("ctc_weight") == 0
