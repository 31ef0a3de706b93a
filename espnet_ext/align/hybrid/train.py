# SPDX-License-Identifier: Apache-2.0
"""Training of the BLSTM on frame labels: held-out part, batches, epochs, priors."""

import copy
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from espnet_ext.align.hybrid.network import Blstm
from espnet_ext.align.options import Hybrid, pick_device
from espnet_ext.errors import DataError

IGNORED = -1
MIN_BATCHES = 12  # of an epoch: smaller sets have smaller batches, or nothing would be learnt
PRIOR_COUNT = 10.0  # added to the frames of each state, so that no prior is zero


@dataclass(frozen=True)
class Example:
    """Frames ``[start, end)`` of an utterance."""

    utt: str
    start: int
    end: int


def is_held_out(utt: str, share: float) -> bool:
    """Choose held-out utterances by their ids, the same in every round."""
    return zlib.crc32(utt.encode()) / 2**32 < share


def train(
    lengths: dict[str, int],
    read: Callable[[str], torch.Tensor],
    label: Callable[[str], torch.Tensor],
    num_states: int,
    o: Hybrid,
    seed: int,
    say: Callable[[str], None],
) -> tuple[Blstm, list[dict]]:
    """Train on frame labels until the held-out frame accuracy stops rising.

    Args:
        lengths: Frames of each utterance.
        read: ``read(utt)`` -> ``(T, num_mel)``.
        label: ``label(utt)`` -> ``(T,)`` tied states.
        num_states: K.
        o: Options.
        seed: Of initialisation, dropout and the order of batches.
        say: Receives a line an epoch.

    Returns:
        The best model and a row for each epoch.

    Raises:
        DataError: The loss is not finite; the utterances of the batch are named.
    """
    device = pick_device(o.device)
    train_set, held_out = _examples(lengths, o)
    rng = np.random.default_rng(seed)
    rows: list[dict] = []
    with torch.random.fork_rng(devices=[0] if device == "cuda" else []):
        torch.manual_seed(seed)
        model = Blstm(o.num_mel, o.layers, o.units, num_states, o.dropout).to(device)
        model.log_prior.copy_(_log_prior(lengths, label, num_states))
        optimiser = torch.optim.Adam(model.parameters(), o.lr)
        best, best_state = -1.0, copy.deepcopy(model.state_dict())
        for epoch in range(1, o.epochs + 1):
            _set_rate(optimiser, o, epoch)
            loss, accuracy = _epoch(model, train_set, read, label, o, device, optimiser, rng)
            with torch.no_grad():
                _, valid = _epoch(model, held_out, read, label, o, device)
            rows.append({"epoch": epoch, "loss": loss, "accuracy": accuracy, "held_out": valid})
            say(f"  hybrid epoch {epoch}/{o.epochs}: loss {loss:.3f}, frames right {accuracy:.1%}, "
                f"held out {valid:.1%}")  # fmt: skip
            if valid > best:
                best, best_state, since = valid, copy.deepcopy(model.state_dict()), 0
            elif (since := since + 1) >= o.patience:
                break
    model.load_state_dict(best_state)
    return model.cpu().eval(), rows


def _set_rate(optimiser: torch.optim.Optimizer, o: Hybrid, epoch: int) -> None:
    """Set the learning rate of an epoch: half a cosine, from ``o.lr`` in the first."""
    rate = 0.5 * o.lr * (1 + math.cos(math.pi * (epoch - 1) / o.epochs))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _examples(lengths: dict[str, int], o: Hybrid) -> tuple[list[Example], list[Example]]:
    parts: tuple[list[Example], list[Example]] = ([], [])
    utts = sorted(lengths)
    held = {u for u in utts if is_held_out(u, o.held_out)} or set(utts[:1])
    if len(held) == len(utts):
        held.remove(utts[-1])  # something has to be trained on
    for utt in utts:
        pieces = max(1, math.ceil(lengths[utt] / o.max_frames))
        cuts = [lengths[utt] * i // pieces for i in range(pieces + 1)]
        own = parts[1] if utt in held else parts[0]
        own += [Example(utt, a, b) for a, b in pairwise(cuts)]
    return parts[0], parts[1] or parts[0]


def _log_prior(lengths: dict[str, int], label: Callable, num_states: int) -> torch.Tensor:
    counts = torch.full((num_states,), PRIOR_COUNT, dtype=torch.float64)
    for utt in sorted(lengths):
        counts += torch.bincount(label(utt).long(), minlength=num_states)
    return (counts / counts.sum()).log().float()


def _batches(
    examples: list[Example], frames: int, rng: np.random.Generator | None
) -> Iterator[list[Example]]:
    """Yield batches of similar length, longest first within; shuffled if ``rng`` is given."""
    ordered = sorted(examples, key=lambda e: (e.start - e.end, e.utt, e.start))
    batches: list[list[Example]] = [[]]
    for e in ordered:
        if (
            batches[-1]
            and (len(batches[-1]) + 1) * (batches[-1][0].end - batches[-1][0].start) > frames
        ):
            batches.append([])
        batches[-1].append(e)
    if rng is not None:
        rng.shuffle(batches)
    yield from batches


def _epoch(model, examples, read, label, o, device, optimiser=None, rng=None):
    """Go through the examples once; return loss per frame and share of right frames."""
    model.train(optimiser is not None)
    loss_sum, right, frames = 0.0, 0, 0
    limit = o.batch_frames
    if optimiser is not None:
        limit = min(limit, sum(e.end - e.start for e in examples) // MIN_BATCHES)
    for batch in _batches(examples, limit, rng):
        xs = [read(e.utt)[e.start : e.end] for e in batch]
        ys = [label(e.utt)[e.start : e.end].long() for e in batch]
        x = nn.utils.rnn.pad_sequence(xs, batch_first=True).to(device)
        y = nn.utils.rnn.pad_sequence(ys, batch_first=True, padding_value=IGNORED).to(device)
        logp = model(x)  # pieces of nearly equal length
        loss = nn.functional.nll_loss(
            logp.flatten(0, 1), y.flatten(), ignore_index=IGNORED, reduction="sum"
        )
        if not bool(loss.isfinite()):
            raise DataError(
                f"the loss of the hybrid is {float(loss.detach())}",
                ", ".join(e.utt for e in batch),
                "lower align.hybrid.lr, or look at the audio of these utterances",
            )  # fmt: skip
        n = int((y != IGNORED).sum())
        if optimiser is not None:
            optimiser.zero_grad()
            (loss / n).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
        loss_sum, frames = loss_sum + float(loss.detach()), frames + n
        right += int(((logp.argmax(-1) == y) & (y != IGNORED)).sum())
    return loss_sum / max(1, frames), right / max(1, frames)
