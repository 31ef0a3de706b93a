# SPDX-License-Identifier: Apache-2.0
"""What is sent: a recipe, read and judged. Refuses, with the reason, what has no place upstream."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_ext import yamlfile
from espnet_ext.errors import UsageError
from espnet_ext.recipe import config as recipe_config
from espnet_ext.recipe.schema import Phase, Recipe
from espnet_ext.scoring.record import Record, load_records

ASR, WEAK_ALIGN = "asr", "weak_align"
METHODS = {"asr": ASR, "espnet_ext.weak_align.task:WeakAlignTask": WEAK_ALIGN}
OWN_CORPORA = ("synth", "manifest")
# Why the other methods cannot go yet, by the room of their task.
REASONS = {
    "bl_just": (
        "bl_just adds a second loss on a second, unlabelled stream to the same encoder, with a "
        "penalty that grows. espnet3 has one training loader, and its manual optimisation wants "
        "an optimiser with parameters of its own for each loss: it would need a LightningModule "
        "and a loader that do not exist there yet"
    ),
    "ml_lmcl": (
        "ml_lmcl classifies text: no task class of the release fits it "
        "(espnet2's cls task takes audio, espnet3 has ASR and TTS systems only)"
    ),
    "dual_task": (
        "dual_task fine-tunes a Hugging Face sentence encoder of speech with a schedule, freezing "
        "and an Adam state of its own: espnet3 has no system for SLU or for speech embeddings yet"
    ),
    "multistage": (
        "multistage is a chain of three trainings, the first on video: a recipe of espnet3 is one "
        "training, and the release has no audio-visual pre-training task"
    ),
}
_WHAT_FITS = "recipes of asr1 and weak_align1 can be sent: egs2/an4/asr1, egs2/an4/weak_align1"


@dataclass(frozen=True)
class Plan:
    """A recipe that can be sent.

    Attributes:
        folder: Of the recipe.
        recipe: recipe.yaml.
        phase: Its one training.
        config: ESPnet's training options with those of recipe.yaml over them.
        method: ``asr`` or ``weak_align``.
        corpus: Folder below ``egs3/``, e.g. ``an4``.
        layout: ``egs3`` or ``egs2``.
        records: Run records, the only source of numbers.
        align: Options of the auxiliary loss, of weak_align.
    """

    folder: Path
    recipe: Recipe
    phase: Phase
    config: dict[str, Any]
    method: str
    corpus: str
    layout: str
    records: list[Record]
    align: dict[str, Any] = field(default_factory=dict)

    @property
    def branch(self) -> str:
        """Name of the branch."""
        return f"ext/{self.corpus}-{self.method}"

    @property
    def test_sets(self) -> list[str]:
        """Names of the test sets as splits of the data."""
        return [name.replace("-", "_") for name in self.recipe.data.test]


def recipe_folder(given: str, start: Path, root: Path) -> Path:
    """Return the folder of a recipe, given as a path or as ``corpus/method1``.

    Args:
        given: By the user.
        start: What a relative path is meant from.
        root: The folder that holds ``egs2``.

    Raises:
        UsageError: There is no recipe.yaml.
    """
    tried = [start / given, root / given, root / "egs2" / given]
    for folder in tried:
        if (folder / "recipe.yaml").is_file():
            return folder.resolve()
    raise UsageError("there is no recipe.yaml", tried[0], "RECIPE is a folder, or e.g. an4/asr1")


def plan(folder: Path, layout: str) -> Plan:
    """Read a recipe.

    Raises:
        UsageError: It cannot be sent; the message says why.
    """
    recipe = recipe_config.load(folder / "recipe.yaml")
    corpus = folder.parent.name
    if corpus in OWN_CORPORA:
        raise UsageError(
            f"'{corpus}' is no corpus that others could get", folder,
            "send the recipe of a real corpus",
        )  # fmt: skip
    phase, method = _judged(recipe, folder)
    config = yamlfile.read(folder / phase.config)
    for key, value in {**recipe.args, **phase.args}.items():
        config[key] = {**config[key], **value} if _both_sections(config.get(key), value) else value
    results = folder / "results"
    records = load_records(results) if results.is_dir() else []
    align = _align_conf(config.pop("aux", {}), records, folder) if method == WEAK_ALIGN else {}
    return Plan(folder, recipe, phase, config, method, corpus, layout, records, align)


def _judged(recipe: Recipe, folder: Path) -> tuple[Phase, str]:
    """Return the training and the method, or say why there is no place for them."""
    phases = recipe.phases
    for phase in phases.values():
        room = phase.task.split(":")[0].split(".")[1] if "." in phase.task else phase.task
        if room in REASONS:
            raise UsageError(f"not yet: {REASONS[room]}", folder, _WHAT_FITS)
    if list(phases) != ["finetune"]:
        names = ", ".join(phases) or "none"
        raise UsageError(f"a recipe of ESPnet is one training, not: {names}", folder, _WHAT_FITS)
    phase = phases["finetune"]
    if phase.task not in METHODS:
        raise UsageError(f"not yet: there is no mapping of task {phase.task}", folder, _WHAT_FITS)
    if phase.init:
        raise UsageError(
            "the training starts from another model, which upstream does not have", folder,
            "finetune.init must be empty",
        )  # fmt: skip
    if recipe.tokens is None or recipe.tokens.type != "bpe" or recipe.tokens.file:
        raise UsageError(
            "ESPnet3 trains sentencepiece tokenizers only", folder / "recipe.yaml",
            "tokens: {type: bpe, size: N}",
        )  # fmt: skip
    return phase, METHODS[phase.task]


def _both_sections(below: Any, above: Any) -> bool:
    return isinstance(below, dict) and isinstance(above, dict)


def _align_conf(aux: dict[str, Any], records: list[Record], folder: Path) -> dict[str, Any]:
    """Return ``model_conf.align_conf``: one frame loss, and what is known of the labels."""
    from espnet_ext.plugin import load_object

    conf = load_object("espnet_ext.weak_align.presets:resolve", "aux")(aux)
    kinds = [loss.type for loss in conf.losses]
    if kinds != ["frame_ce"] or conf.alternation is not None or conf.label_source != "aligned":
        raise UsageError(
            f"the first contribution has one loss, frame_ce on the aligned labels; preset "
            f"'{conf.preset}' has: {', '.join(kinds) or 'none'}",
            folder, "finetune.args.aux.preset weak_tri, one_hot or one_hot_weighted",
        )  # fmt: skip
    if conf.unit != "triphone":
        raise UsageError(
            "labels of our aligner are read as tied triphone states", f"{folder}, aux.unit",
            "unit: triphone; TextGrids give phones upstream",
        )  # fmt: skip
    loss = conf.losses[0]
    if loss.head_layers != 1 or loss.head_norm:
        raise UsageError(
            "the head upstream is one linear layer, as in the paper", f"{folder}, aux",
            "head_layers: 1, head_norm: false",
        )  # fmt: skip
    same = ("weight", "smoothing", "smoothing_form", "label_rule", "normalise", "silence")
    return {
        **_label_facts([r for r in records if r.group == conf.preset] or records, folder),
        "layer": loss.layer,
        **{key: getattr(loss, key) for key in same},
    }


def _label_facts(records: list[Record], folder: Path) -> dict[str, Any]:
    """Return what the header of the labels says, if they are there, else what the records say.

    Records of several numbers of classes are of several labels: which are meant is left open.
    """
    from espnet_ext.plugin import load_object

    beside = load_object("espnet_ext.weak_align.header:header_beside", "aux")
    header = beside(folder / "dump" / "train" / "align")
    keys = ("num_classes", "frame_shift_s", "first_frame_centre_s", "silence_ids")
    if header.is_file():
        facts = json.loads(header.read_text(encoding="utf-8"))
        return {key: facts[key] for key in keys if key in facts}
    known = {r.alignment["num_classes"] for r in records if "num_classes" in r.alignment}
    return {"num_classes": known.pop() if len(known) == 1 else "???"}
