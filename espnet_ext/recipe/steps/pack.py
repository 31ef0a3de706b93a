# SPDX-License-Identifier: Apache-2.0
"""Stage 10: one archive of the final model, and the lines that load it."""

import dataclasses
import itertools
import shlex
import shutil
from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.espnet.stock import lacks_of, refusal
from espnet_ext.files import atomic_path
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan, find
from espnet_ext.recipe.steps import stock
from espnet_ext.recipe.steps.decode import last_phase, search_files
from espnet_ext.recipe.steps.train import model_file, train_argv
from espnet_ext.yamlfile import read_section


def archive(ctx: Context) -> Path:
    """Return the path of the archive."""
    return ctx.exp / f"{ctx.recipe.recipe.replace('/', '_')}_{ctx.recipe.name}.zip"


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    phase = last_phase(ctx)
    config = ctx.phase_dir(phase) / "config.yaml"
    needs = [config, model_file(ctx, phase)]
    command = ["python", "-m", "espnet2.bin.pack", "asr", "--outpath", str(archive(ctx))]
    command += ["--asr_train_config", str(config), "--asr_model_file", str(needs[1])]
    command += [x for p in named_files(ctx, config) for x in ("--option", str(p))]
    search = search_files(ctx.recipe.decode)
    command += [x for k, p in search.items() for x in (f"--{k}", str(p))]
    return Plan(
        needs=[*needs, *search.values()],
        makes=[archive(ctx)],
        disk_mb=30,
        stock=[shlex.join(command)],  # it copies files; no model is built
        notes=stock.told(stock.lacks(ctx, phase), phase),
    )


def named_files(ctx: Context, config: Path) -> list[Path]:
    """Return the files that the configuration names and inference reads."""
    if not config.exists():  # the plan of a phase that is still to be trained
        phase = dataclasses.replace(ctx, stage=find(last_phase(ctx)))
        given = dict(itertools.pairwise(train_argv(phase)))
        stats = given.get("--normalize_conf", "").partition("stats_file=")[2]
        return [Path(p) for p in (given.get("--bpemodel"), stats) if p]
    args = read_section(config, "a training's configuration", DataError)
    named = [args.get("bpemodel"), (args.get("normalize_conf") or {}).get("stats_file")]
    return [Path(p) for p in named if p]


def run(ctx: Context, plan: Plan) -> None:
    """Pack configuration, model and token files; no network is used.

    Raises:
        EspnetExtError: The model seems to recognise nothing, and ``--force`` is not given.
    """
    from espnet_ext.espnet.pack import pack_asr

    doubts.refuse(ctx)
    config, model, *_ = plan.needs
    search = {k: _beside_model(ctx, k, p) for k, p in search_files(ctx.recipe.decode).items()}
    pack_asr(config, model, named_files(ctx, config), archive(ctx), search)
    say(f"  {archive(ctx)}: {archive(ctx).stat().st_size / 1e6:.1f} MB")
    if lack := lacks_of(config):
        say(f"  {refusal(lack)}")


def _beside_model(ctx: Context, option: str, path: Path) -> Path:
    """Copy a file of the search beside the model, and return its path there.

    It may be of another recipe, and ESPnet packs what is outside this folder under an absolute
    name, which no other machine has.
    """
    copy = ctx.exp / "search" / f"{option}{path.suffix}"
    copy.parent.mkdir(exist_ok=True)
    with atomic_path(copy) as tmp:
        shutil.copyfile(path, tmp)
    return copy


def check(plan: Plan, packed: Path) -> None:
    """Check that every parameter of the model comes from an archive or a published folder.

    Args:
        plan: Of this stage.
        packed: The archive, or a folder with its files.

    Raises:
        EspnetExtError: One is missing, or the files do not fit together.
    """
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.archive import asr_files
    from espnet_ext.espnet.compat import quiet_import
    from espnet_ext.espnet.loading import verify_told

    fastimport.enable()
    with quiet_import(), asr_files(packed) as (config, model, _):
        verify_told(config, model)


def usage(ctx: Context) -> list[str]:
    """Return the lines of Python that transcribe a wav: stock ESPnet's if it can load the model."""
    greedy = ctx.recipe.decode is None or ctx.recipe.decode.method != "beam"
    options = {"ctc_weight": 1.0, "beam_size": 1} if greedy else dict(ctx.recipe.decode.args)
    for packed in search_files(ctx.recipe.decode):
        options.pop(packed)
    text = "".join(f", {k}={v!r}" for k, v in options.items())
    other = ""
    if ctx.recipe.decode is not None and ctx.recipe.decode.method == "greedy_ctc":
        # A beam of one over prefixes is not the best path.
        other = " (its search may find other words than greedy_ctc where the model is unsure)"
    lack, path = lacks_of(ctx.phase_dir(last_phase(ctx)) / "config.yaml"), archive(ctx).resolve()
    module = "espnet_ext.espnet.speech2text" if lack else "espnet2.bin.asr_inference"
    lines = [
        f"the trained model in Python{'' if lack else ', with stock ESPnet'}{other}:",
        f"import soundfile; from {module} import Speech2Text",
        f'asr = Speech2Text.from_pretrained("{path}"{text})',
        'print(asr(soundfile.read("speech.wav")[0])[0][0])',
    ]
    if lack:
        quoted = shlex.quote(str(path))
        lines.append(f"and in the shell: espnet-ext transcribe DATA_FOLDER OUT --asr {quoted}")
    return lines
