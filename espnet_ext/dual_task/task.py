# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR task with two optimisers, an utterance embedding and an SLU head.

The configuration is the section ``dual_task`` (:mod:`espnet_ext.dual_task.options`). Optimiser 1
(``optim``, ``scheduler``) has the encoder's parameters, optimiser 2 (``optim2``, ``scheduler2``)
all others; both step after each batch. A model with layers between encoder and CTC is written as
``model: dual_task``, which stock ESPnet refuses to build: it would drop these layers in silence.
"""

import argparse
from pathlib import Path
from typing import Any

from espnet2.schedulers.abs_scheduler import AbsValEpochStepScheduler
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from espnet2.tasks.asr import ASRTask
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ext.dual_task import batches, speech_encoder
from espnet_ext.dual_task.checks import check_sentences
from espnet_ext.dual_task.facts import gather
from espnet_ext.dual_task.groups import check_optimizers, parameter_groups
from espnet_ext.dual_task.model import DualTaskModel
from espnet_ext.dual_task.newbob import NewBob
from espnet_ext.dual_task.options import PHONES, SAMU, resolve
from espnet_ext.dual_task.preprocess import DualPreprocess
from espnet_ext.dual_task.trainer import DualTaskTrainer
from espnet_ext.errors import UsageError
from espnet_ext.espnet.task import ExtTask

OWN_MODEL = "dual_task"
# The paper's optimisers; their options hold where the configuration has none.
PAPER = {
    "optim": ("adam", {"lr": 1e-4}),
    "optim2": ("adadelta", {"lr": 1.0, "rho": 0.95, "eps": 1e-8}),
}

AbsValEpochStepScheduler.register(NewBob)
scheduler_classes["newbob"] = NewBob


class DualTask(ExtTask, ASRTask):
    """The phase finetune; see the module's text."""

    num_optimizers = 2
    trainer = DualTaskTrainer
    extra_data_names = ("sentence", "phones")
    role = "finetune"

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Dual task (espnet_ext)")
        group.add_argument(
            "--dual_task", action=NestedDictAction, default={}, help="schedule=dual, lambda=10, ..."
        )
        parser.set_defaults(**{key: name for key, (name, _) in PAPER.items()})

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check options and streams, then train as ESPnet does."""
        conf, facts = gather(args, cls.role)
        if SAMU in conf.losses(facts.role):
            check_sentences(_sentence_tables(args), conf.sentences, facts.embedding_dim)
        if not args.collect_stats:
            _check_streams(args, conf.losses(facts.role))
            batches.check(args, conf)
        super().main_worker(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> DualTaskModel:
        conf, facts = gather(args, cls.role)
        for key, (name, options) in PAPER.items():
            if getattr(args, key, None) == name and not getattr(args, f"{key}_conf", None):
                setattr(args, f"{key}_conf", dict(options))
        if getattr(args, "model", None) not in (None, "espnet", OWN_MODEL):
            raise UsageError("the method extends ESPnet's model", "model", "model: espnet")
        _ctc_only(args)
        args.model = "espnet"
        model = super().build_model(args)
        model.__class__ = DualTaskModel
        model.init_extension(conf, facts, args)
        if model.slu is not None:
            args.model = OWN_MODEL
        return model

    @classmethod
    def build_optimizers(cls, args: argparse.Namespace, model: DualTaskModel) -> list:
        """Return the encoder's optimiser and that of all other parameters."""
        groups = parameter_groups(model)
        out = []
        for key, group in (("optim", "encoder"), ("optim2", "other")):
            resting = (p for p in model.parameters() if not p.requires_grad)
            # An optimiser of nothing is refused; one of a frozen part does nothing.
            params = list(groups[group].values()) or [next(resting)]
            out.append(optim_classes[getattr(args, key)](params, **getattr(args, f"{key}_conf")))
        check_optimizers(model, out)
        return out

    @classmethod
    def updates(cls, args: argparse.Namespace) -> list[int]:
        """See :class:`ExtTask`; both optimisers step after each batch."""
        return super().updates(args) * cls.num_optimizers

    @classmethod
    def settle(cls, args: argparse.Namespace) -> None:
        """See :mod:`espnet_ext.espnet.trial`: the sections of a converted speech encoder."""
        speech_encoder.settle(args, resolve(args.dual_task))

    @classmethod
    def stand_in(cls, args: argparse.Namespace) -> None:
        """See :mod:`espnet_ext.espnet.trial`: sizes that are not known yet are made up."""
        gather(args, cls.role, stand_in=True)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        stock = super().build_preprocess_fn(args, train)
        conf, facts = gather(args, cls.role)
        if not facts.embedding_dim or not Path(conf.sentences).is_dir():
            return stock
        return DualPreprocess(stock, conf.sentences, facts.embedding_dim)

    @classmethod
    def build_dataset(cls, args: Any, iter_options: Any, keys_to_load: Any = None) -> Any:
        """Load all utterances where each epoch draws others."""
        every = gather(args, cls.role)[0].rebalance_alpha is not None
        return super().build_dataset(args, iter_options, None if every else keys_to_load)

    @classmethod
    def build_sequence_iter_factory(cls, args: Any, iter_options: Any, mode: str) -> Any:
        """Training batches in ascending order, or drawn for each epoch, balanced by language."""
        conf = gather(args, cls.role)[0]
        factory = super().build_sequence_iter_factory(args, iter_options, mode)
        if mode == "train":
            batches.arrange(factory.stock, conf, args, iter_options)
        return factory


class SpecialiseTask(DualTask):
    """The phase midtrain of the sequential schedule: L_samu on in-domain transcripts."""

    role = "midtrain"


class PretrainTask(DualTask):
    """The phase pretrain: a stand-in for a large speech encoder, or the pooling head's warm-up."""

    role = "pretrain"


def _ctc_only(args: argparse.Namespace) -> None:
    """The symbols are read by CTC alone, so no decoder is built."""
    weight = (args.model_conf or {}).get("ctc_weight", 1.0)
    if weight != 1.0 or getattr(args, "decoder", None) is not None:
        raise UsageError(
            "the method reads its symbols by CTC alone", "model_conf.ctc_weight",
            "decoder: null, model_conf: {ctc_weight: 1.0}",
        )  # fmt: skip
    args.model_conf = {**(args.model_conf or {}), "ctc_weight": 1.0}


def _sentence_tables(args: argparse.Namespace) -> list[str]:
    parts = (args.train_data_path_and_name_and_type, args.valid_data_path_and_name_and_type)
    return [path for streams in parts for path, name, *_ in streams if name == "sentence"]


def _check_streams(args: argparse.Namespace, losses: tuple[str, ...]) -> None:
    forms = {SAMU: "sentence", PHONES: "phones"}
    for part in ("train", "valid"):
        given = {s[1] for s in getattr(args, f"{part}_data_path_and_name_and_type")}
        for loss, name in forms.items():
            if loss in losses and name not in given:
                how = f"streams: {{name: {name}, file: {'plain' if loss == SAMU else name}, ...}}"
                raise UsageError(f"the {part} data lack the stream '{name}'", "streams", how)
