# SPDX-License-Identifier: Apache-2.0
"""A stand-in for a trained model: its audio spells symbols, 10 ms each, that it reads exactly."""

from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

TOKENS = ["<blank>", "<unk>", "a", "b", "c", "<space>", "<x>", "<y>", ">", "<sos/eos>"]
HOP = 160
ID = {t: i for i, t in enumerate(TOKENS)} | {"_": 5, "-": 0}
ARGS = Namespace(
    token_list=TOKENS, token_type="char", encoder="unknown", frontend_conf={"fs": "16k"},
    dual_task={"resolved": {"embedding_dim": len(TOKENS)}},
)  # fmt: skip


class SpeakingModel(nn.Module):
    """Frames are one-hot symbols; the embedding is their mean."""

    losses, blank_id = ("samu", "slu"), 0

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.pooling = True
        self.ctc = SimpleNamespace(argmax=lambda x: x.argmax(-1))
        self.batches: list[int] = []

    def encode(self, speech, lengths):
        self.batches.append(len(speech))
        frames = lengths // HOP
        if int(frames.min()) < 1:
            raise RuntimeError("no frame")
        rows = speech[:, : int(frames.max()) * HOP].reshape(len(speech), -1, HOP)
        ids = (rows.mean(-1) * 100).round().long()
        return nn.functional.one_hot(ids, len(TOKENS)).float() * self.scale, frames

    def slu_hidden(self, hidden, lengths):
        assert len(hidden) == len(lengths) and hidden.shape[1] == int(lengths.max())
        return hidden

    def embed(self, hidden, lengths):
        return hidden.sum(1) / lengths[:, None]


def spell(text: str) -> np.ndarray:
    """Return audio of symbols, ``- a _ <x>``."""
    ids = [ID[t] for t in text.split()]
    return np.repeat(np.array(ids, np.float32) / 100, HOP)
