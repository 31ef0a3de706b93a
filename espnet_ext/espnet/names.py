# SPDX-License-Identifier: Apache-2.0
"""The one list of the ESPnet names that the adapter uses, and the check of the installed release.

ESPnet promises no stable interface. What the adapter stands on is written down here, so that
after an upgrade one call tells what has gone: ``python -m espnet_ext.espnet.names``.
"""

import importlib
import inspect
import sys
from collections.abc import Iterable
from typing import NamedTuple

from espnet_ext.errors import nearest


class Name(NamedTuple):
    """One ESPnet name that the adapter uses.

    Attributes:
        module: The module that holds it.
        attribute: Its name there; ``Class.method`` for a method.
        use: What the adapter does with it.
        parameters: The parameters which its signature must have, with spaces between.
    """

    module: str
    attribute: str
    use: str
    parameters: str = ""


def _methods(module: str, cls: str, use: str, **methods: str) -> tuple[Name, ...]:
    """List methods of a class, each with its parameters."""
    return tuple(Name(module, f"{cls}.{method}", use, has) for method, has in methods.items())


_TASK = (
    Name("espnet2.train.dataset", "DATA_TYPES", "types of streams are entered"),
    Name("espnet2.train.iterable_dataset", "DATA_TYPES", "types of streams are entered"),
    Name("espnet2.tasks.asr", "ASRTask", "base class of the ASR tasks"),
    Name("espnet2.tasks.asr", "ASRTask.build_model", "called by super(), then class swap", "args"),
    *(
        Name("espnet2.tasks.asr", f"{part}_choices", "called to build a part of a model")
        for part in ("frontend", "normalize", "preencoder", "encoder")
    ),
    Name("espnet2.tasks.lm", "LMTask", "base class of the task of language models"),
    Name("espnet2.tasks.st", "STTask", "base class of the translation task"),
    Name("espnet2.asr.ctc", "CTC", "built on the SLU head"),
    Name("espnet2.layers.utterance_mvn", "UtteranceMVN", "base class of that of samples"),
    Name(
        "espnet2.bin.st_inference",
        "Speech2Text",
        "called to translate",
        "st_train_config st_model_file device",
    ),
    Name("espnet2.tasks.abs_task", "AbsTask", "base class of the task mixin"),
    *_methods(
        "espnet2.tasks.abs_task",
        "AbsTask",
        "called",
        get_parser="",
        main="args cmd",
        main_worker="args",
        build_model_from_file="config_file model_file device",
    ),
    *_methods(
        "espnet2.tasks.abs_task",
        "AbsTask",
        "overridden",
        build_model="args",
        build_iter_factory="args distributed_option mode kwargs",
        build_iter_options="args distributed_option mode",
        build_sequence_iter_factory="args iter_options mode",
        add_task_arguments="parser",
        optional_data_names="train inference",
        required_data_names="train inference",
        build_optimizers="args model",
        build_preprocess_fn="args train",
        build_collate_fn="args train",
    ),
)

_TRAINING = (
    Name("espnet2.train.trainer", "Trainer", "base class of the trainers"),
    *_methods(
        "espnet2.train.trainer",
        "Trainer",
        "overridden",
        resume="checkpoint model optimizers schedulers reporter scaler ngpu strict",
        run="model optimizers schedulers train_iter_factory valid_iter_factory"
        " plot_attention_iter_factory trainer_options distributed_option",
        train_one_epoch="model iterator optimizers schedulers scaler reporter summary_writer"
        " options distributed_option",
        validate_one_epoch="model iterator reporter options distributed_option",
        build_options="args",
        add_arguments="parser",
    ),
    Name(
        "espnet2.train.trainer",
        "TrainerOptions",
        "read by the trainers",
        "ngpu resume use_amp accum_grad grad_clip grad_clip_type log_interval output_dir"
        " max_epoch seed patience keep_nbest_models nbest_averaging_interval"
        " early_stopping_criterion best_model_criterion val_scheduler_criterion",
    ),
    Name("espnet2.train.reporter", "Reporter", "saved in and restored from checkpoints"),
    *_methods(
        "espnet2.train.reporter",
        "Reporter",
        "called",
        get_epoch="",
        state_dict="",
        load_state_dict="state_dict",
        check_early_stopping="patience key1 key2 mode",
        get_best_epoch="key key2 mode nbest",
        has="key key2 epoch",
    ),
    Name("espnet2.train.reporter", "aggregate", "called", "values"),
    Name(
        "espnet2.train.distributed_utils",
        "DistributedOption",
        "read by trainers and iterators",
        "distributed dist_rank dist_world_size ngpu",
    ),
    Name("espnet2.train.distributed_utils", "get_rank", "called", "prior launcher"),
    Name("espnet2.train.distributed_utils", "get_world_size", "called", "prior launcher"),
    Name("espnet2.train.abs_espnet_model", "AbsESPnetModel", "base class of the models"),
    Name("espnet2.train.abs_espnet_model", "AbsESPnetModel.forward", "overridden", "batch"),
    Name("espnet2.train.abs_espnet_model", "AbsESPnetModel.collect_feats", "overridden", "batch"),
    Name(
        "espnet2.torch_utils.safe_torch_load",
        "safe_torch_load",
        "loads checkpoints",
        "path map_location",
    ),
)

_DATA = (
    Name(
        "espnet2.samplers.build_batch_sampler",
        "build_batch_sampler",
        "counts the batches of a stream before training",
        "type batch_size batch_bins shape_files sort_in_batch sort_batch drop_last min_batch_size "
        "fold_lengths",
    ),
    Name("espnet2.tasks.abs_task", "optim_classes", "builds the optimisers of a method"),
    Name("espnet2.tasks.abs_task", "scheduler_classes", "checks and extends schedules"),
    Name(
        "espnet2.schedulers.abs_scheduler",
        "AbsBatchStepScheduler",
        "tells schedules that step with each update",
    ),
    Name(
        "espnet2.schedulers.abs_scheduler",
        "AbsValEpochStepScheduler",
        "tells schedules that follow the validation",
    ),
    Name("espnet2.train.collate_fn", "CommonCollateFn", "makes batches of texts"),
    Name("espnet2.iterators.abs_iter_factory", "AbsIterFactory", "base class of the iterators"),
    Name(
        "espnet2.iterators.abs_iter_factory",
        "AbsIterFactory.build_iter",
        "overridden",
        "epoch shuffle",
    ),
    Name(
        "espnet2.iterators.sequence_iter_factory",
        "SequenceIterFactory",
        "made with keyword arguments",
        "dataset batches seed num_iters_per_epoch shuffle shuffle_within_batch num_workers"
        " collate_fn pin_memory",
    ),
    Name("espnet2.samplers.abs_sampler", "AbsSampler", "base class of samplers"),
    Name(
        "espnet2.text.build_tokenizer",
        "build_tokenizer",
        "makes the tokenizer of a recipe",
        "token_type bpemodel",
    ),
    Name(
        "espnet2.text.token_id_converter",
        "TokenIDConverter",
        "tokens to ids and back",
        "token_list unk_symbol",
    ),
)

_RELEASE = (
    Name(
        "espnet2.bin.asr_inference",
        "Speech2Text",
        "stock decoding of our models",
        "asr_train_config asr_model_file device beam_size ctc_weight nbest",
    ),
    Name("espnet2.bin.asr_inference", "ASRTask", "replaced while an own model is built"),
    Name("espnet2.bin.st_inference", "STTask", "replaced while an own model is built"),
    *(
        Name(f"espnet2.bin.{kind}_inference", function, "called with an own model", parameters)
        for kind in ("asr", "st")
        for function, parameters in (("main", "cmd"), ("get_parser", ""))
    ),
    Name("espnet2.bin.asr_inference", "Speech2Text.from_pretrained", "called", "model_tag"),
    Name(
        "espnet2.legacy.nets.pytorch_backend.transformer.subsampling",
        "Conv2dSubsampling",
        "base class of our own input layers",
    ),
    Name(
        "espnet2.legacy.nets.pytorch_backend.transformer.subsampling",
        "TooShortUttError",
        "raised by encoders; such an utterance has an empty text",
    ),
    Name(
        "espnet2.main_funcs.pack_funcs",
        "pack",
        "makes the archive of a model",
        "files yaml_files outpath option",
    ),
)

_METHODS = (
    Name("espnet2.asr.espnet_model", "ESPnetASRModel", "base class of the methods' models"),
    Name(
        "espnet2.asr.espnet_model",
        "ESPnetASRModel.forward",
        "called by super()",
        "speech speech_lengths text text_lengths kwargs",
    ),
    Name("espnet2.asr.espnet_model", "autocast_type", "precision of the features"),
    Name("espnet2.layers.utterance_mvn", "UtteranceMVN.forward", "of samples", "x ilens"),
    Name("espnet2.utils.nested_dict_action", "NestedDictAction", "options of a method"),
    Name("espnet2.torch_utils.device_funcs", "force_gatherable", "called", "data device"),
)

#: Every ESPnet name that the adapter and the methods use.
USED: tuple[Name, ...] = (*_TASK, *_TRAINING, *_DATA, *_RELEASE, *_METHODS)


def _lacks(name: Name) -> str | None:
    """Say what the installed release lacks of ``name``; None if nothing."""
    where = f"{name.module}.{name.attribute} ({name.use})"
    try:
        found: object = importlib.import_module(name.module)
    except ImportError as error:
        return f"{where}: the module cannot be imported: {error}"
    for part in name.attribute.split("."):
        if not hasattr(found, part):
            return f"{where}: there is no '{part}'; {nearest(part, dir(found))}"
        found = getattr(found, part)
    if name.parameters:
        has = inspect.signature(found).parameters
        gone = [parameter for parameter in name.parameters.split() if parameter not in has]
        if gone:
            return f"{where}: no parameter {', '.join(gone)}; it has {', '.join(has)}"
    return None


def check_names(names: Iterable[Name] = USED) -> list[str]:
    """Compare ``names`` with the installed ESPnet.

    Returns:
        One line for each name which is missing or whose signature lacks a parameter; empty if the
        installed release has everything.
    """
    return [lack for lack in map(_lacks, names) if lack is not None]


if __name__ == "__main__":
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    lacking = check_names()
    print("\n".join(lacking) or f"ESPnet has all {len(USED)} names that espnet_ext uses")
    sys.exit(1 if lacking else 0)
