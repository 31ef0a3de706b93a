# SPDX-License-Identifier: Apache-2.0
"""From a line of video.scp to a batch of frames: what ESPnet's data loading calls for a clip.

ESPnet's data set gives the value of the stream ``video`` as a text (see
:mod:`espnet_ext.data.streams.video`). :class:`VideoPreprocess` reads the frames and hands them on
in a dict, whose tensors the data set leaves alone, so a pixel stays one byte up to the device;
:class:`VideoCollate` makes the batch. What is drawn at random comes from numpy's global generator,
which is seeded for each item by epoch and utterance (:mod:`espnet_ext.espnet.iterators`): the
number of workers and a resumed training change nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from espnet_ext.data.video import read_clip
from espnet_ext.errors import DataError
from espnet_ext.multistage.crop import random_resized_crop

STREAM = "video"


class VideoPreprocess:
    """ESPnet's preprocessor for the other streams; ``video`` becomes frames.

    Args:
        stock: ESPnet's, or None.
        frames: T, frames of a clip.
        stride: Distance of two frames.
        size: S, pixels of a side.
        sampling: ``stride`` or ``uniform``.
        start: 0 or ``random``; random in training only.
        train: Draw start, crop and flip; else frames from 0, and the middle of the picture.
        decode: Read the videos; else the stream is left out (collection of statistics, which need
            the sound alone).
        scale: Share of a picture's area that a crop has.
        flip: Mirror every second clip.
    """

    def __init__(
        self,
        stock: Callable[[str, dict], dict] | None,
        *,
        frames: int,
        stride: int,
        size: int,
        sampling: str = "stride",
        start: int | str = 0,
        train: bool = False,
        decode: bool = True,
        scale: tuple[float, float] = (0.5, 1.0),
        flip: bool = True,
    ):
        self.stock, self.train, self.decode = stock, train, decode
        self.choice = (frames, stride, sampling, start)
        self.size, self.scale, self.flip = size, scale, flip
        # A crop of the least area is still no smaller than the result.
        self.short_side = math.ceil(size / math.sqrt(scale[0]))

    def __call__(self, utt: str, data: dict[str, Any]) -> dict[str, Any]:
        """Return the streams; ``video`` as ``{"clip": (T, S, S, 3) uint8, "repeated": int}``.

        Raises:
            DataError: The video cannot be read; utterance and file are named.
        """
        rest = {name: value for name, value in data.items() if name != STREAM}
        made = {}
        if STREAM in data and self.decode:
            # One draw, whatever the clip needs, so that other streams' draws do not depend on it.
            seed = int(np.random.randint(1 << 31)) if self.train else None
            made = {STREAM: self.clip(utt, str(data[STREAM]), seed)}
        return {**(self.stock(utt, rest) if self.stock is not None else rest), **made}

    def clip(self, utt: str, value: str, seed: int | None) -> dict[str, Any]:
        """Return the clip of one utterance; without a seed nothing is drawn."""
        rng = None if seed is None else np.random.default_rng(seed)
        try:
            clip = read_clip(value, *self.choice, rng=rng, short_side=self.short_side)
        except DataError as e:
            what = f"utterance '{utt}': its {STREAM} cannot be read ({e.what})"
            raise DataError(what, e.where, e.how) from None
        pictures = random_resized_crop(clip.frames, self.size, self.scale, self.flip, rng)
        return {"clip": pictures, "repeated": clip.repeated}


class VideoCollate:
    """ESPnet's collate function for the other streams; clips become one tensor.

    The batch gets ``video`` ``(B, T, S, S, 3)`` uint8 and ``video_repeated`` ``(B,)`` int64, the
    frames of each clip that repeat one because the video was too short.

    Args:
        stock: ESPnet's.
    """

    def __init__(self, stock: Callable):
        self.stock = stock

    def __call__(self, items: list[tuple[str, dict]]) -> tuple[list[str], dict[str, torch.Tensor]]:
        """Return utterance ids and the batch."""
        clips = [data[STREAM] for _, data in items if STREAM in data]
        others = [(utt, {k: v for k, v in data.items() if k != STREAM}) for utt, data in items]
        ids, batch = self.stock(others)
        if clips:
            batch[STREAM] = torch.stack([c["clip"] for c in clips])
            batch[f"{STREAM}_repeated"] = torch.tensor([c["repeated"] for c in clips])
        return ids, batch
