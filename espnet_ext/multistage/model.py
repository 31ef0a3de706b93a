# SPDX-License-Identifier: Apache-2.0
"""ESPnet's model of stage 1: sound and pictures in, losses out.

Front end, normalisation and encoder are those of ESPnet's ASR model and keep their names
(``frontend.*``, ``normalize.*``, ``encoder.*``), so the next phase starts from ``encoder``. All
else is ``audio_visual.*`` (:mod:`espnet_ext.multistage.audio_visual`); there is no text. Letters: B
clips, L samples, T pictures of H x H pixels.
"""

import argparse
from typing import Any

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor

from espnet_ext.errors import UsageError
from espnet_ext.frames import features_of_config, steps_of_config
from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.options import MultistageConf
from espnet_ext.progress import progress_log

Returned = tuple[Tensor, dict[str, Tensor], Tensor]
TOKENS = ("conv2d", "conv1d4")  # input layers whose tokens stand for frames
RECOGNITION = ("decoder", "ctc", "joint_network", "postencoder", "specaug", "criterion_att")


class AudioVisualModel(ESPnetASRModel):
    """See the module's text."""

    def init_extension(self, conf: MultistageConf, args: argparse.Namespace) -> None:
        """Replace recognition by the method's parts; the encoder's random numbers stay.

        Args:
            conf: The method's options.
            args: ESPnet's options.

        Raises:
            UsageError: The encoder cannot be driven in parts.
        """
        steps = steps_of_config(vars(args))
        check_encoder(args)
        for name in RECOGNITION:
            if hasattr(self, name):
                delattr(self, name)
                setattr(self, name, None)
        self.max_frames, features = conf.max_frames, features_of_config(vars(args))
        self.hop = None if features is None else features.hop
        self.max_samples = None if features is None else conf.max_frames * features.hop
        self.told_short = False
        width = self.frontend.output_size() if self.frontend is not None else args.input_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            self.audio_visual = AudioVisual(conf, width, self.encoder.output_size(), steps)

    def features(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised features ``(B, frames, F)`` of the first 1000 frames, and lengths.

        Args:
            speech: ``(B, L)``.
            speech_lengths: ``(B,)``.
        """
        if self.max_samples:
            speech_lengths = speech_lengths.clamp(max=self.max_samples)
        feats, lengths = self._extract_feats(speech, speech_lengths)
        # A centred transform makes 1001 frames of 10 s.
        feats, lengths = feats[:, : self.max_frames], lengths.clamp(max=self.max_frames)
        return (feats, lengths) if self.normalize is None else self.normalize(feats, lengths)

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        video: Tensor | None = None,
        video_repeated: Tensor | None = None,
        **kwargs: Any,
    ) -> Returned:
        """Return the loss, statistics and the batch size.

        Args:
            speech: ``(B, L)``.
            speech_lengths: ``(B,)``.
            video: ``(B, T, H, H, 3)`` uint8; not looked at with ``modalities: audio``.
            video_repeated: Pictures of each clip that repeat the last one ``(B,)``.
            kwargs: Utterance ids and what else is in the batch.
        """
        feats, lengths = self.features(speech, speech_lengths)
        whole = self.whole_frames(speech_lengths)
        loss, stats = self.audio_visual(self.encoder, feats, lengths, video, whole)
        stats = {"loss": loss.detach(), **stats}
        if video is not None and video_repeated is not None:
            stats["short_video"] = (video_repeated > 0).float().mean()
            self._tell_short(video_repeated, kwargs.get("utt_id"))
        return force_gatherable((loss, stats, len(speech)), loss.device)

    def whole_frames(self, speech_lengths: Tensor) -> Tensor | None:
        """Return the frames of whole clips ``(B,)``; None where samples a frame are unknown."""
        return None if self.max_samples is None else speech_lengths // self.hop + 1

    def _tell_short(self, repeated: Tensor, utts: Any) -> None:
        """Say once that a clip has too few pictures; their share is in the statistics."""
        if self.told_short or not (repeated > 0).any():
            return
        self.told_short, first = True, int((repeated > 0).nonzero()[0, 0])
        clip = f"clip {utts[first]}" if utts is not None else "a clip"
        progress_log.warning(
            f"{clip} has too few pictures: the last is repeated {int(repeated[first])} times; "
            "the share of such clips is the statistic 'short_video'"
        )

    def collect_feats(
        self, speech: Tensor, speech_lengths: Tensor, **kwargs: Any
    ) -> dict[str, Tensor]:
        """Return features before normalisation ``(B, frames, F)``, of the whole clips."""
        feats, lengths = self._extract_feats(speech, speech_lengths)
        return {"feats": feats, "feats_lengths": lengths}

    def trial_streams(self) -> dict[str, Tensor]:
        """Return pictures of two clips, for a trial of the loss."""
        conf = self.audio_visual.conf
        if not conf.with_video:
            return {}
        shape = (2, conf.frames, conf.size, conf.size, 3)
        return {"video": torch.randint(0, 256, shape, dtype=torch.uint8)}


def check_encoder(args: argparse.Namespace) -> None:
    """Check that tokens can be left out of the encoder.

    Raises:
        UsageError: They cannot.
    """
    conf = args.encoder_conf or {}
    wanted = {"pos_enc_layer_type": "abs_pos", "selfattention_layer_type": "selfattn"}
    usual = {"pos_enc_layer_type": "rel_pos", "selfattention_layer_type": "rel_selfattn"}
    if args.encoder != "conformer":
        what = f"stage 1 drives a Conformer in parts, not the encoder {args.encoder}"
        raise UsageError(what, "encoder", "encoder: conformer")
    for key, value in wanted.items():
        if conf.get(key, usual[key]) != value:
            raise UsageError(
                f"{key} is {conf.get(key, usual[key])}: relative positions are wrong where tokens "
                "are left out", f"encoder_conf.{key}", f"{value} (and rel_pos_type: latest)",
            )  # fmt: skip
    layer = conf.get("input_layer", "conv2d")
    if steps_of_config(vars(args)) is None or not str(layer).startswith(TOKENS):
        what = f"the frames of a token are not known for input_layer {layer}"
        raise UsageError(what, "encoder_conf.input_layer", "conv2d or conv1d4")
    for key in ("interctc_layer_idx", "interctc_use_conditioning", "ctc_trim"):
        if conf.get(key):
            raise UsageError(f"{key} needs text, stage 1 has none", f"encoder_conf.{key}")
