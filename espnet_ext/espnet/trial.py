# SPDX-License-Identifier: Apache-2.0
"""Build what a training will build, before its data exist: model, optimisers, schedulers, one loss.

What only earlier stages can know has a stand-in: a token list of the size that is asked for, no
global normalisation, and what a task's own ``stand_in(args)`` gives. A model with further streams
makes some up for the loss: ``trial_streams()``, of two utterances. Before all that,
``settle(args)`` of a task puts in the sections that the task itself settles.
"""

import argparse
import contextlib
import gc
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from espnet2.tasks.abs_task import optim_classes, scheduler_classes
from torch import nn

from espnet_ext.errors import EspnetExtError, UsageError, nearest, told
from espnet_ext.espnet import schedules
from espnet_ext.espnet.compat import provide_editdistance, quiet_import
from espnet_ext.espnet.init import Shapes, tokens_of
from espnet_ext.espnet.options import check_numbers, check_sections
from espnet_ext.espnet.random_state import unchanged_random_state

_CHECKPOINT = re.compile(r"(train|valid)\.(.+)\.(?:best|ave|ave_(\d+)best)\.pth")
_EPOCH = re.compile(r"\d+epoch\.pth|latest\.pth")
_SECONDS = 2.0  # of the audio that is tried


@dataclass
class Built:
    """What a training would start with.

    Attributes:
        shapes: Shapes of the model's state, by name; empty if it could not be built yet.
        parameters: Number of trainable parameters.
        tokens: The token list; None where there is a stand-in, or none at all.
        waits: What the model needs and earlier stages make; then it was not built.
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
    settle = getattr(task, "settle", None)
    if settle is not None:
        with _told("the configuration cannot be used"):
            settle(args)
    check_sections(task, args)
    tokens = tokens_of(getattr(args, "token_list", None))  # the model puts its own list there
    if tokens is None and isinstance(vocabulary, list):
        tokens = vocabulary
    with unchanged_random_state(), contextlib.redirect_stdout(None):
        torch.manual_seed(args.seed)
        _stand_in(task, args, vocabulary)
        try:
            with _told("the model cannot be built"):
                model = task.build_model(args)
        except EspnetExtError as e:
            if not _is_of_later(e):
                raise
            _optimisers(task, args, None)
            return Built(waits=str(e.where or e.what))
        _freeze(model, args.freeze_param)
        _optimisers(task, args, model)
        statistics = _statistics(model, args) if stock else {}
        check_criteria(args, checkpoint, statistics)
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        del model
    gc.collect()
    return Built(shapes, count, tokens)


def check_criteria(
    args: argparse.Namespace, checkpoint: str, statistics: Mapping[str, Any]
) -> None:
    """Check that the criteria are computed, and that the wanted checkpoint will be written.

    Args:
        args: Options of the training.
        checkpoint: Name of the model file that later stages take.
        statistics: Of a validation batch; empty if none was computed.

    Raises:
        UsageError: They are not.
    """
    wanted = [(part, key) for part, key, *_ in args.best_model_criterion]
    for part, key in wanted:
        if statistics and part == "valid" and statistics.get(key) is None:
            have = sorted(k for k, v in statistics.items() if v is not None)
            raise UsageError(
                f"validation does not compute '{key}' with this model",
                "best_model_criterion", nearest(key, have),
            )  # fmt: skip
    if not checkpoint or _EPOCH.fullmatch(checkpoint):
        return
    if not (match := _CHECKPOINT.fullmatch(checkpoint)):
        known = [f"{part}.{key}.{kind}.pth" for part, key in wanted for kind in ("ave", "best")]
        raise UsageError(f"no training writes {checkpoint}", "model", nearest(checkpoint, known))
    if (match[1], match[2]) not in wanted:
        have = ", ".join(f"{part}.{key}.ave.pth" for part, key in wanted)
        raise UsageError(
            f"no training of this configuration writes {checkpoint}: its criteria are "
            + ", ".join(f"{part} {key}" for part, key in wanted), "model", f"one of {have}",
        )  # fmt: skip
    _check_average(args, checkpoint, int(match[3] or 1))


def _check_average(args: argparse.Namespace, checkpoint: str, count: int) -> None:
    """Check that so many models are averaged; ESPnet averages fewer where there are fewer."""
    kept = args.keep_nbest_models
    kept = kept if isinstance(kept, list) else [kept]
    if count > 1 and count not in kept:
        what = f"no training of this configuration writes {checkpoint}: keep_nbest_models is {kept}"
        raise UsageError(what, "model", f"keep_nbest_models: [{count}], or another model")
    if args.max_epoch is not None and count > args.max_epoch:
        what = f"{checkpoint} is of {count} epochs, and there are {args.max_epoch}"
        raise UsageError(what, "model", "more epochs, or another model")


@contextlib.contextmanager
def _told(what: str, where: str | None = None) -> Iterator[None]:
    """Turn what ESPnet's constructors raise into one message; ``where`` if it does not tell."""
    try:
        yield
    except EspnetExtError:
        raise
    except OSError as e:
        raise UsageError(f"{what}: {e.strerror or e}", e.filename) from e
    except Exception as e:
        raise UsageError(f"{what}: {told(e)}", _section_of(e) or where) from e


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
    with _told(
        "the optimiser cannot be built", f"optim: {args.optim}, optim_conf: {args.optim_conf}"
    ):
        if model is None:
            some = nn.Linear(1, 1).parameters()
            optimisers = [optim_classes[args.optim](some, **args.optim_conf)]
        else:
            optimisers = task.build_optimizers(args, model)
    for i, optimiser in enumerate(optimisers, 1):
        suffix = "" if i == 1 else str(i)
        name, conf = (getattr(args, f"scheduler{suffix}{x}", None) for x in ("", "_conf"))
        if name is not None:
            with _told(f"the scheduler {name} cannot be built", f"scheduler{suffix}_conf: {conf}"):
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
    batch |= getattr(model, "trial_streams", dict)()
    model.eval()
    with torch.no_grad(), quiet_import(), _told("the model cannot compute its loss"):
        answer = model(**batch)
    model.train()
    stats = answer["stats"] if isinstance(answer, dict) else answer[1]
    return dict(stats)
