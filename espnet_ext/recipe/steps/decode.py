# SPDX-License-Identifier: Apache-2.0
"""Stage 8: recognise each set with the final model."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.espnet.search_options import named_files
from espnet_ext.files import atomic_dir, sha256_file, write_json
from espnet_ext.plugin import load_object
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import Progress, say
from espnet_ext.recipe.schema import Decode
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import launch, stock
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.streams import main_file
from espnet_ext.recipe.steps.train import model_file

if TYPE_CHECKING:
    from espnet_ext.espnet.decode import Result

METHODS = ("greedy_ctc", "beam")
LM_FILES = {"lm_file", "ngram_file"}


def last_phase(ctx: Context) -> str:
    """Return the name of the last phase that recipe.yaml has."""
    if not ctx.recipe.phases:
        raise UsageError("there is no training phase to decode with", "recipe.yaml")
    *_, name = ctx.recipe.phases
    return name


def sets_of(ctx: Context) -> list[str]:
    """Return the sets to be decoded."""
    data = ctx.recipe.data
    return ctx.recipe.decode.sets or list(dict.fromkeys([data.valid, *data.test]))


def label(section: Decode) -> str:
    """Return the folder name of a decoding method, which tables show.

    A search with a language model is another one than without.
    """
    models = LM_FILES & search_files(section).keys()
    return section.method.replace(":", ".") + ("_lm" if models else "")


def variant(ctx: Context) -> str:
    """See :meth:`Context.done_path`: one search does not make another out of date."""
    return label(ctx.recipe.decode)


def out_dir(ctx: Context, name: str) -> Path:
    """Return the folder of one set's hypotheses."""
    return ctx.exp / "decode" / label(ctx.recipe.decode) / name


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    section, phase = ctx.recipe.decode, last_phase(ctx)
    if section.method not in METHODS and ":" not in section.method:
        raise UsageError(
            f"decode.method cannot be '{section.method}'",
            None,
            nearest(section.method, METHODS) + " or module:function",
        )
    model = model_file(ctx, phase)
    config = ctx.phase_dir(phase) / "config.yaml"
    wavs = [DUMP / s / main_file(ctx, s) for s in sets_of(ctx)]
    lack = stock.lacks(ctx, phase)
    return Plan(
        needs=[model, config, *wavs, *search_files(section).values()],
        makes=[out_dir(ctx, s) / "text" for s in sets_of(ctx)],
        settings=_settings(section),
        disk_mb=1,
        stock=[_stock(ctx, (config, model), DUMP / s, lack) for s in sets_of(ctx)],
        notes=stock.told(lack, phase),
    )


def search_files(section: Decode | None) -> dict[str, Path]:
    """Return the files that the options of ESPnet's beam search name, by option."""
    if section is None or section.method != "beam":
        return {}
    return named_files(section.args)


def _settings(section: Decode) -> dict:
    """What decoding depends on; what came later is told where it is not the default."""
    settings = {"method": section.method, "args": section.args}
    if section.longest_s != Decode.longest_s:
        settings["longest_s"] = section.longest_s
    return settings


def _stock(ctx: Context, files: tuple[Path, Path], data: Path, lack: str) -> str:
    section = ctx.recipe.decode
    options = section.args if section.method == "beam" else {"ctc_weight": 1.0, "beam_size": 1}
    return stock.inference("asr", files, data, ctx.exp / "decode" / "stock", options, lack)


def run(ctx: Context, plan: Plan) -> None:
    """Write ``text`` and ``decode.json`` of each set; count in = count out."""
    section, phase = ctx.recipe.decode, last_phase(ctx)
    config, model = ctx.phase_dir(phase) / "config.yaml", model_file(ctx, phase)
    device = "cuda" if launch.gpus(ctx.options) else "cpu"
    for name in sets_of(ctx):
        wavs = read_table(DUMP / name / main_file(ctx, name))
        if section.method in METHODS:
            result = _recognise(ctx, name, config, model, list(wavs.items()), device)
        else:
            result = load_object(section.method, "decode.method")(ctx, name)
        if result.texts.keys() != wavs.keys():
            lost = sorted(wavs.keys() - result.texts.keys())
            raise DataError(f"{len(lost)} utterances of {name} have no result", lost[:5])
        add_unusable(name, result.texts)
        with atomic_dir(out_dir(ctx, name)) as tmp:
            write_table(tmp / "text", result.texts)
            write_json(tmp / "decode.json", figures(result, model))
        say(f"  {name}: {len(wavs)} utterances, real time factor {result.rtf:.4f} on {device}")
        tell(name, result)


def figures(result: "Result", model: Path) -> dict:
    """Return what ``decode.json`` tells of the decoding of a set by the checkpoint ``model``."""
    return {
        "audio_s": round(result.audio_s, 2),
        "wall_s": round(result.wall_s, 3),
        "rtf": round(result.rtf, 5),
        "model_sha256": sha256_file(model),
        "empty": sum(not text.split() for text in result.texts.values()),
        "too_short": len(result.too_short),
        "long": len(result.long),
        doubts.KEY: doubts.of_texts(result.texts.values()),
    }


def tell(name: str, result: "Result", cut: str = "cut at pauses") -> None:
    """Say which utterances of a set are too short or long, and whether the texts look wrong."""
    for utts, what in (
        (result.too_short, "too short for the model: their hypotheses are empty"),
        (result.long, f"longer than decode.longest_s: {cut}"),
    ):
        if utts:
            shown = ", ".join(utts[:5]) + (", ..." if utts[5:] else "")
            say(f"  {name}: {len(utts)} utterances {what} ({shown})")
    if doubt := doubts.of_texts(result.texts.values()):
        say(f"  WARNING: {name}: {doubt}")


def add_unusable(name: str, texts: dict[str, str]) -> None:
    """Give an empty text to what format left out of a set, so that no test is made easier."""
    from espnet_ext.data.format_write import read_dropped

    dropped = {u: why for u, why in read_dropped(DUMP / name).items() if u not in texts}
    texts.update(dict.fromkeys(dropped, ""))
    if dropped:
        say(f"  {name}: {len(dropped)} utterances without usable audio count as empty, e.g. "
            + ", ".join(f"{u} ({why})" for u, why in list(dropped.items())[:3]))  # fmt: skip


def _recognise(
    ctx: Context, name: str, config: Path, model: Path, wavs: list[tuple[str, str]], device: str
) -> "Result":
    from espnet_ext.espnet.decode import decode, merge
    from espnet_ext.recipe.executor import make_executor

    section = ctx.recipe.decode
    beam = section.args if section.method == "beam" else None
    fixed = (str(config), str(model), beam, section.batch_s, device, section.longest_s)
    jobs = ctx.options.nj or 1
    if beam is None or device == "cuda" or jobs == 1:
        return decode(*fixed, wavs, Progress(f"decode {name}"))
    # Every part loads the model once, so few large parts.
    parts = [part for i in range(2 * jobs) if (part := wavs[i :: 2 * jobs])]
    with make_executor(ctx.options) as executor:
        return merge(executor.map(partial(decode, *fixed), parts))
