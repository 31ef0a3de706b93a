# SPDX-License-Identifier: Apache-2.0
"""Options of ESPnet's training and decoding, compared with the classes that take them."""

import argparse
import inspect
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet2.tasks.abs_task import optim_classes, scheduler_classes

from espnet_ext.errors import UsageError, nearest

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


def check_options(cls: Any, options: Mapping[str, Any], where: str) -> None:
    """Refuse options that a class or function does not have.

    Raises:
        UsageError: One is unknown; ``where`` is ``<where>.<option>``.
    """
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in options:
        if key not in parameters:
            what = f"{cls.__name__} has no option '{key}'"
            raise UsageError(what, f"{where}.{key}", nearest(str(key), parameters))


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


def beam_help(option: str) -> str:
    """Return what is known of an option of ESPnet's beam search.

    Raises:
        UsageError: There is no such option; the nearest is named.
    """
    from espnet2.bin.asr_inference import Speech2Text

    check_options(Speech2Text, {option: None}, "--help")
    parameter = inspect.signature(Speech2Text).parameters[option]
    kind = getattr(parameter.annotation, "__name__", parameter.annotation)
    return f"option of espnet2.bin.asr_inference.Speech2Text\n  type:    {kind}\n  default: " + str(
        parameter.default
    )


def stream_types() -> frozenset[str]:
    """Return the types of data that ESPnet itself reads."""
    from espnet2.train.dataset import DATA_TYPES

    return frozenset(DATA_TYPES)


def check_beam(options: Mapping[str, Any], where: str) -> None:
    """Compare options with ESPnet's beam search, by name and by type.

    Raises:
        UsageError: One is unknown, of another type, out of range, or a file that is missing.
    """
    from espnet2.bin.asr_inference import Speech2Text

    _check_search(Speech2Text, options, where)


def check_translation(options: Mapping[str, Any], where: str) -> None:
    """Compare options with ESPnet's beam search over translations, as :func:`check_beam` does."""
    from espnet2.bin.st_inference import Speech2Text

    _check_search(Speech2Text, options, where)


def _check_search(cls: Any, options: Mapping[str, Any], where: str) -> None:
    check_options(cls, options, where)
    parameters = inspect.signature(cls).parameters
    for key, value in options.items():
        place, default = f"{where}.{key}", parameters[key].default
        if isinstance(default, bool | int | float) and not _same_kind(value, default):
            raise UsageError(f"{key} must be like {default!r}, not {value!r}", place)
        if key in ("beam_size", "nbest") and value < 1:
            raise UsageError(f"{key} must be at least 1, not {value}", place)
        if key == "ctc_weight" and not 0 <= value <= 1:
            raise UsageError(f"{key} must be from 0 to 1, not {value}", place)
        file = key.endswith(("_file", "_config")) and isinstance(value, str)
        if file and Path(value).parts[:1] != ("exp",) and not Path(value).exists():
            raise UsageError("there is no such file", f"{place}: {value}")


def _same_kind(value: Any, default: bool | int | float) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    kinds = int | float if isinstance(default, float) else int
    return isinstance(value, kinds) and value == value  # not NaN
