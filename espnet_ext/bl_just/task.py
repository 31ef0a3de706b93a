# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR task with a second, unlabelled stream, trained by a schedule of phases.

The configuration is the section ``bl_just`` (:mod:`espnet_ext.bl_just.options`). ``optim``,
``optim_conf`` and ``scheduler`` are those of the joint phase; exploration and last phase have the
same kind of optimiser with rates of their own. ``max_epoch`` follows from the schedule.
"""

import argparse
import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from espnet2.tasks.abs_task import optim_classes
from espnet2.tasks.asr import ASRTask
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ext.bl_just import checks
from espnet_ext.bl_just.model import BLJustModel, part_of, uses_unsup
from espnet_ext.bl_just.options import BlJustConf, refuse_patience, resolve
from espnet_ext.bl_just.schedule import OPTIMISER, OPTIMISERS, Schedule, make_schedule
from espnet_ext.bl_just.streams import UNLABELLED, ScheduledIterFactory
from espnet_ext.bl_just.trainer import BLJustTrainer
from espnet_ext.bl_just.unsup import build_unsup
from espnet_ext.errors import UsageError
from espnet_ext.espnet import schedules
from espnet_ext.espnet.iterators import PersistentIterFactory
from espnet_ext.espnet.task import ExtTask, is_first_process
from espnet_ext.frames import rate_hz, steps_of_config
from espnet_ext.progress import progress_log

TAU = 0.1  # of alpha


class BLJustTask(ExtTask, ASRTask):
    """See the module's text."""

    model_class = BLJustModel
    trainer = BLJustTrainer
    num_optimizers = OPTIMISERS

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group("BL-JUST (espnet_ext)")
        group.add_argument(
            "--bl_just", action=NestedDictAction, default={}, help="schedule=bljust, ..."
        )
        parser.set_defaults(max_epoch=None)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check configuration and data, lay the schedule out, then train as ESPnet does."""
        conf = prepare(args)
        if args.collect_stats:
            _second_scheduler(args)
            super().main_worker(args)
        else:
            # A budget in passes counts those over the unlabelled data.
            needed = conf.schedule != "supervised" or conf.budget == "passes"
            checks.check_streams(args, needed)
            if uses_unsup(conf):
                checks.drop_short(args, _min_samples(args, conf))
            if is_first_process(args):
                checks.write_lists(args)
            schedule = lay_out(args, conf)
            known = {"schedule": schedule, "conf": conf, "facts": checks.facts(args, schedule)}
            trainer = type("Trainer", (cls.trainer,), known)
            task = type(cls.__name__, (cls,), {"trainer": trainer})
            super(BLJustTask, task).main_worker(args)

    @classmethod
    def updates(cls, args: argparse.Namespace) -> list[int]:
        """See :class:`ExtTask`: each optimiser has its phase."""
        return [cls.trainer.schedule.updates(number) for number in range(OPTIMISERS)]

    @classmethod
    def tell_updates(cls, args: argparse.Namespace, counts: Sequence[int]) -> None:
        """See :class:`ExtTask`; the number of updates is told with the phases."""
        schedules.tell_rise(args, counts)

    @classmethod
    def stand_in(cls, args: argparse.Namespace) -> None:
        """See :mod:`espnet_ext.espnet.trial`: the length of the schedule is not known yet."""
        prepare(args)
        _check_criteria(args)
        _second_scheduler(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> BLJustModel:
        conf = prepare(args)
        if getattr(args, "model", "espnet") not in (None, "espnet"):
            raise UsageError("the method extends ESPnet's model", "model", "model: espnet")
        if conf.schedule == "pseudo_label" and args.model_conf.get("ctc_weight", 0.5) == 0:
            raise UsageError("pseudo-labels are read from CTC", "model_conf.ctc_weight", "above 0")
        return super().build_model(args)

    @classmethod
    def build_optimizers(
        cls, args: argparse.Namespace, model: torch.nn.Module
    ) -> list[torch.optim.Optimizer]:
        """Return the optimisers of the joint phase, the exploration and the last phase.

        Each part (theta, phi, eta) is a group of parameters of its own, clipped apart.
        """
        conf = resolve(args.bl_just)
        parts: dict[str, list] = {"theta": [], "phi": [], "eta": []}
        for name, p in model.named_parameters():
            if p.requires_grad:
                parts[part_of(name)].append(p)
        explored = ("theta", "phi" if conf.upper_level == "unsupervised" else "eta")
        alpha = args.optim_conf.get("lr", _default_rate(args.optim))
        rho = conf.explore_ratio * alpha if conf.explore_lr is None else conf.explore_lr
        tau = last_rate(args, conf, alpha, getattr(cls.trainer, "schedule", None))
        optimisers = []
        for names, rate in (
            (("theta", "phi", "eta"), alpha),
            (explored, rho),
            (("theta", "phi"), tau),
        ):
            groups = [{"params": parts[n]} for n in names if parts[n]]
            optimisers.append(optim_classes[args.optim](groups, **{**args.optim_conf, "lr": rate}))
        return optimisers

    @classmethod
    def join_streams(
        cls, args: Any, main: PersistentIterFactory, others: dict[str, PersistentIterFactory]
    ) -> ScheduledIterFactory:
        conf, resolved = resolve(args.bl_just), args.bl_just["resolved"]
        found = {"labelled": main, "unlabelled": others.get(UNLABELLED)}
        for name, factory in found.items():
            if factory is not None:
                batches = len(factory.epoch_keys(1))
                if -(-batches // args.accum_grad) != resolved[f"{name}_updates"]:
                    raise RuntimeError(f"{name}: {batches} batches, another number was counted")
        return ScheduledIterFactory(
            main, found["unlabelled"], cls.trainer.schedule, args.accum_grad, conf.measure_every
        )


def last_rate(
    args: argparse.Namespace, conf: BlJustConf, alpha: float, schedule: Schedule | None
) -> float:
    """Return tau, and tell the rates between which the last phase begins.

    Args:
        args: ESPnet's training options, with the lengths of the learning rate's schedules.
        conf: The configuration.
        alpha: Rate of the joint phase before its schedule.
        schedule: Of the training; None where it is not known yet.

    Raises:
        UsageError: The last phase would have a higher rate than the joint phase ends with: what
            that one has settled would be stirred up again.
    """
    tau = TAU * alpha if conf.final_lr is None else conf.final_lr
    counts = [schedule.updates(number) for number in range(OPTIMISERS)] if schedule else []
    if not counts or not (counts[OPTIMISER["joint"]] and counts[OPTIMISER["final"]]):
        return tau
    change = schedule.first("final") - 1
    joint = schedules.rates(
        args.scheduler, args.scheduler_conf, alpha, counts[OPTIMISER["joint"]], (0, change)
    )
    if joint is None:
        return tau
    if conf.final_lr is None:
        tau = min(tau, joint.last)
    epochs = (change, len(schedule.epochs))
    count = counts[OPTIMISER["final"]]
    final = schedules.rates(args.scheduler3, args.scheduler3_conf, tau, count, epochs)
    told = f"at a learning rate of {joint.last:.3g}, the last phase"
    if final is not None and final.highest > joint.last * (1 + 1e-6):
        raise UsageError(
            f"the labelled updates before the last phase end {told} would have {final.highest:.3g}",
            "bl_just.final_lr" if args.scheduler3 is None else "bl_just.final_lr, scheduler3",
            f"final_lr: null, which stands for {min(TAU * alpha, joint.last):.3g}, or a number up "
            f"to {joint.last:.3g}; or let the schedule end higher (scheduler_conf)",
        )
    if is_first_process(args):
        progress_log.info(f"the labelled updates before the last phase end {told} starts at "
                          f"{tau if final is None else final.first:.3g}")  # fmt: skip
    return tau


def _default_rate(optimiser: str) -> float:
    dummy = torch.nn.Parameter(torch.zeros(1))
    return optim_classes[optimiser]([dummy]).param_groups[0]["lr"]


def prepare(args: argparse.Namespace) -> BlJustConf:
    """Return the configuration; what it needs of the other options goes to ``resolved``."""
    conf = resolve(getattr(args, "bl_just", None))
    given = {k: v for k, v in (args.bl_just or {}).items() if k != "resolved"}
    have = (args.bl_just or {}).get("resolved") or {}
    rate = rate_hz(args.frontend_conf)
    facts = {
        "sample_rate": rate, "frame_shift_s": _hop(args) / rate, "unsup_loss": conf.unsup_loss,
    }  # fmt: skip
    args.bl_just = {**copy.deepcopy(given), "resolved": {**have, **facts}}
    return conf


def _hop(args: argparse.Namespace) -> int:
    """Return the samples between two frames of the features."""
    return (args.frontend_conf or {}).get("hop_length", 128)  # ESPnet's default


def _min_samples(args: argparse.Namespace, conf: BlJustConf) -> int:
    shift_s = args.bl_just["resolved"]["frame_shift_s"]
    steps = steps_of_config(vars(args))
    stride = None if steps is None else math.prod(s.stride for s in steps)
    options = conf.unsup_options
    loss = build_unsup(conf.unsup_loss, options, 1, 1, frame_shift_s=shift_s, stride=stride)
    return (loss.min_frames - 1) * _hop(args)  # a centred frame stands on each multiple of the hop


def lay_out(args: argparse.Namespace, conf: BlJustConf) -> Schedule:
    """Return the schedule; the options that follow from it are put into ``args``.

    Raises:
        UsageError: An option of ESPnet contradicts the schedule.
    """
    if args.num_iters_per_epoch is not None:
        raise UsageError(
            "the schedule says how long an epoch is", "num_iters_per_epoch",
            "bl_just.explore_steps and bl_just.joint_steps",
        )  # fmt: skip
    if args.iterator_type != "sequence" or args.batch_type == "catpow":
        raise UsageError("the two streams need plain batches", "iterator_type", "sequence")
    _check_criteria(args)
    own = (args.train_shape_file, args.batch_size, args.batch_bins)
    labelled = checks.count_updates(args, *own)
    unlabelled = 0
    if shapes := [path for name, path in args.stream_shape_file if name == UNLABELLED]:
        size = next((int(n) for s, n in args.stream_batch_size if s == UNLABELLED), own[1])
        bins = next((int(n) for s, n in args.stream_batch_bins if s == UNLABELLED), own[2])
        unlabelled = checks.count_updates(args, shapes, size, bins)
    schedule = make_schedule(conf, labelled, unlabelled)
    epochs = len(schedule.epochs)
    if args.max_epoch not in (None, epochs):
        raise UsageError(
            f"the schedule has {epochs} epochs, not {args.max_epoch}", "max_epoch",
            "leave max_epoch out; bl_just.epochs counts exploration and joint phases",
        )  # fmt: skip
    args.max_epoch = epochs
    args.unused_parameters = True  # each phase leaves a head without gradients
    _second_scheduler(args)
    total = schedule.total
    args.bl_just["resolved"] |= {
        "labelled_updates": labelled, "unlabelled_updates": unlabelled, "epochs": epochs,
    }  # fmt: skip
    if is_first_process(args):
        progress_log.info(
            f"{conf.schedule}: {epochs} epochs, {total.labelled:,} labelled and "
            f"{total.unlabelled:,} unlabelled updates, {total.passes:,} forward-backward passes"
        )
    return schedule


def _check_criteria(args: argparse.Namespace) -> None:
    """Let validation alone choose models: what training tells differs from phase to phase."""
    refuse_patience(args.patience)
    chosen = [c for c in args.best_model_criterion if c[0] == "valid"]
    for option, left in (
        ("best_model_criterion", bool(chosen)),
        ("early_stopping_criterion", args.early_stopping_criterion[0] == "valid"),
    ):
        if not left:
            raise UsageError("the training loss is another in each phase", option, "valid, ...")
    args.best_model_criterion = chosen  # ESPnet's default has some of training


def _second_scheduler(args: argparse.Namespace) -> None:
    """Give the exploration the joint phase's scheduler, unless it has one."""
    if args.scheduler2 is None:
        args.scheduler2, args.scheduler2_conf = args.scheduler, copy.deepcopy(args.scheduler_conf)
