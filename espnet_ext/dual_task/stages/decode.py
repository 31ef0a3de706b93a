# SPDX-License-Identifier: Apache-2.0
"""Stage 8: concepts of each set by the final model, and how much of the meaning its encoder keeps.

A set's folder gets ``text`` (tagged), ``concepts.jsonl`` (with times), ``embeddings.npy`` and
``embeddings.utts`` (the utterance of each row), ``retrieved`` and ``retrieved_other`` (meaning of
the nearest sentence of the same language, and of the others), ``cosine`` (to the own sentence) and
``decode.json``. ``before_retrieved``, ``before_retrieved_other`` and ``before_cosine`` are those of
the model that the final phase started from: they show what SLU training does to the encoder.
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.dual_task.options import SECTION, resolve
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_dir, sha256_file, write_json, write_text
from espnet_ext.recipe.console import Progress, say
from espnet_ext.recipe.stages import Context, Plan, find
from espnet_ext.recipe.steps import decode, launch
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.streams import main_file
from espnet_ext.recipe.steps.train import init_params, model_file, training_config
from espnet_ext.settings import Limits, build

if TYPE_CHECKING:
    import numpy as np

    from espnet_ext.dual_task.understand import SpeechUnderstander, Understood
    from espnet_ext.espnet.decode import Result

BEFORE = "before_"
CUT = "the encoder sees them in pieces"


@dataclasses.dataclass(frozen=True)
class DecodeArgs:
    """``decode.args`` of recipe.yaml.

    Attributes:
        retrieval: Measure what the embeddings keep; it needs ``data/<set>/plain``.
        before: Measure it for the model as well that the final phase starts from; ``none``: not.
        candidates: Table ``meaning language text`` of sentences to retrieve. Without the file they
            are the distinct sentences of the set.
    """

    retrieval: bool = True
    before: Annotated[str, Limits(("auto", "none"))] = "auto"
    candidates: str = "data/candidates.tsv"


def decode_args(ctx: Context) -> DecodeArgs:
    """Return the checked settings.

    Raises:
        UsageError: A key or value is not possible.
    """
    return build(DecodeArgs, ctx.recipe.decode.args, "recipe.yaml", "decode.args")


def model_before(ctx: Context) -> Path | None:
    """Return the checkpoint that the final phase starts from; None if that is no training's."""
    args = decode_args(ctx)
    found = init_params(_final(ctx))
    if args.before == "none" or not args.retrieval or not found:
        return None
    model = Path(found[0].partition(":")[0])
    foreign = model.exists() and not (model.parent / "config.yaml").exists()
    return None if foreign else model


def _final(ctx: Context) -> Context:
    return dataclasses.replace(ctx, stage=find(decode.last_phase(ctx)))


def _store(ctx: Context) -> Path:
    """Return the folder of the sentence vectors."""
    return Path(resolve(training_config(_final(ctx)).get(SECTION)).sentences)


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args, section = decode_args(ctx), ctx.recipe.decode
    if section.method != "greedy_ctc":
        how = "decode.method: greedy_ctc"
        raise UsageError("concepts are read by the greedy search", "decode.method", how)
    before, sets = model_before(ctx), decode.sets_of(ctx)
    model = model_file(ctx, decode.last_phase(ctx))
    needs = [model, model.parent / "config.yaml"]
    needs += [before, before.parent / "config.yaml"] if before else []
    needs += [DUMP / s / main_file(ctx, s) for s in sets]
    files = ["text", "concepts.jsonl", "decode.json"]
    also = [DATA / s / f for s in sets for f in ("meaning", "utt2lang")]
    also += [Path(args.candidates), _store(ctx) / "about.json"]
    if args.retrieval:
        needs += [DATA / s / "plain" for s in sets]
        files += ["retrieved", "cosine", *([BEFORE + "cosine"] if before else [])]
    return Plan(
        needs=needs,
        makes=[decode.out_dir(ctx, s) / f for s in sets for f in files],
        inputs=[*needs, *(p for p in also if args.retrieval and p.exists())],
        settings={**dataclasses.asdict(args), "longest_s": section.longest_s},
        disk_mb=5,
        stock=[f"espnet-ext decode --model {model.parent} {DUMP / s}" for s in sets],
    )


def run(ctx: Context, plan: Plan) -> None:
    """Decode each set; count in = count out."""
    from espnet_ext.dual_task.stages.retention import Retention

    args, model = decode_args(ctx), model_file(ctx, decode.last_phase(ctx))
    device = "cuda" if launch.gpus(ctx.options) else "cpu"
    final, before = _load(ctx, model, device), model_before(ctx)
    earlier = _load(ctx, before, device) if before else None
    if earlier:
        earlier.hears = False  # only its embeddings are looked at
        earlier.check_embeds()
    known = None
    if args.retrieval:
        final.check_embeds()
        known = Retention(_store(ctx), Path(args.candidates), final.width)
    for name in decode.sets_of(ctx):
        with atomic_dir(decode.out_dir(ctx, name)) as out:
            found, cost = _understood(ctx, final, name, f"decode {name}")
            _write(out, found, final.width)
            result = _result(found, cost)
            decode.add_unusable(name, result.texts)
            write_table(out / "text", result.texts)
            told, about = [], decode.figures(result, model)
            if known:
                told.append(known.measure(name, _vectors(found), out))
            if known and earlier:
                found, _ = _understood(ctx, earlier, name, f"embed {name}")
                told.append(f"before: {known.measure(name, _vectors(found), out, BEFORE)}")
                about["before_sha256"] = sha256_file(before)
            write_json(out / "decode.json", about)
        say(f"  {name}: {len(result.texts)} utterances, real time factor {result.rtf:.4f} on "
            f"{device}")  # fmt: skip
        for line in told:
            say(f"  {name}: {line}")
        decode.tell(name, result, CUT)


def _result(found: dict[str, "Understood"], cost: tuple[float, float]) -> "Result":
    from espnet_ext.espnet.decode import Result

    utts = sorted(found, key=str.encode)
    short, long = ([u for u in utts if getattr(found[u], x)] for x in ("too_short", "long"))
    return Result({u: x.tagged for u, x in found.items()}, *cost, short, long)


def _load(ctx: Context, model: Path, device: str) -> "SpeechUnderstander":
    from espnet_ext.dual_task.load import load_model
    from espnet_ext.dual_task.understand import SpeechUnderstander

    section = ctx.recipe.decode
    loaded = load_model(model.parent / "config.yaml", model, device)
    return SpeechUnderstander(*loaded, device, section.batch_s, section.longest_s)


def _understood(
    ctx: Context, understand: "SpeechUnderstander", name: str, told: str
) -> tuple[dict[str, "Understood"], tuple[float, float]]:
    """Return the results of a set by utterance, and the seconds of its audio and of the work."""
    from espnet_ext.espnet.decode import audio_batches

    wavs = read_table(DUMP / name / main_file(ctx, name))
    progress, start = Progress(told), time.perf_counter()
    found: dict[str, Understood] = {}
    samples = 0
    for batch in audio_batches(wavs.items(), understand.fs, ctx.recipe.decode.batch_s):
        results = understand([x for _, x in batch])
        found |= {utt: result for (utt, _), result in zip(batch, results, strict=True)}
        samples += sum(len(x) for _, x in batch)
        progress(len(found), len(wavs))
    if found.keys() != wavs.keys():
        lost = sorted(wavs.keys() - found.keys())
        raise DataError(f"{len(lost)} utterances of {name} have no result", lost[:5])
    return found, (samples / understand.fs, time.perf_counter() - start)


def _vectors(found: dict[str, "Understood"]) -> dict[str, "np.ndarray"]:
    """Return embeddings ``(E,)`` by utterance in byte order, without those that have none."""
    utts = sorted(found, key=str.encode)
    return {u: x for u in utts if (x := found[u].embedding) is not None}


def _write(out: Path, found: dict[str, "Understood"], width: int) -> None:
    """Write concepts with their times, and embeddings."""
    import numpy as np

    rows = [
        {"id": u, "text": x.tagged, "words": x.words,
         "concepts": [dataclasses.asdict(c) for c in x.concepts]}
        for u, x in sorted(found.items(), key=lambda item: item[0].encode())
    ]  # fmt: skip
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(out / "concepts.jsonl", "".join(lines))
    vectors = _vectors(found)
    array = np.stack([*vectors.values()]) if vectors else np.zeros((0, width), np.float32)
    np.save(out / "embeddings.npy", array)
    write_text(out / "embeddings.utts", "".join(f"{u}\n" for u in vectors))
