# SPDX-License-Identifier: Apache-2.0
"""The folder of a dual-task recipe after training: data, sentence vectors, two models."""

import contextlib
from pathlib import Path

import torch
import yaml
from tiny_text import make_bert

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.dual_task.load import load_model
from espnet_ext.espnet import checkpoint, train
from espnet_ext.recipe import config
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context, find
from espnet_ext.text.sentence import SentenceEncoder
from espnet_ext.text.sentence_store import build_store

WIDTH = 6
TASK = "espnet_ext.dual_task.task"
SURE = 1000.0
MODEL = "valid.loss.best.pth"
FRENCH, ITALIAN = ("abc c", "ab", "a b", "ba c"), ("doppia", "roma", "camera", "le")
ROWS = [f"m{i}\t{language}\t{text}" for language, texts in (("fr", FRENCH), ("it", ITALIAN))
        for i, text in enumerate(texts)]  # fmt: skip


def make(root: Path, data: Path, argv: list[str]) -> Path:
    """Train a phase pretrain, and from it finetune and a model without SLU layers; return root."""
    root.mkdir(parents=True)
    for name in ("train", "valid"):
        for part in ("data", "dump"):
            (root / part / name).mkdir(parents=True)
            for file in ("wav.scp", "text", "plain", "utt2lang"):
                (root / part / name / file).write_bytes((data / name / file).read_bytes())
        plain = read_table(data / name / "plain")
        meanings = {u: f"m{FRENCH.index(text)}" for u, text in plain.items()}
        write_table(root / "data" / name / "meaning", meanings)
    table = ["meaning\tlanguage\ttext", *ROWS]
    (root / "data/candidates.tsv").write_text("\n".join(table), encoding="utf-8")
    make_bert(root / "data/sentence_encoder", width=WIDTH)
    with contextlib.chdir(root):
        encoder = SentenceEncoder("data/sentence_encoder", "mean")
        build_store("dump/sentences", [*FRENCH, *ITALIAN], encoder)
        argv = [*argv, "--dual_task", "sentences=dump/sentences", "--max_epoch", "1"]
        phase(argv, "pretrain", "PretrainTask")
        for name, options in (("base", ()), ("stock", ("blstm_layers=0", "linear_blocks=0"))):
            given = [x for o in options for x in ("--dual_task", o)]
            init = ["--init_param", f"exp/base/pretrain/{MODEL}:encoder:encoder",
                    f"exp/base/pretrain/{MODEL}:pooling:pooling"]  # fmt: skip
            phase([*argv, *given, *init], "finetune", "DualTask", name)
    return root


def phase(argv: list[str], name: str, task: str, exp: str = "base") -> None:
    out = Path("exp") / exp / name
    train.run(f"{TASK}:{task}", [*argv, "--output_dir", str(out)])
    if name == "finetune":
        _make_sure(out)


def _make_sure(out: Path) -> None:
    """Let a model say much and be sure of it: one epoch has taught it nothing.

    Its scores are centred and enlarged; then the greedy and the beam search agree.
    """
    path = (out / MODEL).resolve()
    model, _ = load_model(out / "config.yaml", path)
    speech = 0.1 * torch.randn(1, 32000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        hidden = model.slu_hidden(*model.encode(speech, torch.tensor([32000])))
        mean = model.ctc.ctc_lo(hidden).mean((0, 1))
    state = checkpoint.load(path)
    state["ctc.ctc_lo.bias"] = SURE * (state["ctc.ctc_lo.bias"] - mean)
    state["ctc.ctc_lo.bias"][-1] = -1e6  # the end of a sentence, which CTC does not write
    state["ctc.ctc_lo.weight"] *= SURE
    torch.save(state, path)


def context(stage: str, name: str = "base", **sections: object) -> Context:
    """Return what a stage is given in the current folder."""
    Path("conf").mkdir(exist_ok=True)
    section = {"dual_task": {"samu_scale": 1, "samu_reduce": "mean", "sentences": "dump/sentences"}}
    Path("conf/train.yaml").write_text(yaml.safe_dump(section))
    phases = {"config": "conf/train.yaml", "model": MODEL}
    content = {
        "recipe": "toy/dual_task1",
        "name": name,
        "data": {"train": "train", "valid": "valid", "test": []},
        "pretrain": {**phases, "task": f"{TASK}:PretrainTask"},
        "finetune": {**phases, "task": f"{TASK}:DualTask", "init": ["pretrain:encoder:encoder"]},
        "decode": {"code": "espnet_ext.dual_task.stages.decode"},
        "pack": {"code": "espnet_ext.dual_task.stages.pack"},
        **sections,
    }
    Path("recipe.yaml").write_text(yaml.safe_dump(content))
    return Context(config.load(Path("recipe.yaml")), Options(ngpu=0), find(stage))
