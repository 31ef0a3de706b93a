# SPDX-License-Identifier: Apache-2.0
"""Build what a training will build, before its data exist: model, optimisers, schedulers, one loss.

What only earlier stages can know has a stand-in: a token list of the size that is asked for, no
global normalisation, and what a task's own ``stand_in(args)`` gives.
"""

import argparse
import contextlib
import gc
import inspect
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from torch import nn

from espnet_ext.errors import EspnetExtError, UsageError, nearest
from espnet_ext.espnet import schedules
from espnet_ext.espnet.compat import provide_editdistance, quiet_import
from espnet_ext.espnet.init import Shapes, tokens_of

# ESPnet takes any number here, and fails, or trains nothing, where it is used.
AT_LEAST = {
    "max_epoch": 1, "patience": 1, "accum_grad": 1, "batch_size": 1, "batch_bins": 1,
    "valid_batch_size": 1, "valid_batch_bins": 1, "keep_nbest_models": 1, "num_workers": 0,
    "num_iters_per_epoch": 1, "num_att_plot": 0, "log_interval": 1, "max_cache_size": 0,
}  # fmt: skip
_CHECKPOINT = re.compile(r"(train|valid)\.(.+)\.(?:best|ave|ave_(\d+)best)\.pth")
_SECONDS = 2.0  # of the audio that is tried


@dataclass
class Built:
    """What a training would start with.

    Attributes:
        shapes: Shapes of the model's state, by name; empty if it could not be built yet.
        parameters: Number of trainable parameters.
        tokens: The token list; None where there is a stand-in, or none at all.
        waits: Why the model could not be built yet.
    """

    shapes: Shapes = field(default_factory=dict)
    parameters: int = 0
    tokens: list[str] | None = None
    waits: str = ""


def build(
    task: type,
    args: argparse.Namespace,
    vocabulary: int | list[str],
    checkpoint: str = "",
    stock: bool = True,
) -> Built:
    """Build everything as ESPnet's ``main_worker`` does.

    Args:
        task: The ESPnet task.
        args: Its parsed options; some are replaced by stand-ins.
        vocabulary: The token list where there is no file yet, or its size.
        checkpoint: Name of the model file that later stages take, e.g. ``valid.acc.ave.pth``.
        stock: The batch is speech and text alone, so that a loss can be computed.

    Raises:
        UsageError: An option is not possible; ``where`` is its dotted name.
    """
    check_numbers(args)
    check_sections(task, args)
    tokens = tokens_of(getattr(args, "token_list", None))  # the model puts its own list there
    if tokens is None and isinstance(vocabulary, list):
        tokens = vocabulary
    with _unchanged_random_state(args.seed), contextlib.redirect_stdout(None):
        _stand_in(task, args, vocabulary)
        try:
            with _told("the model cannot be built"):
                model = task.build_model(args)
        except EspnetExtError as e:
            if not _is_of_later(e):
                raise
            _optimisers(task, args, None)
            return Built(waits=f"{e.what} ({e.where})")
        _freeze(model, args.freeze_param)
        _optimisers(task, args, model)
        told = _statistics(model, args) if stock else {}
        check_criteria(args, checkpoint, told)
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        del model
    gc.collect()
    return Built(shapes, count, tokens)


def check_numbers(args: argparse.Namespace) -> None:
    """Refuse numbers that ESPnet would take and could not use.

    Raises:
        UsageError: One is too small.
    """
    for key, least in AT_LEAST.items():
        values = getattr(args, key, None)
        for value in values if isinstance(values, list | tuple) else [values]:
            if value is not None and value < least:
                raise UsageError(f"{key} must be at least {least}, not {value}", key)


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


def check_criteria(args: argparse.Namespace, checkpoint: str, told: Mapping[str, Any]) -> None:
    """Check that the criteria are computed, and that the wanted checkpoint will be written.

    Args:
        args: Options of the training.
        checkpoint: Name of the model file that later stages take.
        told: Statistics of a validation batch; empty if none was computed.

    Raises:
        UsageError: They are not.
    """
    wanted = [(part, key) for part, key, *_ in args.best_model_criterion]
    for part, key in wanted:
        if told and part == "valid" and key in told and told[key] is None:
            have = sorted(k for k, v in told.items() if v is not None)
            raise UsageError(
                f"validation does not compute '{key}' with this model",
                "best_model_criterion", f"one of {', '.join(have)}",
            )  # fmt: skip
    if not (match := _CHECKPOINT.fullmatch(checkpoint)):
        return
    if (match[1], match[2]) not in wanted:
        have = ", ".join(f"{part}.{key}.ave.pth" for part, key in wanted)
        raise UsageError(
            f"no training of this configuration writes {checkpoint}: its criteria are "
            + ", ".join(f"{part} {key}" for part, key in wanted), "model", f"one of {have}",
        )  # fmt: skip


@contextlib.contextmanager
def _unchanged_random_state(seed: int) -> Iterator[None]:
    """Leave the random numbers of the process as they were."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn what ESPnet's constructors raise into one message."""
    try:
        yield
    except EspnetExtError:
        raise
    except OSError as e:
        raise UsageError(f"{what}: {e.strerror or e}", e.filename) from e
    except Exception as e:
        raise UsageError(f"{what}: {type(e).__name__}: {e}", _section_of(e)) from e


def _section_of(error: Exception) -> str | None:
    """Return the ``*_conf`` section whose class raised, as far as the message tells."""
    match = re.match(r"(\w+)\.__init__\(\)", str(error))
    return f"the options of {match[1]}" if match else None


def _stand_in(task: type, args: argparse.Namespace, vocabulary: int | list[str]) -> None:
    tokens = getattr(args, "token_list", None)
    if isinstance(tokens, str) and not Path(tokens).exists():
        if isinstance(vocabulary, int):
            inner = [f"token{i}" for i in range(max(1, vocabulary - 3))]
            vocabulary = ["<blank>", "<unk>", *inner, "<sos/eos>"]
        args.token_list = list(vocabulary)
    if getattr(args, "normalize", None) == "global_mvn":
        stats = (args.normalize_conf or {}).get("stats_file")
        if not stats or not Path(stats).exists():
            args.normalize, args.normalize_conf = None, {}
    args.ngpu = 0
    schedules.stand_in(args, task.num_optimizers)
    own = getattr(task, "stand_in", None)
    if own is not None:
        with _told("the configuration cannot be used"):
            own(args)


def _is_of_later(error: EspnetExtError) -> bool:
    """Whether a file is missing that an earlier stage makes."""
    path = Path(str(error.where or ""))
    made = ("data", "dump", "exp")
    return bool(path.parts) and path.parts[0] in made and not path.exists()


def _freeze(model: nn.Module, prefixes: list[str]) -> None:
    """As ESPnet's ``freeze_param``, which takes a name that matches nothing in silence."""
    for prefix in prefixes:
        named = [p for k, p in model.named_parameters() if f"{k}.".startswith(f"{prefix}.")]
        if not named:
            parts = {n for n, _ in model.named_modules() if n}
            what = f"freeze_param: there is no parameter '{prefix}'"
            raise UsageError(what, "freeze_param", nearest(prefix, parts))
        for p in named:
            p.requires_grad = False


def _optimisers(task: type, args: argparse.Namespace, model: nn.Module | None) -> None:
    """Build optimisers and schedulers; without a model, of one stand-in parameter."""
    with _told("the optimiser cannot be built"):
        if model is None:
            some = nn.Linear(1, 1).parameters()
            optimisers = [optim_classes[args.optim](some, **args.optim_conf)]
        else:
            optimisers = task.build_optimizers(args, model)
    for i, optimiser in enumerate(optimisers, 1):
        suffix = "" if i == 1 else str(i)
        name, conf = (getattr(args, f"scheduler{suffix}{x}", None) for x in ("", "_conf"))
        if name is not None:
            with _told(f"the scheduler {name} cannot be built"):
                scheduler_classes[name.lower()](optimiser, **(conf or {}))


def _statistics(model: nn.Module, args: argparse.Namespace) -> dict[str, Any]:
    """Return the statistics of validation on noise: what the criteria may name."""
    from espnet_ext.frames import rate_hz

    provide_editdistance()
    samples = int(_SECONDS * rate_hz(getattr(args, "frontend_conf", None)))
    batch = {
        "speech": 0.1 * torch.randn(2, samples),
        "speech_lengths": torch.tensor([samples, samples]),
        "text": torch.randint(1, max(2, len(args.token_list) - 1), (2, 3)),
        "text_lengths": torch.tensor([3, 3]),
    }
    model.eval()
    with torch.no_grad(), quiet_import(), _told("the model cannot compute its loss"):
        answer = model(**batch)
    model.train()
    stats = answer["stats"] if isinstance(answer, dict) else answer[1]
    return dict(stats)


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
    kind = getattr(a.type, "__name__", None) or "section" if option.endswith("_conf") else a.type
    lines = [a.help or "an option of ESPnet's training"]
    lines += [f"  type:    {getattr(kind, '__name__', kind) or 'text'}", f"  default: {a.default}"]
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

    check_options(Speech2Text, options, where)
    parameters = inspect.signature(Speech2Text).parameters
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
