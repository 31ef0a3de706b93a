# SPDX-License-Identifier: Apache-2.0
"""Features of a frozen encoder, computed once: all layers of each utterance, half precision.

Utterances go through the encoder one at a time, so that features depend on no neighbour. They are
kept on disk where they fit into the limit, else computed whenever they are asked for.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext import yamlfile
from espnet_ext.data import audio
from espnet_ext.data.tar_member import file_of
from espnet_ext.data.utterances import Utterance
from espnet_ext.errors import DataError, told
from espnet_ext.files import atomic_dir, sha256_json, write_json

SHORTEST_S = 0.4  # shorter audio is followed by silence: subsampling needs some frames
LARGEST = 65504.0  # of half precision


class Encoder:
    """A frozen encoder as a function of audio.

    Args:
        model: See :func:`espnet_ext.espnet.frozen.load_frozen`.
        device: Where it is.
    """

    def __init__(self, model: Any, device: str = "cpu"):
        self.model, self.device, self.fs = model, device, model.fs
        self.padded = 0  # utterances that were too short
        first, second = (self.layers(np.zeros(n * self.fs, np.float32)) for n in (4, 8))
        if len(second) <= len(first):
            raise DataError(
                "the encoder gives no more frames for longer audio", None, "take another"
            )
        self.frame_s = round(4 * self.fs / (len(second) - len(first))) / self.fs
        self.count, self.width = first.shape[1:]

    def layers(self, speech: np.ndarray) -> np.ndarray:
        """Return ``(T, L, D)`` float16 of ``speech (N,)`` at ``fs``."""
        import torch

        from espnet_ext.espnet.frozen import hidden_input
        from espnet_ext.multistage.superb.layers import collect_layers

        if len(speech) < SHORTEST_S * self.fs:
            self.padded += 1
            speech = np.pad(speech, (0, round(SHORTEST_S * self.fs) - len(speech)))
        batch = torch.as_tensor(speech, device=self.device)[None]
        encoder = self.model.encoder
        blocks = getattr(encoder, "encoders", None)
        with torch.inference_mode():
            length = torch.tensor([len(speech)], device=self.device)
            feats, lengths = hidden_input(self.model, batch, length)

            def run() -> tuple[Any, Any]:
                out, frames, _ = encoder(feats, lengths)
                return (out[0] if isinstance(out, tuple) else out), frames

            if blocks is None or not len(blocks):  # an RNN: its output is the one layer
                hidden = run()[0].unsqueeze(2)
            else:
                hidden = collect_layers(blocks, run)[0]
        return hidden[0].clamp(-LARGEST, LARGEST).half().cpu().numpy()

    def of(self, utt: Utterance) -> np.ndarray:
        """Return ``(T, L, D)`` float16 of an utterance.

        Raises:
            DataError: The audio is not usable, the encoder refuses it, or gives NaN.
        """
        speech, rate = audio.read(utt.audio, utt.start_s, utt.end_s)
        how = "leave it out, or take another model"
        try:
            found = self.layers(audio.resample(speech, rate, self.fs))
        except Exception as e:
            what = f"the encoder fails on '{utt.id}' ({told(e)})"
            raise DataError(what, utt.audio, how) from e
        if not np.isfinite(found).all():
            raise DataError(f"the encoder's output is not finite for '{utt.id}'", utt.audio, how)
        return found


class Features:
    """The features of a set: ``features[i]`` is ``(T, L, D)`` float16.

    Args:
        utts: The utterances.
        encoder: What makes them.
        folder: Where they are kept; None computes them each time.

    Attributes:
        frames: Of each utterance.
        padded: How many utterances were too short for the encoder.
    """

    def __init__(self, utts: list[Utterance], encoder: Encoder, folder: Path | None = None):
        self.utts, self.encoder, self.data = utts, encoder, None
        if folder is None:
            before = encoder.padded
            self.frames = [len(encoder.of(u)) for u in utts]
            self.padded = encoder.padded - before
            return
        about = yamlfile.read(folder / "about.json", DataError)
        self.frames, self.padded = about["frames"], about["padded"]
        shape = (sum(self.frames), encoder.count, encoder.width)
        if (folder / "features.f16").stat().st_size != 2 * int(np.prod(shape)):
            how = "remove this folder: it is computed again"
            raise DataError("the kept features are not whole", folder, how)
        self.data = np.memmap(folder / "features.f16", np.float16, "r", shape=shape)
        self.starts = np.concatenate([[0], np.cumsum(self.frames)])

    def __len__(self) -> int:
        return len(self.utts)

    def get(self, i: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """Return frames ``[first, last)`` of utterance ``i``."""
        if self.data is None:
            return self.encoder.of(self.utts[i])[first:last]
        last = self.frames[i] if last is None else min(last, self.frames[i])
        return self.data[self.starts[i] + first : self.starts[i] + last]


def keep(
    utts: list[Utterance],
    encoder: Encoder,
    root: Path,
    model_key: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Compute the features of a set unless they are there; return their folder.

    Args:
        utts: The utterances.
        encoder: What makes them.
        root: Folder of all kept features.
        model_key: Stands for the model, e.g. the hash of its checkpoint.
        progress: Is told of utterances done and their number.

    Raises:
        DataError: Audio is missing or not usable.
    """
    folder = root / sha256_json([model_key, [_identity(u) for u in utts]])[:16]
    if (folder / "about.json").is_file():
        return folder
    frames, before = [], encoder.padded
    with atomic_dir(folder) as out:
        with open(out / "features.f16", "wb") as f:
            for done, utt in enumerate(utts, 1):
                found = encoder.of(utt)
                frames.append(len(found))
                f.write(np.ascontiguousarray(found).tobytes())
                progress(done, len(utts))
        write_json(out / "about.json", {"frames": frames, "padded": encoder.padded - before})
    return folder


def bytes_needed(seconds: float, encoder: Encoder) -> int:
    """Return the disk that the features of so much audio take."""
    return int(seconds / encoder.frame_s) * encoder.count * encoder.width * 2


def _identity(utt: Utterance) -> list:
    try:
        status = os.stat(file_of(utt.audio))
        return [*utt, status.st_size, status.st_mtime_ns]
    except (OSError, ValueError):  # a pipe, or missing: reading tells
        return [*utt]
