# SPDX-License-Identifier: Apache-2.0
"""The trainings that method_cost.py compares: each method's updates, and those of its baseline.

All have the configurations of the embedded recipes (egs2/synth) and get generated inputs of the
size of their batches: utterances of three seconds of noise with random targets, or made-up texts.
"""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bl_just_step
import dual_task_step
import ml_lmcl_step
import numpy as np
import torch
import weak_align_step
import yaml
from torch import nn

SYNTH = Path(__file__).resolve().parents[1] / "egs2/synth"
SECONDS, TOKENS, CLASSES = 3.0, weak_align_step.TOKENS, 348  # tied states, as on AN4
CLIP = 5.0
ML_LMCL_TEXTS = 400


@dataclass
class Update:
    """One kind of update of a method, or of its baseline.

    Attributes:
        method: The method that it belongs to.
        name: For the table.
        step: Does one update.
        model: What is trained.
        used: Parameters that inference reads, by name; None for all.
        per_labelled: How many of them the recipe makes for each labelled update; 0 for the
            baseline's.
    """

    method: str
    name: str
    step: Callable[[], Any]
    model: nn.Module
    used: set[str] | None = None
    per_labelled: float = 1.0

    def millions(self) -> tuple[float, float, float]:
        """Return millions of parameters: trained, in the checkpoint, read by inference."""
        sizes = {n: (p.numel() / 1e6, p.requires_grad) for n, p in self.model.named_parameters()}
        used = sizes.keys() if self.used is None else self.used
        trained = sum(size for size, train in sizes.values() if train)
        stored = sum(size for size, _ in sizes.values())
        return trained, stored, sum(size for name, (size, _) in sizes.items() if name in used)


def conf_of(recipe: str, name: str) -> dict[str, Any]:
    """Return a training configuration of an embedded recipe."""
    return yaml.safe_load((SYNTH / recipe / "conf" / name).read_text(encoding="utf-8"))


def sound_of(conf: dict[str, Any], classes: int = 2) -> dict[str, torch.Tensor]:
    """Return a batch as large as the configuration says, with labels of frames."""
    count = conf["batch_size"] if "batch_bins" not in conf else 0
    count = count or round(conf["batch_bins"] / (16000 * SECONDS))
    return weak_align_step.batch_of(count, SECONDS, classes)


def without(batch: dict[str, Any], part: str) -> dict[str, Any]:
    """Return a batch without what has this in its name."""
    return {k: v for k, v in batch.items() if part not in k}


def names_of(model: nn.Module) -> set[str]:
    """Return the names of a model's parameters."""
    return {name for name, _ in model.named_parameters()}


def weak_align(folder: Path) -> list[Update]:
    """Weak alignment: ESPnet's loss alone, and with the auxiliary one."""
    conf = conf_of("weak_align1", "train.yaml")
    stock, weak = (weak_align_step.build(conf, s, CLASSES, folder)[0] for s in ("stock", "weak"))
    batch = sound_of(conf, CLASSES)
    plain = weak_align_step.stepper(stock, without(batch, "align"), "cpu")
    both = weak_align_step.stepper(weak, batch, "cpu")
    return [
        Update("weak_align", "baseline", plain, stock, None, 0.0),
        Update("weak_align", "with alignments", both, weak, names_of(stock)),
    ]


def bl_just(folder: Path) -> list[Update]:
    """BL-JUST: labelled batches alone; exploration, and joint updates. All batches are alike."""
    path = SYNTH / "bl_just1/conf/train.yaml"
    conf = conf_of("bl_just1", path.name)
    section = conf.pop("bl_just")
    stock, _ = weak_align_step.build(conf, "stock", 0, folder)
    batch = without(sound_of(conf), "align")
    bl_just_step.write_corpus(folder, 16, 16)
    setup = bl_just_step.set_up(folder, section["unsup_loss"], 0, path)
    unlabelled = {f"u_{k}": v for k, v in batch.items() if k.startswith("speech")}
    works = bl_just_step.works_of(setup, batch | unlabelled)
    # An exploration is a pass over the unlabelled data, a joint phase one over the labelled.
    recipe = yaml.safe_load((SYNTH / "bl_just1/recipe.yaml").read_text(encoding="utf-8"))
    argv = recipe["prepare"]["args"]
    labelled = float(argv[argv.index("--labelled-fraction") + 1])
    used, plain = names_of(stock), weak_align_step.stepper(stock, batch, "cpu")
    return [
        Update("bl_just", "supervised", plain, stock, None, 0.0),
        Update("bl_just", "exploration", works["g"], setup.model, used, 1 / labelled - 1),
        Update("bl_just", "joint", works["joint"], setup.model, used),
    ]


def ml_lmcl(folder: Path) -> list[Update]:
    """ML-LMCL: cross-entropy on ASR text; contrastive stage, teachers, both classifiers."""
    from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
    from espnet_ext.ml_lmcl.options import resolve
    from espnet_ext.text.tokenizer import read_about

    ml_lmcl_step.quiet()
    pairs = ml_lmcl_step.sentences(None, ML_LMCL_TEXTS)
    corpus = ml_lmcl_step.make_corpus(folder / "encoder", "synth", pairs)
    first, second = (conf_of("ml_lmcl1", f"{x}.yaml") for x in ("midtrain", "finetune"))
    chosen = np.arange(second["batch_size"])
    texts = corpus.batch(chosen)
    base, both = (ml_lmcl_step.Stage2(corpus, {"preset": p}) for p in ("ce_asr", "ml_lmcl"))
    contrastive = ContrastiveNetwork(
        resolve({"preset": "ml_lmcl"}), corpus.folder, read_about(corpus.folder)
    )
    stage1 = ml_lmcl_step.stage1_stepper(contrastive)
    one = {n for n in names_of(both.network) if n.startswith("models.asr.")}
    both.refresh(chosen, texts)
    return [
        Update("ml_lmcl", "cross-entropy", lambda: base.step(chosen, texts, full=False),
               base.network, None, 0.0),
        Update("ml_lmcl", "stage 1", lambda: stage1(texts), contrastive, set(),
               first["max_epoch"] / second["max_epoch"]),
        Update("ml_lmcl", "teachers", lambda: both.refresh(chosen, texts), both.network, one),
        Update("ml_lmcl", "stage 2", lambda: both.step(chosen, texts), both.network, one),
    ]  # fmt: skip


def dual_task(folder: Path) -> list[Update]:
    """The dual task: the SLU loss alone, and with that of the sentence vectors."""
    slu, dual = (dual_task_step.set_up(folder, "small", s) for s in ("slu", "dual"))
    count = conf_of("dual_task1", "finetune.yaml")["batch_size"]
    batch = dual_task_step.make_batch([SECONDS] * count, dual_task_step.SIZES["small"][1])
    plain = without(batch, "sentence")
    # The head of sentence vectors stays in both: embeddings are made with it.
    return [
        Update("dual_task", "SLU alone", lambda: slu.step(plain), slu.model, None, 0.0),
        Update("dual_task", "dual", lambda: dual.step(batch), dual.model),
    ]


MULTISTAGE = {
    "pretrain": "espnet_ext.multistage.task:PretrainTask",
    "midtrain": "espnet_ext.multistage.translation.task:TranslationTask",
    "finetune": "espnet_ext.multistage.recognition.task:RecognitionTask",
}


def multistage(folder: Path) -> list[Update]:
    """Multi-stage training: recognition from scratch; clips, translation, a frozen encoder."""
    confs = {phase: conf_of("multistage1", f"{phase}.yaml") for phase in MULTISTAGE}
    count = confs["finetune"]["batch_size"]
    sound = without(sound_of(confs["finetune"]), "align")
    spoken = without(sound, "text")
    clips = confs["pretrain"]["multistage"]
    shape = (count, clips["frames"], clips["size"], clips["size"], 3)
    video = {"video": torch.randint(0, 256, shape, dtype=torch.uint8)}
    # As in training, a frozen encoder's output is kept by utterance.
    read = {**sound, "utt_id": [f"u{i}" for i in range(count)]}
    scratch = {**confs["finetune"], "multistage": {"freeze": "none"}}
    updates = {p: c["max_epoch"] * c["num_iters_per_epoch"] for p, c in confs.items()}

    def made(phase: str, conf: dict, batch: dict, name: str, used: set | None = None) -> Update:
        model = _built(MULTISTAGE[phase], conf, folder)
        share = updates[phase] / updates["finetune"] if conf is not scratch else 0.0
        return Update("multistage", name, _stepper(model, batch), model, used, share)

    return [
        made("finetune", scratch, read, "from scratch"),
        made("pretrain", confs["pretrain"], {**spoken, **video}, "stage 1, clips", set()),
        made("midtrain", confs["midtrain"], sound, "stage 2, translation", set()),
        made("finetune", confs["finetune"], read, "stage 3, frozen"),
    ]


def _built(task_name: str, conf: dict, folder: Path) -> nn.Module:
    from espnet_ext.espnet.task import find_task
    from espnet_ext.espnet.train import parse

    names = ["<blank>", "<unk>", *(f"t{i}" for i in range(TOKENS - 3)), "<sos/eos>"]
    (folder / "tokens.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    (folder / "train.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    task = find_task(task_name)
    argv = ["--config", str(folder / "train.yaml"), "--output_dir", str(folder)]
    argv += ["--token_list", str(folder / "tokens.txt"), "--token_type", "word"]
    args = parse(task, argv)
    torch.manual_seed(1)
    with contextlib.redirect_stdout(io.StringIO()):
        getattr(task, "settle", lambda args: None)(args)
        model = task.build_model(args)
    return model.train()


def _stepper(model: nn.Module, batch: dict[str, Any]) -> Callable[[], None]:
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=1e-5)

    def step() -> None:
        optimiser.zero_grad()
        model(**batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimiser.step()

    return step


METHODS = {f.__name__: f for f in (weak_align, bl_just, ml_lmcl, dual_task, multistage)}
