# SPDX-License-Identifier: Apache-2.0
"""Stop a training whose numbers are no longer finite, before a checkpoint of it is written.

ESPnet skips an update whose gradient is not finite and goes on; batch normalisation has taken the
batch into its statistics by then, and the model that comes out recognises nothing. Looking costs
no synchronisation of its own on a GPU: each batch leaves a flag there, read ``EVERY`` batches.
"""

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.batchnorm import _NormBase

from espnet_ext.errors import EspnetExtError
from espnet_ext.espnet.checkpoint import load

EVERY = 50  # batches between two looks at the flags of a GPU
SHOWN = 20  # utterance ids in a message; the log has all
TIMES_FIRST = 1e3  # a loss so many times that of the first batch has diverged
_LOSS, _STATISTICS = 1, 2


class NotFiniteError(EspnetExtError):
    """A loss, a statistic or a weight is NaN or infinite, or the training has diverged."""


class FiniteGuard:
    """Hands batches on and watches what ``model`` makes of each.

    A context manager: the watch is a hook of the model's ``forward`` inside the block.

    Args:
        model: Returns ``(loss, stats, weight)`` or a dictionary with ``loss``.
        batches: Yields ``(utterance ids, batch)``.
        part: What the message calls the batches, e.g. ``training batch``.
        kept: What the message says of the checkpoint that is left.
    """

    def __init__(self, model: torch.nn.Module, batches: Any, part: str, kept: str = ""):
        self.batches, self.part, self.kept = batches, part, kept
        self.forwards = 0  # batches that the model has seen
        self._model, self._hook = model, None
        self._waiting: list[tuple[int, list[str], torch.Tensor]] = []
        self._utts: list[str] = []
        norms = [m for m in model.modules() if isinstance(m, _NormBase) and m.track_running_stats]
        self._statistics = [b for m in norms for b in (m.running_mean, m.running_var)]

    def __enter__(self) -> "FiniteGuard":
        self._hook = self._model.register_forward_hook(self._look)
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self._hook.remove()
        if kind is None:
            self.check()

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator:
        for utts, batch in self.batches:
            if self._waiting and not (_on_gpu(self._waiting[-1][2]) and len(self._waiting) < EVERY):
                self.check()
            more = [ids for key, ids in batch.items() if key.endswith("_utt_id")]  # other streams
            self._utts = [*utts, *(utt for ids in more for utt in ids)]
            yield utts, batch

    @torch.no_grad()
    def _look(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        loss = (output["loss"] if isinstance(output, dict) else output[0]).detach()
        flag = _LOSS * ~torch.isfinite(loss).all()
        if self._statistics and module.training:
            norms = torch.stack(torch._foreach_norm(self._statistics))
            flag = flag + _STATISTICS * ~torch.isfinite(norms).all()
        self.forwards += 1
        self._waiting.append((self.forwards, self._utts, flag))

    def check(self) -> None:
        """Read the flags of the batches since the last look.

        Raises:
            NotFiniteError: A loss or the statistics after a batch are not finite; it names the
                utterances of the first such batch.
        """
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        flags = torch.stack([flag for *_, flag in waiting]).tolist()
        for (number, utts, _), flag in zip(waiting, flags, strict=True):
            if flag:
                self._fail(number, utts, int(flag))

    def _fail(self, number: int, utts: list[str], flag: int) -> None:
        what = "the loss is" if flag & _LOSS else "statistics of batch normalisation are"
        logging.error(f"not finite after {self.part} {number}: {' '.join(utts)}")
        shown = ", ".join(utts[:SHOWN])
        more = f" and {len(utts) - SHOWN} more (see the log)" if len(utts) > SHOWN else ""
        raise NotFiniteError(
            f"{what} not finite (NaN or infinite) after {self.part} {number}",
            f"utterances {shown}{more}",
            "look at the audio and text of these utterances; if they are sound, lower the "
            f"learning rate or start from other weights{self.kept}",
        )


def _on_gpu(flag: torch.Tensor) -> bool:
    return flag.is_cuda


def not_finite(model: torch.nn.Module) -> list[str]:
    """Return the names of all parameters and saved buffers with a value that is not finite."""
    return _bad_names(model.state_dict())


def _bad_names(states: dict[str, Any]) -> list[str]:
    kinds = (k for k, v in states.items() if isinstance(v, torch.Tensor))
    names = [k for k in kinds if states[k].is_floating_point() or states[k].is_complex()]
    if not names:
        return []
    fine = torch.stack([torch.isfinite(states[k]).all() for k in names]).tolist()
    return [name for name, is_fine in zip(names, fine, strict=True) if not is_fine]


def infinite_by_design(model: torch.nn.Module) -> list[str]:
    """Return the names of saved buffers with infinities but no NaN before a training, e.g. masks.

    Statistics of features that are NaN are none of these: they come of audio that is not finite.
    """
    buffers = dict(model.named_buffers())
    return [n for n in not_finite(model) if n in buffers and not buffers[n].isnan().any()]


def check_weights(model: torch.nn.Module, when: str, how: str, allowed: list[str] = ()) -> None:
    """Check all parameters and saved buffers.

    Args:
        model: Any.
        when: Goes into the message, e.g. ``after epoch 3``.
        how: What the user can do.
        allowed: Names that need not be finite, e.g. a mask that is a buffer.

    Raises:
        NotFiniteError: One is not finite.
    """
    _fail_on([name for name in not_finite(model) if name not in allowed], when, how)


def _fail_on(names: list[str], where: str, how: str) -> None:
    if names:
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        shown = ", ".join(names[:5])
        what = f"{len(names)} tensors of the model are not finite: {shown}{more}"
        raise NotFiniteError(what, where, how)


def check_averages(output_dir: Path, allowed: list[str] = ()) -> None:
    """Check the averaged models of a training; one that is not finite is deleted.

    Raises:
        NotFiniteError: One is not finite.
    """
    for path in sorted(p for p in output_dir.glob("*.ave_*best.pth") if not p.is_symlink()):
        bad = [name for name in _bad_names(load(path)) if name not in allowed]
        if bad:
            path.unlink()
        _fail_on(bad, path, "average fewer models (keep_nbest_models) or lower the learning rate")


def check_diverged(loss: float, first: float, epoch: int, kept: str = "") -> None:
    """Compare the mean loss of an epoch to that of the very first batch.

    Raises:
        NotFiniteError: It is a thousand times as high.
    """
    if loss > TIMES_FIRST * max(1.0, abs(first)) or math.isinf(loss):
        raise NotFiniteError(
            f"the training has diverged: its loss is {loss:.3g} and was {first:.3g} at first",
            f"epoch {epoch}",
            f"lower the learning rate (optim_conf.lr) or bound the gradient (grad_clip){kept}",
        )
