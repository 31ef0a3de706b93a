# SPDX-License-Identifier: Apache-2.0
"""Task base: what an ESPnet task gains here, without touching ESPnet.

A method's task is a subclass of :class:`ExtTask` and of the ESPnet task it extends::

    class WeakAlignTask(ExtTask, asr.ASRTask):
        extra_data_names = ("align",)      # further optional streams of model.forward
        model_class = WeakAlignModel       # swapped in after ESPnet built its own model

The model keeps ESPnet's parameter names and ``model: espnet`` stays in config.yaml, so stock
inference loads the result; the method's settings are further top-level keys, which it ignores.
"""

import argparse
import copy
import functools
from collections.abc import Sequence
from typing import Any

import torch.distributed as dist
from espnet2.tasks.abs_task import AbsTask
from espnet2.tasks.asr import ASRTask as StockASRTask
from espnet2.train.distributed_utils import get_rank, get_world_size

from espnet_ext.errors import UsageError, nearest
from espnet_ext.espnet import schedules, streams, track
from espnet_ext.espnet.compat import provide_editdistance
from espnet_ext.espnet.input_layers import BuildsInputLayers
from espnet_ext.espnet.iterators import JointIterFactory, PersistentIterFactory, count_batches
from espnet_ext.espnet.trainer import ExtTrainer
from espnet_ext.progress import progress_log


class ExtTask(BuildsInputLayers, AbsTask):
    """Mixin for ESPnet tasks; see the module's text.

    Attributes:
        extra_data_names: Optional data streams besides those of the ESPnet task.
        model_class: Class of the model after :meth:`build_model`; its ``init_extension(args)``
            is called once, after the parameters of the stock model exist.
        stock_task: ESPnet's task whose inference takes the result; None: the ASR task.
    """

    trainer = ExtTrainer
    extra_data_names: tuple[str, ...] = ()
    model_class: type | None = None
    stock_task: type | None = None

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        track.add_arguments(parser)
        group = parser.add_argument_group("Further data streams (espnet_ext)")
        for option, what in (
            ("--stream_data_path_and_name_and_type", "STREAM,path,name,type"),
            ("--stream_shape_file", "STREAM,path"),
            ("--stream_batch_size", "STREAM,utterances (default: --batch_size)"),
            ("--stream_batch_bins", "STREAM,bins (default: --batch_bins)"),
        ):
            parts = functools.partial(_split, what.split(" ")[0])
            group.add_argument(option, type=parts, action="append", default=[], help=what)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        names = super().optional_data_names(train, inference)
        return (*names, *cls.extra_data_names)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Train in this process, which may be one that ESPnet has spawned: nothing is set up."""
        provide_editdistance()
        streams.register(args)
        if args.collect_stats:
            schedules.stand_in(args, cls.num_optimizers)
        else:
            updates = functools.cache(functools.partial(cls.updates, args))
            schedules.set_lengths(args, cls.num_optimizers, updates, is_first_process(args))
            if is_first_process(args):
                cls.tell_updates(args, updates())
        run = track.start(args) if is_first_process(args) and not args.collect_stats else None
        try:
            super().main_worker(args)
        finally:
            track.finish(args, run)
        if dist.is_initialized():
            # ESPnet leaves gloo's threads to the end of the interpreter, which may abort on them.
            dist.destroy_process_group()

    @classmethod
    def updates(cls, args: argparse.Namespace) -> list[int]:
        """Return the updates of each optimiser in the whole training; nothing if not known."""
        if args.iterator_type != "sequence" or not args.train_shape_file:
            return []
        batches = args.num_iters_per_epoch
        if batches is None:
            batches = count_batches(args, args.train_shape_file, world_size(args))
        return [batches // args.accum_grad * args.max_epoch]

    @classmethod
    def tell_updates(cls, args: argparse.Namespace, counts: Sequence[int]) -> None:
        """Tell how long the training is, before time is spent on it.

        Args:
            args: ESPnet's training options.
            counts: What :meth:`updates` returns.
        """
        if counts and counts[0]:
            each = counts[0] // args.max_epoch
            progress_log.info(f"{counts[0]:,} updates: {each:,} in each of {args.max_epoch} epochs")
        schedules.tell_rise(args, counts)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        model = super().build_model(args)
        if cls.model_class is not None:
            model.__class__ = cls.model_class
            model.init_extension(args)
        return model

    @classmethod
    def build_sequence_iter_factory(cls, args: Any, iter_options: Any, mode: str) -> Any:
        stock = super().build_sequence_iter_factory(args, iter_options, mode)
        return PersistentIterFactory(stock)

    @classmethod
    def build_iter_factory(
        cls, args: Any, distributed_option: Any, mode: str, kwargs: dict | None = None
    ) -> Any:
        """Join the further streams to the training batches; validation has the main one only."""
        main = super().build_iter_factory(args, distributed_option, mode, kwargs)
        names = sorted({part[0] for part in args.stream_data_path_and_name_and_type})
        if mode != "train":
            return main
        others = {n: cls._stream_factory(args, distributed_option, n) for n in names}
        return cls.join_streams(args, main, others)

    @classmethod
    def join_streams(
        cls, args: Any, main: PersistentIterFactory, others: dict[str, PersistentIterFactory]
    ) -> Any:
        """Return what yields the training steps of the main stream and the further ones."""
        return JointIterFactory(main, others) if others else main

    @classmethod
    def _stream_factory(cls, args: Any, distributed_option: Any, stream: str) -> Any:
        own = copy.copy(args)
        of = functools.partial(_of, stream)
        own.train_data_path_and_name_and_type = of(args.stream_data_path_and_name_and_type)
        own.train_shape_file = [p for (p,) in of(args.stream_shape_file)]
        own.batch_size = int(next(iter(of(args.stream_batch_size)), (args.batch_size,))[0])
        own.batch_bins = int(next(iter(of(args.stream_batch_bins)), (args.batch_bins,))[0])
        own.stream_data_path_and_name_and_type = []
        # The stream need not have what the task requires of its main data, e.g. text.
        own.allow_variable_data_keys = True
        alone = {"required_data_names": _nothing, "join_streams": _main_alone}
        task = type(f"{cls.__name__}Stream", (cls,), alone)
        return task.build_iter_factory(own, distributed_option, "train")


@classmethod
def _nothing(cls: type, train: bool = True, inference: bool = False) -> tuple[str, ...]:
    return ()


@classmethod
def _main_alone(cls: type, args: Any, main: Any, others: dict) -> Any:
    return main


def _split(form: str, text: str) -> tuple[str, ...]:
    parts = tuple(text.split(","))
    if len(parts) != len(form.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}' is not {form}")
    return parts


def _of(stream: str, options: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [part[1:] for part in options if part[0] == stream]


class ASRTask(ExtTask, StockASRTask):
    """ESPnet's ASR task with this adapter's trainer and data loading; the model is stock."""


def is_first_process(args: argparse.Namespace) -> bool:
    """Return whether this process of the training is the one that speaks and writes."""
    return not _distributed(args) or get_rank(args.dist_rank, args.dist_launcher) == 0


def world_size(args: argparse.Namespace) -> int:
    """Return the number of processes of the training.

    Not what a batch job around it says: a training inside ``sbatch --ntasks=4`` is one process.
    """
    return get_world_size(args.dist_world_size, args.dist_launcher) if _distributed(args) else 1


def _distributed(args: argparse.Namespace) -> bool:
    return getattr(args, "distributed", False)  # ESPnet's main sets it


TASKS = {"asr": "espnet_ext.espnet.task:ASRTask", "lm": "espnet_ext.espnet.lm:LMTask"}


def find_task(name: str) -> type[AbsTask]:
    """Return the task class by short name or ``module:Class``.

    Raises:
        UsageError: There is no such task.
    """
    from espnet_ext.plugin import load_object

    if name not in TASKS and ":" not in name:
        raise UsageError(
            f"there is no task '{name}'", "task", nearest(name, TASKS) + " or module:Class"
        )
    task = load_object(TASKS.get(name, name), "task")
    if not issubclass(task, AbsTask):
        raise UsageError(f"'{name}' is not an ESPnet task", "task")
    return task
