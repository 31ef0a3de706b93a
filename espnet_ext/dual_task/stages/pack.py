# SPDX-License-Identifier: Apache-2.0
"""Stage 10: one archive of the final model, and the lines that use it.

A model without layers between encoder and CTC loads in stock ESPnet, which knows no embeddings. One
with a Bi-LSTM or linear layers does not: stock ESPnet refuses it, and it loads by our own lines.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from espnet_ext.dual_task.options import SECTION, resolve
from espnet_ext.errors import DataError, EspnetExtError
from espnet_ext.espnet.stock import lacks_of, refusal
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import pack as standard
from espnet_ext.recipe.steps.decode import last_phase
from espnet_ext.recipe.steps.train import model_file
from espnet_ext.settings import Limits, build
from espnet_ext.text import sentence_layout
from espnet_ext.text.sentence_store import ABOUT, read_about
from espnet_ext.yamlfile import read_section

OWN_LAYERS = "slu."  # names of parameters between encoder and CTC
_PROBES_S = (1.0, 1.6)


@dataclass(frozen=True)
class PackArgs:
    """``pack.args`` of recipe.yaml.

    Attributes:
        sentence_encoder_mb: A sentence encoder of up to so many MB travels in the archive; of a
            larger one the archive has the name and the fingerprint.
    """

    sentence_encoder_mb: Annotated[int, Limits(at_least=0)] = 64


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args = build(PackArgs, ctx.recipe.pack.args, "recipe.yaml", "pack.args")
    whole = standard.plan(ctx)
    whole.settings["sentence_encoder_mb"] = args.sentence_encoder_mb
    about = _store(whole.needs[0]) / ABOUT
    whole.inputs = [*whole.needs, *([about] if about.exists() else [])]
    whole.disk_mb += args.sentence_encoder_mb
    return whole


def run(ctx: Context, plan: Plan) -> None:
    """Pack the model, and check that the archive answers as the model in ``exp`` does.

    Raises:
        EspnetExtError: The model seems to recognise nothing, and ``--force`` is not given; or stock
            ESPnet would load it without all of its layers; or the archive answers otherwise.
    """
    from espnet_ext.espnet.pack import pack_asr

    doubts.refuse(ctx)
    config, model, out = *plan.needs[:2], standard.archive(ctx)
    stock = check_stock(config, model)
    named = [*standard.named_files(ctx, config), *_sentences(config, plan)]
    pack_asr(config, model, named, out)
    check(plan, out)
    say(f"  {out}: {out.stat().st_size / 1e6:.1f} MB")
    told = "stock ESPnet loads it, without the embeddings" if stock else refusal(lacks_of(config))
    say(f"  {told}")


def check_stock(config: Path, model: Path) -> bool:
    """Return whether stock ESPnet loads all that it needs to recognise as our own lines do.

    Raises:
        EspnetExtError: It would load the model with layers missing.
    """
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.checkpoint import load

    layers = sorted(name for name in load(model) if name.startswith(OWN_LAYERS))
    taken = not lacks_of(config)
    if layers and taken:
        raise EspnetExtError(
            f"stock ESPnet would load this model without {len(layers)} tensors, e.g. {layers[0]}",
            config, f"its 'model:' must be {SECTION}: train again with this version",
        )  # fmt: skip
    if taken:
        from espnet_ext.espnet.verify import verify_stock

        fastimport.enable()
        verify_stock(config, model)
    return taken


def _store(config: Path) -> Path:
    """Return the folder of the sentence vectors."""
    if not config.exists():  # the plan of a phase that is still to be trained
        return Path(resolve(None).sentences)
    values = read_section(config, "a training's configuration", DataError)
    section = {k: v for k, v in (values.get(SECTION) or {}).items() if k != "resolved"}
    return Path(resolve(section).sentences)


def _sentences(config: Path, plan: Plan) -> list[Path]:
    """Return what tells of the sentence encoder, and the encoder itself if it is small."""
    store = _store(config)
    if not (store / ABOUT).is_file():
        return []
    encoder = Path(read_about(store).source)
    files = sentence_layout.files(encoder) if encoder.is_dir() else []
    small = sum(p.stat().st_size for p in files) <= 1e6 * plan.settings["sentence_encoder_mb"]
    return [store / ABOUT, *(files if small else [])]


def check(plan: Plan, packed: Path) -> None:
    """Check that an archive, or a folder with its files, answers as the model in ``exp`` does.

    Raises:
        EspnetExtError: It does not.
    """
    import numpy as np

    from espnet_ext.dual_task.load import load_model
    from espnet_ext.dual_task.understand import SpeechUnderstander

    config, model = plan.needs[:2]
    here = SpeechUnderstander(*load_model(config, model))
    there = SpeechUnderstander.from_pretrained(packed)
    rng = np.random.default_rng(0)
    probes = [0.1 * rng.standard_normal(round(s * here.fs)).astype(np.float32) for s in _PROBES_S]
    for one, two in zip(here(probes), there(probes), strict=True):
        same = (one.embedding is None) == (two.embedding is None)
        same = same and (one.embedding is None or np.array_equal(one.embedding, two.embedding))
        if not same or one.tagged != two.tagged:
            raise EspnetExtError(
                "the packed model answers otherwise than the trained one", packed,
                "pack it again; if it stays, train again with this version",
            )  # fmt: skip


def usage(ctx: Context) -> list[str]:
    """Return the lines that use the trained model; those of stock ESPnet where it loads it."""
    path = standard.archive(ctx).resolve()
    quoted = shlex.quote(str(path))
    config = model_file(ctx, last_phase(ctx)).parent / "config.yaml"
    lines = [
        "the trained model in Python:",
        "import soundfile; from espnet_ext.dual_task.understand import SpeechUnderstander",
        f'understand = SpeechUnderstander.from_pretrained("{path}")',
        'print(understand([soundfile.read("speech.wav")[0]])[0].concepts)',
        f"and in the shell: espnet-ext decode --model {quoted} speech.wav",
        f"sentences like it: espnet-ext embed --model {quoted} speech.wav --retrieve texts.txt",
    ]
    stock = config.is_file() and not lacks_of(config)
    return [*lines, *standard.usage(ctx)] if stock else lines
