# SPDX-License-Identifier: Apache-2.0
"""The four configurations of an ESPnet3 recipe."""

from typing import Any

from espnet_ext.errors import UsageError
from espnet_ext.upstream.mapping import DEVIATION, Mapped
from espnet_ext.upstream.plan import WEAK_ALIGN, Plan
from espnet_ext.upstream.yamltext import Section, dumped, rendered

ASR_TASK = "espnet3.systems.esp2_asr.task.ASRTask"
SAVE = "${tokenizer.save_path}"
METRICS = {"wer": "wer.WER", "cer": "cer.CER"}
INFERENCE_KEYS = ("beam_size", "ctc_weight", "maxlenratio", "minlenratio", "penalty", "nbest")


def note_data(plan: Plan, result: Mapped) -> None:
    """Note what the data and the tokenizer do otherwise."""
    if speeds := speeds_of(plan):
        result.deviate(
            "dataset",
            f"speed perturbation ({', '.join(f'{s:g}' for s in speeds)}) is drawn for each "
            "utterance as it is read; the records are of copies of the training set",
        )
    if plan.recipe.tokens.normalization != "nmt_nfkc":
        result.deviate(
            "tokenizer",
            "sentencepiece normalises text (nmt_nfkc); the records have "
            f"{plan.recipe.tokens.normalization}",
        )
    if plan.recipe.decode and plan.recipe.decode.method == "greedy_ctc":
        result.deviate(
            "inference",
            "CTC prefix search with a beam of 5 takes the place of the best path, which ESPnet's "
            "Speech2Text does not offer",
        )


def training(plan: Plan, result: Mapped, package: str) -> str:
    """Return ``conf/training.yaml``.

    Args:
        plan: The recipe.
        result: Its options.
        package: Of the recipe, ``egs3.<corpus>.<system>``.
    """

    def section(title: str, values: dict[str, Any], key: str = "", *more: str) -> Section:
        notes = [f"{DEVIATION} {text}" for text in result.deviations.get(key, [])]
        return Section(title, values, (*more, *notes))

    weak = plan.method == WEAK_ALIGN
    task = f"{package}.src.weak_align.task.WeakAlignTask" if weak else ASR_TASK
    top = {"task": task, "seed": plan.recipe.seed}
    head = [
        f"{plan.recipe.title}.",
        "",
        "Run `collect_stats` and `train` one after the other, not in one command.",
    ]
    return rendered(
        head,
        [
            Section("SYSTEM AND PATH SETTING", {**top, **result.top}),
            section("DATASET DEFINITION", _dataset(plan), "dataset"),
            section("TOKENIZER SETTING", _tokenizer(plan), "tokenizer"),
            section("MODEL SETTING", {"model": _model(plan, result)}, "model"),
            section("OPTIMIZER & SCHEDULER SETTING", _optimisation(result), "optimizer"),
            section(
                "OTHER TRAINING SETTING",
                {"best_model_criterion": result.criterion, "collect_stats_train_mode": False},
            ),
            section("DATALOADER SETTING", _loader(result), "dataloader"),
            section("TRAINER SETTING", {"trainer": result.trainer}, "trainer"),
        ],
    )


def _dataset(plan: Plan) -> dict[str, Any]:
    preprocessor: dict[str, Any] = {
        "_target_": "espnet2.train.preprocessor.CommonPreprocessor",
        "token_type": "bpe",
        "token_list": f"{SAVE}/tokens.txt",
        "bpemodel": f"{SAVE}/${{tokenizer.model_type}}.model",
        "text_cleaner": None,
    }
    speeds = speeds_of(plan)
    train: dict[str, Any] = {"split": "train"}
    if speeds and plan.align:
        train["speeds"] = [1.0, *speeds]
    elif speeds:
        share = 1 / len(speeds)
        preprocessor |= {
            "fs": plan.recipe.format.fs,
            "data_aug_prob": round(1 - (1 / (len(speeds) + 1)), 3),
            "data_aug_effects": [[round(share, 3), "speed_perturb", {"factor": s}] for s in speeds],
        }
    return {
        "dataset": {
            "train": [{"data_src_args": train}],
            "valid": [{"data_src_args": {"split": "valid"}}],
            "preprocessor": preprocessor,
        },
        "create_dataset": {"recipe_dir": "${recipe_dir}"},
    }


def speeds_of(plan: Plan) -> list[float]:
    """Return the speeds besides 1."""
    return [s for s in (plan.recipe.format.speeds if plan.recipe.format else []) if s != 1]


def _tokenizer(plan: Plan) -> dict[str, Any]:
    return {
        "tokenizer": {
            "vocab_size": plan.recipe.tokens.size,
            "character_coverage": 1.0,
            "model_type": plan.recipe.tokens.model_type,
            "save_path": "${data_dir}/${tokenizer.model_type}_${tokenizer.vocab_size}",
            "text_builder": {
                "func": "src.tokenizer.gather_training_text",
                "manifest_path": "${data_dir}/manifest/train.tsv",
            },
        }
    }


def _model(plan: Plan, result: Mapped) -> dict[str, Any]:
    model = {
        "vocab_size": "${tokenizer.vocab_size}",
        "token_list": f"{SAVE}/tokens.txt",
        **result.model,
    }
    if plan.method == WEAK_ALIGN:
        conf = {**result.model["model_conf"], "align_conf": plan.align}
        model |= {"model": "weak_align", "model_conf": conf}
    return model


def _optimisation(result: Mapped) -> dict[str, Any]:
    """Return optimizer and scheduler; another scheduler must not inherit the template's options."""
    if result.scheduler["_target_"].endswith(".WarmupLR"):
        values = {"optimizer": result.optimizer, "scheduler": result.scheduler}
    else:
        values = {
            "optimizer": result.optimizer,
            "scheduler_settings": result.scheduler,
            "scheduler": "${scheduler_settings}",
        }
    values["scheduler_interval"] = result.scheduler_interval
    if result.scheduler["_target_"].endswith("ReduceLROnPlateau"):
        values["scheduler_monitor"] = result.criterion[0][0]
    return values


def _loader(result: Mapped) -> dict[str, Any]:
    factory = {k: v for k, v in result.loader.items() if k != "batches"}
    return {
        "dataloader": {
            "train": {"iter_factory": {**factory, "batches": result.loader["batches"]}},
        }
    }


def inference(plan: Plan, result: Mapped, package: str) -> str:
    """Return ``conf/inference.yaml``; arguments as of :func:`training`."""
    weak = plan.method == WEAK_ALIGN
    target = f"{package}.src.weak_align.task" if weak else "espnet2.bin.asr_inference"
    decode = plan.recipe.decode
    args = dict(decode.args) if decode else {}
    if decode and decode.method == "greedy_ctc":
        args = {"beam_size": 5, "ctc_weight": 1.0}
    unknown = [key for key in args if key not in INFERENCE_KEYS]
    if unknown:
        raise UsageError(f"there is no mapping of {unknown[0]}", "decode.args", plan.folder.name)
    sets = [("valid", "valid"), *((name, name) for name in plan.test_sets)]
    tests = [{"name": name, "data_src_args": {"split": split}} for name, split in sets]
    notes = [f"{DEVIATION} {text}" for text in result.deviations.get("inference", [])]
    model = {
        "_target_": f"{target}.Speech2Text",
        "asr_train_config": "${exp_dir}/config.yaml",
        "asr_model_file": f"${{exp_dir}}/{result.average}",
        **args,
    }
    return rendered(
        ["Results go to `${exp_dir}/inference/<name>/`."],
        [
            Section("DATASET DEFINITION", {"dataset": {"test": tests}}),
            Section("MODEL AND OUTPUT", {"model": model, "batch_size": 4}, notes),
        ],
    )


def metrics(plan: Plan, template: str) -> str:
    """Return ``conf/metrics.yaml``."""
    wanted = [m for m in (plan.recipe.score.metrics if plan.recipe.score else []) if m in METRICS]
    items = [
        {
            "metric": {
                "_target_": f"espnet3.systems.esp2_asr.metrics.{METRICS[name]}",
                "clean_types": None,
            },
            "inputs": {"ref": "dataset:text", "hyp": "text"},
        }
        for name in wanted or ["wer", "cer"]
    ]
    return template + dumped({"metrics": items})
