# SPDX-License-Identifier: Apache-2.0
"""One short run of the branch on a few utterances of the corpus, from data to score."""

import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.installation import install
from espnet_ext.upstream.checks import FAILED, MISSING, NOT_RUN, OK, Branch, Check, installed, run
from espnet_ext.upstream.dynamic import Copy, lacking
from espnet_ext.upstream.plan import Plan
from espnet_ext.upstream.templating import template
from espnet_ext.yamlfile import read

NAME = "a short run from data to score"
UTTERANCES = {"train": 120, "valid": 12}  # of others as many as of valid
BATCHES = 10  # of each epoch
EPOCHS = 2  # the model of the first one is averaged at the end of the second
TEXTGRID = """item [1]:
    name = "phones"
    intervals: size = 2
    intervals [1]:
        xmin = 0
        xmax = 0.2
        text = ""
    intervals [2]:
        xmin = 0.2
        xmax = 30
        text = "AH0"
"""


def smoke(branch: Branch, plan: Plan, wanted: bool) -> Check:
    """Run the stages ``create_dataset`` to ``measure`` on a part of the corpus.

    Args:
        branch: What is checked.
        plan: The recipe.
        wanted: Whether it was asked for.
    """
    variable = plan.recipe.corpus.env or plan.corpus.upper()
    if plan.corpus != "an4":
        variable += "_DATA"
    if not wanted:
        return Check(NAME, NOT_RUN, f"--smoke runs it, with {variable}=/path")
    if not os.environ.get(variable):
        return Check(NAME, FAILED, f"{variable} is not set: it names the data")
    if lack := lacking():
        return Check(NAME, MISSING, install(*lack))
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(branch, Path(folder))
        note = _labels(copy, plan, Path(folder)) if plan.align else ""
        short = _shortened(copy)
        for names in (
            ("create_dataset", "train_tokenizer"),
            ("collect_stats",),
            ("train",),
            ("infer", "measure"),
        ):
            status, text = copy.stages(names)
            if status:
                return Check(NAME, FAILED, f"{' '.join(names)}:\n{text}")
            if "create_dataset" in names:
                _cut_manifests(copy.recipe / "data" / "manifest")
        scores = _scores(copy.recipe)
        status, text = _stock(copy, short)
        if status:
            return Check(NAME, FAILED, f"stock ESPnet does not load the weights:\n{text}")
    if not installed("editdistance"):
        note += "; no error rates during training (editdistance is not installed)"
    told = f"{scores}; stock ESPnet loads {text.splitlines()[-1]} of the averaged model"
    return Check(NAME, OK, f"{told}{note}")


def _labels(copy: Copy, plan: Plan, folder: Path) -> str:
    """Give the labels; where there are none, stand-ins that only show that the code runs."""
    variable = f"{plan.recipe.corpus.env or plan.corpus.upper()}_ALIGNMENT"
    if os.environ.get(variable):
        return ""
    own = plan.folder / "dump"
    if any(own.glob("*/align/targets.scp")):
        copy.branch = replace(copy.branch, environment={**copy.branch.environment,
                                                        variable: str(own)})  # fmt: skip
        return ""
    stand_in = folder / "alignment"
    stand_in.mkdir()
    environment = {**copy.branch.environment, variable: str(stand_in)}
    copy.branch = replace(copy.branch, environment=environment)
    code = (
        f"from {plan_package(copy)}.dataset import builder as b; from pathlib import Path;"
        "s = b.read_splits(b.resolve_source(Path('.')), b.load_recipe_config()['builder']);"
        "print('\\n'.join(e.utt_id for k in ('train', 'valid') for e in s[k]))"
    )
    _, ids = run(copy.branch, [sys.executable, "-c", code], cwd=copy.recipe)
    for utt_id in ids.split():
        (stand_in / f"{utt_id}.TextGrid").write_text(TEXTGRID, encoding="utf-8")
    return f"; labels are made up ({variable} is not set)"


def plan_package(copy: Copy) -> str:
    """Return the package of the recipe."""
    return ".".join(copy.recipe.relative_to(copy.folder).parts)


def _shortened(copy: Copy) -> str:
    """Make the training short; return the file name of the model that inference takes."""

    def short(config: dict[str, Any]) -> None:
        config["trainer"].update(
            max_epochs=EPOCHS,
            limit_train_batches=BATCHES,
            limit_val_batches=4,
            num_sanity_val_steps=0,
        )
        if not installed("editdistance"):  # ESPnet's error rates during training need it
            config["model"]["model_conf"].update(report_cer=False, report_wer=False)
            config["best_model_criterion"] = [["valid/loss", 1, "min"]]

    training = _changed(copy.recipe / "conf/training.yaml", short)
    monitor = training["best_model_criterion"][0][0]
    name = f"{monitor.replace('/', '.')}.ave_1best.pth"

    def fewer(config: dict[str, Any]) -> None:
        config["model"]["asr_model_file"] = f"${{exp_dir}}/{name}"
        config["dataset"]["test"] = config["dataset"]["test"][-1:]

    _changed(copy.recipe / "conf/inference.yaml", fewer)
    return name


def _changed(path: Path, change: Any) -> dict[str, Any]:
    config = read(path)
    change(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return config


def _cut_manifests(folder: Path) -> None:
    for path in folder.glob("*.tsv"):
        count = UTTERANCES.get(path.stem, UTTERANCES["valid"])
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:count]), encoding="utf-8")


def _scores(recipe: Path) -> str:
    """Return what ``measure`` wrote, e.g. ``WER 98.1``."""
    found = json.loads((recipe / "exp/training/inference/metrics.json").read_text("utf-8"))
    values = []
    for metric, sets in found.items():
        for numbers in sets.values():
            values += [f"{metric.rsplit('.', 1)[-1]} {v:.1f}" for v in numbers.values()]
    return ", ".join(values) or "scores written"


def _stock(copy: Copy, name: str) -> tuple[int, str]:
    script = copy.folder / "stock_load.py"
    script.write_text(template("stock_load.py", {}), encoding="utf-8")
    experiment = copy.recipe / "exp/training"
    command = [sys.executable, str(script), str(experiment / "config.yaml"),
               str(experiment / name)]  # fmt: skip
    return run(copy.branch, command, cwd=copy.recipe)
