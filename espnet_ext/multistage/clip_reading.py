# SPDX-License-Identifier: Apache-2.0
"""A trained model of stage 1, and the clips of a set as it sees them in validation."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ext.data import audio
from espnet_ext.data.video import length
from espnet_ext.errors import DataError, told
from espnet_ext.multistage.measure import Clips
from espnet_ext.multistage.options import MultistageConf
from espnet_ext.multistage.preprocess import VideoPreprocess

BATCH = 8
LATE_S = 0.5


def load(config: Path, model_file: Path, device: str = "cpu") -> Any:
    """Return the model, in evaluation mode; every tensor comes from the checkpoint.

    Args:
        config: ``config.yaml`` of the training.
        model_file: The checkpoint.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        DataError: The checkpoint is not readable, or not of this configuration.
    """
    from espnet_ext.espnet import checkpoint
    from espnet_ext.espnet.compat import prepare_espnet, quiet_import

    prepare_espnet()
    with quiet_import():
        from espnet_ext.multistage.task import PretrainTask

        model, args = PretrainTask.build_model_from_file(config, None, device)
    try:
        model.load_state_dict(checkpoint.load(model_file, device))
    except Exception as e:  # of torch, pickle, zipfile: each has its own
        how = "./run.sh --stage pretrain --stop-stage pretrain --force"
        raise DataError(f"the checkpoint cannot be used ({told(e)})", model_file, how) from None
    model.fs = int(rate_of(args))
    return model.eval()


def rate_of(args: Any) -> float:
    """Return the sampling rate in Hz of a training's options."""
    from espnet_ext.frames import rate_hz

    return rate_hz(getattr(args, "frontend_conf", None))


class Reader:
    """Clips of a set.

    Args:
        clips: Sound, picture (a line of video.scp) and speaker, by id.
        conf: Of the training.
        model: Whose sampling rate the sound has.
        device: Where the batches go.

    Attributes:
        seconds: Of the sound of each clip that :meth:`batches` has yielded.
        short: Clips among them with too few pictures.
    """

    def __init__(
        self,
        clips: Mapping[str, tuple[str, str, str]],
        conf: MultistageConf,
        model: Any,
        device: str = "cpu",
    ):
        self.clips, self.conf, self.fs, self.device = clips, conf, model.fs, device
        self.seconds: list[float] = []
        self.short = 0
        self.pictures = VideoPreprocess(
            None, frames=conf.frames, stride=conf.stride, size=conf.size,
            sampling=conf.video_sampling,
        )  # fmt: skip

    def batches(self) -> Iterator[Clips]:
        """Yield all clips in their order."""
        self.seconds, self.short = [], 0
        utts = list(self.clips)
        for first in range(0, len(utts), BATCH):
            clips = self.read(utts[first : first + BATCH])
            self.seconds += [n / self.fs for n in clips.speech_lengths.tolist()]
            if clips.repeated is not None:
                self.short += int((clips.repeated > 0).sum())
            yield clips

    def read(self, utts: Sequence[str]) -> Clips:
        """Return some clips.

        Raises:
            DataError: Sound or picture is not usable; the clip is named.
        """
        sounds = [self._sound(u) for u in utts]
        lengths = torch.tensor([len(s) for s in sounds])
        speech = torch.nn.utils.rnn.pad_sequence([torch.as_tensor(s) for s in sounds], True)
        speech, lengths = speech.to(self.device), lengths.to(self.device)
        if not self.conf.with_video:
            return Clips(speech, lengths)
        made = [self.pictures.clip(u, self.clips[u][1], None) for u in utts]
        repeated = torch.tensor([m["repeated"] for m in made])
        shown = [torch.as_tensor(m["clip"]) for m in made]
        late = [
            s.roll(self._frames_late(u, len(x) / self.fs), 0)
            for u, s, x in zip(utts, shown, sounds, strict=True)
        ]
        video, shifted = (torch.stack(x).to(self.device) for x in (shown, late))
        return Clips(speech, lengths, video, shifted, repeated)

    def _sound(self, utt: str) -> np.ndarray:
        path = self.clips[utt][0]
        try:
            speech, rate = audio.read(path)
        except DataError as e:
            raise DataError(e.what, f"{utt}: {e.where}", e.how) from None
        if rate != self.fs:
            what = f"the model takes {self.fs} Hz and the audio has {rate} Hz"
            raise DataError(what, f"{utt}: {path}", "run stage 2 (format), or set format.fs")
        return speech

    def _frames_late(self, utt: str, seconds: float) -> int:
        """Return by how many of the chosen pictures half a second is; the last come first."""
        apart = seconds / self.conf.frames
        if self.conf.video_sampling == "stride":
            apart = self.conf.stride * seconds / length(self.clips[utt][1])
        return max(1, round(LATE_S / apart))
