# SPDX-License-Identifier: Apache-2.0
"""ESPnet tasks on transcripts: masked-LM training, stage 1 and stage 2.

The configuration is the section ``ml_lmcl`` (:mod:`espnet_ext.ml_lmcl.options`); ``text_encoder``
and ``labels`` are folders that stages 4 and 2 of the recipe made.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

from espnet2.tasks.abs_task import AbsTask
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ext.data.tables import read_table
from espnet_ext.errors import UsageError
from espnet_ext.espnet.buckets import BucketSampler
from espnet_ext.espnet.iterators import PersistentIterFactory
from espnet_ext.espnet.task import ExtTask
from espnet_ext.ml_lmcl.model import ClassifyModel, ContrastiveModel
from espnet_ext.ml_lmcl.options import MlLmclConf, resolve
from espnet_ext.ml_lmcl.preprocess import TextPreprocessor, read_label_lists
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.ml_lmcl.trainer import ClassifyTrainer, TextTrainer
from espnet_ext.text.tokenizer import read_about


class TextOptions(AbsTask):
    """Options that the tasks add to ESPnet's."""

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("Text classification (espnet_ext)")
        group.add_argument("--text_encoder", help="folder of the text encoder")
        group.add_argument("--labels", help="folder with a list of labels for each head")
        group.add_argument(
            "--ml_lmcl", action=NestedDictAction, default={}, help="preset=ml_lmcl, ..."
        )


class TextTask(ExtTask, TextOptions):
    """What the tasks share."""

    streams: tuple[str, ...] = ("text_manual", "text_asr")
    trainer = TextTrainer

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train as ESPnet does, with a trainer of this training's own."""
        trainer = type("Trainer", (cls.trainer,), cls.trainer_knows(args))
        task = type(cls.__name__, (cls,), {"trainer": trainer})
        super(TextTask, task).main_worker(args)

    @classmethod
    def trainer_knows(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Return the attributes of the trainer."""
        return {"conf": resolve(args.ml_lmcl)}

    @classmethod
    def build_iter_factory(
        cls, args: Any, distributed_option: Any, mode: str, kwargs: dict | None = None
    ) -> Any:
        """Beside the training batches, a fixed order over the same data."""
        store = getattr(cls.trainer, "store", None)
        if mode == "train" and (store is not None or cls.freezes(args)):
            cls.trainer.predictions = fixed_order(cls, args, distributed_option)
        return super().build_iter_factory(args, distributed_option, mode, kwargs)

    @classmethod
    def freezes(cls, args: argparse.Namespace) -> bool:
        """Whether layers are frozen."""
        return resolve(args.ml_lmcl).freeze_layers > 0

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return cls.streams

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ()

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        return CommonCollateFn(int_pad_value=-1)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        labels = args.labels if "label" in cls.streams else None
        return TextPreprocessor(args.text_encoder, labels, resolve(args.ml_lmcl).max_tokens)

    @classmethod
    def updates(cls, args: argparse.Namespace) -> list[int]:
        """See :class:`ExtTask`; batches are buckets of ``batch_size`` texts."""
        batches = -(-len(training_lengths(args)) // args.batch_size)
        return [batches // args.accum_grad * args.max_epoch]

    @classmethod
    def build_dataset(cls, args: Any, iter_options: Any, keys_to_load: Any = None) -> Any:
        """Load all texts: a process gets other ones each epoch."""
        return super().build_dataset(args, iter_options, None)

    @classmethod
    def build_sequence_iter_factory(cls, args: Any, iter_options: Any, mode: str) -> Any:
        """Training batches are drawn again each epoch."""
        factory = super().build_sequence_iter_factory(args, iter_options, mode)
        if mode == "train":
            factory.stock.sampler = bucket_sampler(args, iter_options)
        return factory


class PretrainTask(TextTask):
    """Masked-LM training of an encoder with random weights on the corpus' text."""

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ContrastiveModel:
        return contrastive_model(args, contrastive=False)

    @classmethod
    def freezes(cls, args: argparse.Namespace) -> bool:
        return False


class ContrastiveTask(TextTask):
    """Stage 1."""

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ContrastiveModel:
        return contrastive_model(args, contrastive=True)


def contrastive_model(args: argparse.Namespace, contrastive: bool) -> ContrastiveModel:
    """Build the model of stage 1, or that of masked-LM training alone."""
    args.unused_parameters = True  # BERT's pooler, or a head without its loss
    about = read_about(args.text_encoder)
    return ContrastiveModel(resolve(args.ml_lmcl), args.text_encoder, about, contrastive)


class ClassifyTask(TextTask):
    """Stage 2."""

    streams = (*TextTask.streams, "label")
    trainer = ClassifyTrainer

    @classmethod
    def trainer_knows(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Add the teachers."""
        known = super().trainer_knows(args)
        conf = known["conf"]
        if not args.collect_stats and conf.distils:
            classes = {head: len(names) for head, names in read_label_lists(args.labels).items()}
            widths = {f"{n}.{h}": c for n in range(len(conf.views)) for h, c in classes.items()}
            known["store"] = TeacherStore(list(training_lengths(args)), widths)
        return known

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> ClassifyModel:
        conf = resolve(args.ml_lmcl)
        args.unused_parameters = True
        about, labels = read_about(args.text_encoder), read_label_lists(args.labels)
        classes = {head: len(names) for head, names in labels.items()}
        given = args.init_param or []
        args.init_param = [p for text in given for p in init_options(text, conf)]
        return ClassifyModel(conf, args.text_encoder, classes, about.pad_id)


def init_options(text: str, conf: MlLmclConf) -> list[str]:
    """Turn ``FILE`` of stage 1 into ESPnet's ``FILE:SRC:DST:EXCLUDE`` for each classifier."""
    if ":" in text or "models." in text:
        return [text]
    exclude = ":encoder.embeddings.token_type_embeddings" if conf.fresh_token_types else ""
    return [f"{text}:encoder:models.{name}.encoder{exclude}" for name in conf.model_names]


def training_lengths(args: argparse.Namespace) -> dict[str, int]:
    """Return sub-words by training utterance, of ``train_samples`` at a fixed stride.

    Raises:
        UsageError: There are fewer utterances than that.
    """
    tables = [read_table(path) for path in args.train_shape_file]
    lengths = {u: max(int(t[u].split(",")[0]) for t in tables) for u in tables[0]}
    wanted = resolve(args.ml_lmcl).train_samples
    if wanted is None:
        return lengths
    if wanted > len(lengths):
        raise UsageError(
            f"{wanted} samples of {len(lengths)} utterances", "ml_lmcl.train_samples", "fewer"
        )
    utts = list(lengths)
    return {u: lengths[u] for u in (utts[i * len(utts) // wanted] for i in range(wanted))}


def bucket_sampler(args: argparse.Namespace, iter_options: Any) -> BucketSampler:
    """Return the sampler of the training batches; under torchrun, of this process's part."""
    import torch

    rank, world_size = 0, 1
    if iter_options.distributed:
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return BucketSampler(
        training_lengths(args), args.batch_size, rank, world_size, args.batch_type != "unsorted"
    )


def fixed_order(
    task: type[TextTask], args: argparse.Namespace, distributed_option: Any
) -> PersistentIterFactory:
    """Return a factory over the training set as ESPnet's for validation is: nothing random."""
    own = copy.copy(args)
    for name in ("data_path_and_name_and_type", "shape_file"):
        setattr(own, f"valid_{name}", getattr(args, f"train_{name}"))
    factory = task.build_iter_factory(own, distributed_option, "valid")
    utts = set(training_lengths(args))
    batches = [tuple(u for u in b if u in utts) for b in factory.stock.sampler]
    factory.stock.sampler = type(factory.stock.sampler)([b for b in batches if b])
    return factory
