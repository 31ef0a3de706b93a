# SPDX-License-Identifier: Apache-2.0
"""Training of a head on the layers of a frozen encoder; the best on the dev set is kept."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from espnet_ext.errors import DataError
from espnet_ext.multistage.superb.features import Features
from espnet_ext.multistage.superb.layers import LayerSum
from espnet_ext.multistage.superb.settings import Settings
from espnet_ext.multistage.superb.task_base import ProbeTask


class Probe(nn.Module):
    """All that is trained: weights of the layers, and the head."""

    def __init__(self, layers: int, head: nn.Module):
        super().__init__()
        self.sum, self.head = LayerSum(layers), head

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor) -> Any:
        """Run the head on layers ``(B, T, L, D)`` of ``lengths (B,)`` frames."""
        return self.head(self.sum(hidden), lengths)


@dataclass
class LabelledSet:
    """Features and targets of a set, in one order."""

    features: Features
    targets: list[Any]


@dataclass
class Trained:
    """A trained head, and how it came about."""

    probe: Probe
    dev_score: float
    best_update: int
    seconds: float
    curve: list[tuple[int, float, float]] = field(default_factory=list)  # update, loss, dev score


Piece = tuple[int, int, int | None]  # utterance, frames [first, last)


def pieces_of(frames: list[int], longest: int) -> list[Piece]:
    """Return whole utterances, or pieces of at most ``longest`` frames where it is not 0."""
    if not longest:
        return [(i, 0, None) for i in range(len(frames))]
    return [(i, a, min(a + longest, n)) for i, n in enumerate(frames) for a in range(0, n, longest)]


def order_of(
    count: int, classes: list[Any] | None, generator: np.random.Generator
) -> Iterator[int]:
    """Yield what to train on, without end: passes in random order, or each class equally often.

    Args:
        count: Number of pieces.
        classes: Their classes, to draw them equally often; None: passes.
        generator: Of random numbers.
    """
    if classes is None:
        while True:
            yield from generator.permutation(count).tolist()
    members: dict[Any, list[int]] = {}
    for i, c in enumerate(classes):
        members.setdefault(c, []).append(i)
    groups = list(members.values())
    while True:
        group = groups[generator.integers(len(groups))]
        yield group[generator.integers(len(group))]


def batch_of(
    data: LabelledSet, task: ProbeTask, pieces: list[Piece], device: str
) -> tuple[torch.Tensor, torch.Tensor, list[Any]]:
    """Return layers ``(B, T, L, D)``, lengths ``(B,)`` and targets."""
    found = [torch.from_numpy(np.array(data.features.get(*p))) for p in pieces]
    lengths = torch.tensor([len(x) for x in found])
    hidden = nn.utils.rnn.pad_sequence(found, batch_first=True).to(device).float()
    targets = [
        task.piece(data.targets[i], first, first + len(x))
        for (i, first, _), x in zip(pieces, found, strict=True)
    ]
    return hidden, lengths.to(device), targets


def predictions(
    probe: Probe, data: LabelledSet, task: ProbeTask, batch: int, device: str
) -> list[Any]:
    """Return a prediction for each utterance of a set, in its order."""
    out: list[Any] = []
    probe.eval()
    with torch.inference_mode():
        for start in range(0, len(data.targets), batch):
            part = [(i, 0, None) for i in range(start, min(start + batch, len(data.targets)))]
            hidden, lengths, _ = batch_of(data, task, part, device)
            out += task.predict(probe(hidden, lengths), lengths)
    return out


def train(
    task: ProbeTask,
    train_set: LabelledSet,
    dev_set: LabelledSet,
    settings: Settings,
    seed: int = 0,
    device: str = "cpu",
    say: Callable[[str], None] = lambda text: None,
) -> Trained:
    """Train a head; the encoder is not even there, only its features are.

    Args:
        task: The task, which knows its classes.
        train_set, dev_set: Features and targets.
        settings: See there.
        seed: Of the head's start and the order of the batches.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        say: Is told of each evaluation.
    """
    begin = time.monotonic()
    torch.manual_seed(seed)
    encoder = train_set.features.encoder
    probe = Probe(encoder.count, task.head(encoder.width, settings.width)).to(device)
    adam = torch.optim.Adam(probe.parameters(), settings.rate)
    longest = round(settings.chunk_s / task.frame_s)
    pieces = pieces_of(train_set.features.frames, longest)
    classes = [train_set.targets[i] for i, *_ in pieces] if task.balanced else None
    order = order_of(len(pieces), classes, np.random.default_rng(seed))
    every = max(1, settings.updates // settings.evaluations)
    best: tuple[float, int, dict] | None = None
    trained, losses = Trained(probe, 0.0, 0, 0.0), []
    for update in range(1, settings.updates + 1):
        losses.append(_update(probe, adam, task, train_set, pieces, order, settings, device))
        if update % every and update != settings.updates:
            continue
        score = task.score(
            predictions(probe, dev_set, task, settings.batch, device), dev_set.targets
        )
        trained.curve.append((update, float(np.mean(losses)), score))
        say(f"update {update}/{settings.updates}: loss {np.mean(losses):.4f}, dev {score:.2f} %")
        losses = []
        if best is None or (score > best[0] if task.higher_is_better else score < best[0]):
            best = score, update, {k: v.clone() for k, v in probe.state_dict().items()}
    trained.dev_score, trained.best_update, state = best
    probe.load_state_dict(state)
    trained.seconds = time.monotonic() - begin
    return trained


def _update(
    probe: Probe, adam: Any, task: ProbeTask, data: LabelledSet, pieces: list[Piece],
    order: Iterator[int], settings: Settings, device: str,
) -> float:  # fmt: skip
    """Make one update; return its loss.

    Raises:
        DataError: The loss or its gradient is not finite.
    """
    probe.train()
    adam.zero_grad()
    total = 0.0
    for _ in range(settings.accumulate):
        chosen = [pieces[next(order)] for _ in range(min(settings.batch, len(pieces)))]
        hidden, lengths, targets = batch_of(data, task, chosen, device)
        loss = task.loss(probe(hidden, lengths), lengths, targets) / settings.accumulate
        loss.backward()
        total += loss.item()
    norm = nn.utils.clip_grad_norm_(probe.parameters(), settings.clip)
    if not math.isfinite(total + norm.item()):
        what = f"training diverged: loss {total:g}, gradient norm {norm.item():g}"
        raise DataError(what, None, "give a lower --rate")
    adam.step()
    return total
