# SPDX-License-Identifier: Apache-2.0
"""Options of ESPnet's training, compared with the classes that take them."""

import argparse
import math
from collections.abc import Iterator, Mapping
from typing import Any

from espnet2.tasks.abs_task import optim_classes, scheduler_classes

from espnet_ext.errors import UsageError, nearest
from espnet_ext.espnet.search_options import check_options

# ESPnet takes any number here, and fails, or trains nothing, where it is used.
AT_LEAST = {
    "max_epoch": 1, "patience": 1, "accum_grad": 1, "batch_size": 1, "batch_bins": 1,
    "valid_batch_size": 1, "valid_batch_bins": 1, "keep_nbest_models": 1, "num_workers": 0,
    "num_iters_per_epoch": 1, "num_att_plot": 0, "log_interval": 1, "max_cache_size": 0,
}  # fmt: skip


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that ESPnet would take and could not use.

    Raises:
        UsageError: One is too small, or not a number.
    """
    for key, value in vars(args).items():
        for place, number in _floats(key, value):
            if math.isnan(number):
                raise UsageError(f"{place} is not a number", place, "give a number")
    for key, least in AT_LEAST.items():
        values = getattr(args, key, None)
        for value in values if isinstance(values, list | tuple) else [values]:
            if value is not None and value < least:
                raise UsageError(f"{key} must be at least {least}, not {value}", key)
    clip = getattr(args, "grad_clip", None)
    if clip is not None and clip <= 0:  # 0 leaves no gradient, less than 0 reverses it
        raise UsageError(f"grad_clip must be above 0, not {clip}", "grad_clip", "for none: .inf")


def _floats(place: str, value: Any) -> Iterator[tuple[str, float]]:
    """Yield the numbers in nested options, each with its dotted name."""
    if isinstance(value, float):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _floats(f"{place}.{key}", inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _floats(place, inner)


def check_sections(task: type, args: argparse.Namespace) -> None:
    """Compare the keys of each ``*_conf`` section with the class that it is for.

    Raises:
        UsageError: A key that the class does not have; the nearest valid one is named.
    """
    found = [(c.name, c.get_class(getattr(args, c.name))) for c in task.class_choices_list]
    for i in range(1, task.num_optimizers + 1):
        suffix = "" if i == 1 else str(i)
        for name, classes in (("optim", optim_classes), ("scheduler", scheduler_classes)):
            chosen = getattr(args, name + suffix)
            found.append((name + suffix, classes.get(chosen.lower()) if chosen else None))
    for name, cls in found:
        section = f"{name}_conf"
        if cls is not None and isinstance(conf := getattr(args, section, None), Mapping):
            check_options(cls, conf, section)


def option_help(option: str) -> str:
    """Return what ESPnet's ASR training says of an option: meaning, type, default.

    Raises:
        UsageError: There is no such option; the nearest is named.
    """
    from espnet_ext.espnet.task import ASRTask

    actions = {a.dest: a for a in ASRTask.get_parser()._actions}
    if option not in actions:
        what = f"ESPnet's training has no option '{option}'"
        raise UsageError(what, "--help", nearest(option, actions))
    a = actions[option]
    kind = "section" if option.endswith("_conf") else getattr(a.type, "__name__", "text")
    kind = {"<lambda>": "text", "int_or_none": "int", "str_or_none": "text"}.get(kind, kind)
    lines = [a.help or "an option of ESPnet's training"]
    lines += [f"  type:    {kind}", f"  default: {a.default}"]
    lines += [f"  one of:  {', '.join(map(str, a.choices))}"] if a.choices else []
    return "\n".join(lines)


def stream_types() -> frozenset[str]:
    """Return the types of data that ESPnet itself reads."""
    from espnet2.train.dataset import DATA_TYPES

    return frozenset(DATA_TYPES)
