# SPDX-License-Identifier: Apache-2.0
"""Teachers of self-distillation: for each utterance the logits that its classifier had before."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from espnet_ext.espnet import checkpoint


class TeacherStore:
    """Logits by utterance id and name, e.g. ``0.intent`` for the first view's head ``intent``.

    No utterance has logits in epoch 1, as nothing was said of it before.

    Args:
        utts: All training utterances.
        widths: Number of classes by name.
    """

    def __init__(self, utts: Sequence[str], widths: dict[str, int]):
        self.row_of = {utt: row for row, utt in enumerate(utts)}
        if len(self.row_of) < len(utts):
            raise ValueError("an utterance stands twice")
        self.logits = {name: torch.zeros(len(utts), width) for name, width in widths.items()}
        self.known = torch.zeros(len(utts), dtype=torch.bool)
        self.fresh = self.known.clone()  # put by this process since the last exchange
        self.epoch = 0  # whose logits these are

    def rows(
        self, name: str, utts: Sequence[str], like: Tensor, labels: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Look up teachers.

        Args:
            name: Of view and head.
            utts: B utterance ids, in any order.
            like: Gives the device.
            labels: ``(B,)`` int64, of which an utterance without logits gets its one-hot row; -1
                gets a uniform one. None: such a row is 0.

        Returns:
            ``(B, C)`` float32 and ``(B,)`` bool: whether a row holds logits.
        """
        index = torch.tensor([self.row_of[utt] for utt in utts])
        # In the store's float32: half precision would round what was said of an utterance.
        stored = self.logits[name][index].to(like.device, non_blocking=True)
        known = self.known[index].to(like.device, non_blocking=True)
        if labels is None:
            return torch.where(known[:, None], stored, 0.0), known
        labels, classes = labels.to(like.device), stored.shape[1]
        one_hot = nn.functional.one_hot(labels.clamp(min=0), classes).to(stored.dtype)
        one_hot = torch.where(labels[:, None] < 0, 1.0 / classes, one_hot)
        return torch.where(known[:, None], stored, one_hot), known

    def put(self, utts: Sequence[str], logits: dict[str, Tensor]) -> None:
        """Store logits ``(B, C)`` by name."""
        index = torch.tensor([self.row_of[utt] for utt in utts])
        for name, z in logits.items():
            self.logits[name][index] = z.detach().float().cpu()
        self.known[index] = True
        self.fresh[index] = True

    def gather(self, device: torch.device | str) -> None:
        """Exchange rows among the processes of a distributed training; each has put its own."""
        if not torch.distributed.is_initialized():
            return
        count = self.fresh.to(device, torch.float32)
        torch.distributed.all_reduce(count)
        anywhere = (count > 0).cpu()
        for stored in self.logits.values():
            rows = torch.where(self.fresh[:, None], stored, 0.0).to(device)
            torch.distributed.all_reduce(rows)
            # An utterance may have been with two processes, to fill up the last batch.
            mean = (rows / count.clamp(min=1)[:, None]).cpu()
            stored.copy_(torch.where(anywhere[:, None], mean, stored))
        self.known |= anywhere
        self.fresh.zero_()

    def forget(self) -> None:
        """Mark all rows as unknown."""
        self.known.zero_()
        self.fresh.zero_()

    def save(self, path: Path) -> None:
        """Write the store atomically."""
        state = {"epoch": self.epoch, "known": self.known, "logits": self.logits}
        checkpoint.atomic_save(state, path)

    def load(self, path: Path) -> None:
        """Read what :meth:`save` wrote for the same utterances and classes."""
        state = checkpoint.load(path)
        shapes = {n: z.shape for n, z in state["logits"].items()}
        if shapes != {n: z.shape for n, z in self.logits.items()}:
            raise ValueError(f"{path} holds teachers of other data")
        self.epoch, self.known, self.logits = state["epoch"], state["known"], state["logits"]
