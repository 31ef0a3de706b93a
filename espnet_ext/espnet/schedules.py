# SPDX-License-Identifier: Apache-2.0
"""Learning rate schedules that have an end: where it is, and what more epochs do to it.

The length of such a schedule follows from the training unless its configuration says otherwise. A
training that goes on with more epochs goes on with the rates of one that had them from the start:
the schedule, a function of the step, is built with the new length and stepped to where it stood.
"""

import argparse
import copy
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import (
    AbsBatchStepScheduler,
    AbsValEpochStepScheduler,
)
from espnet2.tasks.abs_task import scheduler_classes

from espnet_ext.errors import UsageError
from espnet_ext.progress import progress_log

# The option that says after how many steps the rate is at its end.
LENGTH_OF = {
    "tristagelr": "max_steps", "exponentialdecaywarmup": "total_steps", "onecyclelr": "total_steps",
    "cosineannealingwarmuprestarts": "first_cycle_steps", "cosineannealinglr": "T_max",
}  # fmt: skip
STEPS_ARE_EPOCHS = {"cosineannealinglr"}
CYCLES = {"cosineannealingwarmuprestarts", "cosineannealinglr"}  # go up again after their end
STAND_IN = 10**6
_SHORTER = 0.95  # a training that is so much longer than its schedule is told of
_RISING = 0.5  # and one whose rate rises for so much of it
_STANDS_AT = {  # what a schedule's state says of the step, not of its shape
    "last_epoch", "_step_count", "_last_lr", "_get_lr_called_within_step", "_is_initial",
}  # fmt: skip


def set_lengths(
    args: argparse.Namespace, optimisers: int, updates: Callable[[], Sequence[int]], say: bool
) -> None:
    """Give each schedule the length of the training, where its configuration has none.

    Args:
        args: ESPnet's training options; ``scheduler<n>_conf`` are changed.
        optimisers: Their number.
        updates: Returns the updates of each optimiser in the whole training, or nothing where that
            is not known; not called where no schedule has an end.
        say: Tell of schedules that end before the training does.

    Raises:
        UsageError: A one-cycle schedule is shorter than the training, which it does not survive.
    """
    found = list(_with_an_end(args, optimisers))
    counts = list(updates()) if found else []
    for number, name, key, option in found if counts else ():
        count, conf = counts[number], dict(getattr(args, option) or {})
        steps = args.max_epoch if name in STEPS_ARE_EPOCHS else count
        if name == "onecyclelr" and {"epochs", "steps_per_epoch"} <= conf.keys():
            given = conf["epochs"] * conf["steps_per_epoch"]
        else:
            given = conf.setdefault(key, max(1, steps))
            setattr(args, option, conf)
        _compare(name, f"{option}.{key}", given, steps, say)


def tell_rise(args: argparse.Namespace, counts: Sequence[int]) -> None:
    """Warn of schedules whose rate is still rising when half of the training is over.

    Such a training is hardly one: ``warmup_steps`` of a large corpus on a small one.

    Args:
        args: ESPnet's training options.
        counts: Updates of each optimiser in the whole training.
    """
    for number, count in enumerate(counts):
        suffix = str(number + 1) if number else ""
        steps = _warmup_steps(args, suffix)
        if count and steps > _RISING * count:
            progress_log.warning(
                f"the learning rate rises for {steps:,} updates (scheduler{suffix}_conf."
                f"warmup_steps), but the training has only {count:,}; usual is some tenth of "
                f"them: {max(1, count // 10):,}. Or train longer (max_epoch)"
            )


def _warmup_steps(args: argparse.Namespace, suffix: str) -> int:
    """Return the updates in which the rate of a schedule rises, if it has an option for them."""
    kind = scheduler_classes.get((getattr(args, f"scheduler{suffix}", None) or "").lower())
    default = inspect.signature(kind).parameters.get("warmup_steps") if kind else None
    if default is None:
        return 0
    conf = getattr(args, f"scheduler{suffix}_conf", None) or {}
    steps = conf.get("warmup_steps", default.default)
    return steps if isinstance(steps, int | float) else 0


def stand_in(args: argparse.Namespace, optimisers: int) -> None:
    """Give schedules without a length any, where nothing is trained."""
    for _, name, key, option in _with_an_end(args, optimisers):
        conf = dict(getattr(args, option) or {})
        if name != "onecyclelr" or not {"epochs", "steps_per_epoch"} <= conf.keys():
            setattr(args, option, {key: STAND_IN, **conf})


def _with_an_end(args: argparse.Namespace, optimisers: int) -> Iterator[tuple[int, str, str, str]]:
    """Yield number, kind, option of the length, and section of the schedules that have an end."""
    for number in range(optimisers):
        suffix = str(number + 1) if number else ""
        name = (getattr(args, f"scheduler{suffix}", None) or "").lower()
        if name in LENGTH_OF:
            yield number, name, LENGTH_OF[name], f"scheduler{suffix}_conf"


def _compare(name: str, option: str, given: int, steps: int, say: bool) -> None:
    how = "leave it out, so that it follows max_epoch; that is a new training"
    if name == "onecyclelr" and given < steps:
        what = f"the schedule of the learning rate ends after {given} of {steps} updates"
        raise UsageError(what, option, how)
    if say and name not in CYCLES and given < _SHORTER * steps:
        progress_log.warning(
            f"the learning rate is at its end after {given} of {steps} updates ({option}) and "
            f"stays there; to change this, {how}"
        )


@dataclass(frozen=True)
class Rates:
    """Learning rates of a stretch of updates: of its first one, the highest, of its last one."""

    first: float
    highest: float
    last: float


def rates(
    name: str | None, conf: dict[str, Any], rate: float, updates: int, epochs: tuple[int, int]
) -> Rates | None:
    """Return the learning rates that an optimiser will have.

    Args:
        name: Of its schedule; None for a constant rate.
        conf: Options of the schedule, its length included.
        rate: The optimiser's own.
        updates: Those of the optimiser in the whole training, at least 1.
        epochs: Those in which it does them, half-open and counted from 0; they matter to schedules
            that step once an epoch.

    Returns:
        None for a schedule that looks at scores, which nobody knows beforehand.
    """
    if name is None:
        return Rates(rate, rate, rate)
    kind = scheduler_classes[name.lower()]
    if issubclass(kind, AbsValEpochStepScheduler):
        return None
    first, end = (0, updates) if issubclass(kind, AbsBatchStepScheduler) else epochs
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    seen = []
    with warnings.catch_warnings():  # the optimiser does not move, as torch wants to see
        warnings.simplefilter("ignore")
        scheduler = kind(optimiser, **conf)
        for step in range(end):
            if step >= first:
                seen.append(float(optimiser.param_groups[0]["lr"]))
            if step + 1 < end:
                scheduler.step()
    return Rates(seen[0], max(seen), seen[-1])


@dataclass(frozen=True)
class Standing:
    """Where a schedule stands, and what it has made of its optimiser's options."""

    state: dict[str, Any]
    groups: list[dict[str, Any]]


def standing(scheduler: Any, optimizer: torch.optim.Optimizer) -> Standing | None:
    """Return a copy of where a schedule stands; None without one, or for one that looks at scores.

    Args:
        scheduler: Of ESPnet's kinds, or None.
        optimizer: The one it acts on.
    """
    if scheduler is None or isinstance(scheduler, AbsValEpochStepScheduler):
        return None
    options = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
    return Standing(copy.deepcopy(scheduler.state_dict()), copy.deepcopy(options))


def extend(scheduler: Any, optimizer: torch.optim.Optimizer, new: Standing | None) -> bool:
    """Make a schedule that was resumed one of the present configuration, at the same step.

    Args:
        scheduler: As the checkpoint has it.
        optimizer: The one it acts on, likewise.
        new: Where the schedule stood before the checkpoint was read.

    Returns:
        Whether it differs from what the checkpoint has.

    Raises:
        UsageError: The new schedule ends before the step.
    """
    if new is None:
        return False
    old = standing(scheduler, optimizer)
    if old.state.get("base_lrs") != new.state.get("base_lrs") or _shape(old) == _shape(new):
        return False  # another rate is another training; ESPnet goes on with the old one
    steps = old.state["last_epoch"] - new.state["last_epoch"]
    _put(scheduler, optimizer, new)
    try:
        with warnings.catch_warnings():  # the optimiser has not moved, as torch wants to see
            warnings.simplefilter("ignore")
            for _ in range(steps):
                scheduler.step()
    except ValueError as e:
        how = "train again from the start, or give more epochs"
        raise UsageError(f"the schedule cannot be at step {steps}: {e}", "scheduler", how) from None
    if _shape(standing(scheduler, optimizer)) == _shape(old):
        _put(scheduler, optimizer, old)
        return False
    return True


def _shape(where: Standing) -> dict[str, Any]:
    return {k: v for k, v in where.state.items() if k not in _STANDS_AT and not _is_nan(v)}


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _put(scheduler: Any, optimizer: torch.optim.Optimizer, where: Standing) -> None:
    scheduler.load_state_dict(copy.deepcopy(where.state))
    for group, options in zip(optimizer.param_groups, where.groups, strict=True):
        group.update(copy.deepcopy(options))
