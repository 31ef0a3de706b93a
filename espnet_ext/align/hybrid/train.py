# SPDX-License-Identifier: Apache-2.0
"""Training of a network on frame labels: steps, epochs, the best one kept."""

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from espnet_ext.align.hybrid.files import make_network
from espnet_ext.align.hybrid.network import Network
from espnet_ext.align.hybrid.pieces import Epochs, Frames, Pieces, batches, read_batches, split
from espnet_ext.align.options import Hybrid, pick_device
from espnet_ext.errors import DataError
from espnet_ext.precision import resolve

PRIOR_COUNT = 10.0  # added to the frames of each state, so that no prior is zero
LOOK_EVERY = 100  # steps; to look at a loss makes a GPU wait
Rows = Iterable[np.ndarray]


def train(
    data: Frames, o: Hybrid, seed: int, say: Callable[[str], None], start: Network | None = None
) -> tuple[Network, list[dict]]:
    """Train on frame labels until the held-out frame accuracy stops rising.

    Args:
        data: Features and labels.
        o: Options.
        seed: Of initialisation, dropout and the order of batches.
        say: Receives a line an epoch.
        start: Network to go on from, which keeps its priors, and which is the best one until an
            epoch is better; default: random weights, and the priors of ``data``.

    Returns:
        The best model and a row for each epoch.

    Raises:
        DataError: The loss is not finite; the utterances of the batch are named.
    """
    o, device = o.filled(), pick_device(o.device)
    training, held = split(data.lengths, o)
    rows: list[dict] = []
    with torch.random.fork_rng(devices=[0] if device == "cuda" else []):
        torch.manual_seed(seed)
        model = (start or _fresh(o, data.counts)).to(device)
        auto_blstm = o.precision == "auto" and model.kind == "blstm"  # bfloat16 saves it no time
        model.precision = "float32" if auto_blstm else resolve(o.precision, device)
        padded = model.kind == "blstm"
        epochs = Epochs(training, o, np.random.default_rng(seed), padded)
        run = _Run(model, data, device, torch.optim.Adam(model.parameters(), o.lr))
        best, best_state, since = -1.0, copy.deepcopy(model.state_dict()), 0
        if start is not None:
            best = _held_out(run, held, o, padded)
            say(f"  hybrid before: held out {best:.1%}")
        for epoch in range(1, o.epochs + 1):
            _set_rate(run.optimiser, o, epoch)
            loss, accuracy = run.epoch(training, epochs.next(), learn=True)
            valid = _held_out(run, held, o, padded)
            rows.append({"epoch": epoch, "loss": loss, "accuracy": accuracy, "held_out": valid})
            say(f"  hybrid epoch {epoch}/{o.epochs}: loss {loss:.3f}, frames right {accuracy:.1%}, "
                f"held out {valid:.1%}")  # fmt: skip
            if valid > best:
                best, best_state, since = valid, copy.deepcopy(model.state_dict()), 0
            elif (since := since + 1) >= o.patience:
                break
    model.load_state_dict(best_state)
    return model.cpu().eval(), rows


def _held_out(run: "_Run", held: Pieces, o: Hybrid, padded: bool) -> float:
    """Return the share of held-out frames that are right."""
    rows = batches(held, np.arange(len(held.utt)), o.batch_frames, padded=padded)
    return run.epoch(held, rows)[1]


def _set_rate(optimiser: torch.optim.Optimizer, o: Hybrid, epoch: int) -> None:
    """Set the learning rate of an epoch: half a cosine, from ``o.lr`` in the first."""
    rate = 0.5 * o.lr * (1 + math.cos(math.pi * (epoch - 1) / o.epochs))
    for group in optimiser.param_groups:
        group["lr"] = rate


def _fresh(o: Hybrid, counts: np.ndarray) -> Network:
    """Return a network of random weights with the priors of ``counts``."""
    model = make_network(o, len(counts))
    smooth = torch.as_tensor(counts, dtype=torch.float64) + PRIOR_COUNT
    model.log_prior.copy_((smooth / smooth.sum()).log())
    return model


@dataclass
class _Run:
    """A model in training."""

    model: Network
    data: Frames
    device: str
    optimiser: torch.optim.Optimizer

    def epoch(self, pieces: Pieces, rows: Rows, learn: bool = False) -> tuple[float, float]:
        """Go through batches; return the loss per frame and the share of right frames."""
        self.model.train(learn)
        sums: list[Tensor] = []  # of each batch: loss, right frames; on the device
        used: list[np.ndarray] = []
        frames = 0

        def note(rows: Rows) -> Rows:
            for own in rows:
                used.append(own)
                yield own

        with torch.set_grad_enabled(learn):
            for x, lengths, y in read_batches(self.data, pieces, note(rows), self.model.context):
                sums.append(self.step(x, lengths, y, learn))
                frames += len(y)
                if len(sums) % LOOK_EVERY == 0:
                    _look(sums, used, pieces)
        loss, right = _look(sums, used, pieces)
        return loss / max(1, frames), right / max(1, frames)

    def step(self, x: np.ndarray, lengths: list[int], y: np.ndarray, learn: bool) -> Tensor:
        """Return ``(2,)`` loss and right frames of a batch; learn from it if asked."""
        frames, labels = (self.on_device(a) for a in (x, y.astype(np.int64)))
        low = self.model.precision == "bfloat16"
        with torch.autocast(self.device, torch.bfloat16, enabled=low):
            logits = self.model(list(frames.split(lengths))).float()
        loss = nn.functional.cross_entropy(logits, labels, reduction="sum")
        if learn:
            self.optimiser.zero_grad()
            (loss / len(y)).backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
            self.optimiser.step()
        right = (logits.detach().argmax(-1) == labels).sum()
        return torch.stack([loss.detach().double(), right.double()])

    def on_device(self, a: np.ndarray) -> Tensor:
        t = torch.from_numpy(a)
        return t if self.device == "cpu" else t.pin_memory().to(self.device, non_blocking=True)


def _look(sums: list[Tensor], used: list[np.ndarray], pieces: Pieces) -> tuple[float, float]:
    """Return the sums over all batches; raise if one of their losses is not finite."""
    found = torch.stack(sums).cpu()
    wrong = torch.flatten(torch.nonzero(~found[:, 0].isfinite())).tolist()
    if wrong:
        utts = dict.fromkeys(utt for utt, _, _ in pieces.of(used[wrong[0]]))
        raise DataError(
            f"the loss of the hybrid is {float(found[wrong[0], 0])}", ", ".join(utts),
            "lower align.hybrid.lr, or look at the audio of these utterances",
        )  # fmt: skip
    loss, right = found.sum(0).tolist()
    return loss, right
