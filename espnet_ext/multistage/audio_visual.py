# SPDX-License-Identifier: Apache-2.0
"""Stage 1 as a whole, in plain torch: the audio encoder is handed over, all else is here.

Letters: B clips, L frames of F features, N audio tokens of width D, K seen ones, V video tokens of
width W, T pictures of H x H pixels, P elements of a token.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from espnet_ext.frames import Step
from espnet_ext.multistage.audio_parts import CONV2D, TokenFrames, run_blocks, subsample
from espnet_ext.multistage.clr_loss import ClrLoss, retrieval
from espnet_ext.multistage.decoder import CommonDecoder
from espnet_ext.multistage.mae_loss import mae_loss, mean_error
from espnet_ext.multistage.masking import RandomMask, gather_tokens, random_mask
from espnet_ext.multistage.options import CLR, MAE, MultistageConf
from espnet_ext.multistage.video_encoder import VideoEncoder
from espnet_ext.multistage.video_patches import VideoPatches

VALIDATION_SEED = 20240319  # the same masks in each validation


class Masked(NamedTuple):
    """Tokens that an encoder has seen ``(B, K, W)``, and which they were."""

    encoded: Tensor
    mask: RandomMask


class AudioVisual(nn.Module):
    """Video encoder, common decoder, projections and losses.

    Args:
        conf: Options.
        features: F.
        width: D, of the audio encoder.
        steps: Its subsampling.

    Attributes:
        audio_out: Linear layer and normalisation from D to W.
        clr_audio: Projection of the mean audio token to W.
    """

    def __init__(
        self, conf: MultistageConf, features: int, width: int, steps: Iterable[Step] = CONV2D
    ):
        super().__init__()
        self.conf, self.at = conf, TokenFrames(steps)
        elements, grid = {"audio": self.at.stride * features}, {}
        self.video_patches = self.video_encoder = self.decoder = self.clr = None
        if conf.with_video:
            self.video_patches = VideoPatches(conf.frames, conf.size, tuple(conf.patch), conf.width)
            self.video_encoder = VideoEncoder(conf.width, conf.blocks, conf.heads)
            elements["video"] = self.video_patches.elements
            grid["video"] = (self.video_patches.steps, self.video_patches.area)
        if MAE in conf.losses:
            self.audio_out = nn.Sequential(nn.Linear(width, conf.width), nn.LayerNorm(conf.width))
            self.decoder = CommonDecoder(
                conf.width, conf.decoder_width, conf.decoder_blocks, conf.decoder_heads,
                elements, grid,
            )  # fmt: skip
        if CLR in conf.losses:
            self.clr_audio = nn.Linear(width, conf.width)
            self.clr = ClrLoss(conf.tau)

    def forward(
        self, encoder: nn.Module, feats: Tensor, lengths: Tensor, video: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Args:
            encoder: Of the audio, see :mod:`espnet_ext.multistage.audio_parts`.
            feats: Normalised features ``(B, L, F)``.
            lengths: Of the frames ``(B,)``.
            video: ``(B, T, H, H, 3)`` uint8; not needed for audio alone.
        """
        if self.training and self.conf.pairing == "shuffled" and video is not None:
            video = video.roll(1, 0)
        feats = _without_padding(feats, lengths)
        stats: dict[str, Tensor] = {}
        losses, seen = [], {}
        if MAE in self.conf.losses:
            seen["audio"] = self._see_audio(encoder, feats, lengths)
            losses += [self._mae_audio(feats, lengths, seen["audio"], stats)]
            if self.conf.with_video:
                seen["video"] = self._see_video(video)
                losses += [self._mae_video(video, seen["video"], stats)]
        if CLR in self.conf.losses:
            if self.conf.clr_on_masked:
                a, v = (_mean(m.encoded, m.mask.kept) for m in (seen["audio"], seen["video"]))
                a = self.clr_audio(a)
            else:
                a, v = self.embed_audio(encoder, feats, lengths), self.embed_video(video)
            stats["clr"], stats["retrieval"] = self.clr(a, v), retrieval(a.detach(), v.detach())
            stats["tau"] = 1 / self.clr.scale
            losses += [stats["clr"] * (self.conf.clr_weight if MAE in self.conf.losses else 1)]
        return sum(losses), {k: v.detach() for k, v in stats.items()}

    def embed_audio(self, encoder: nn.Module, feats: Tensor, lengths: Tensor) -> Tensor:
        """Return W mean_t h_a, ``(B, W)``, not yet of length 1."""
        tokens, valid = subsample(encoder, feats, lengths, self.at)
        return self.clr_audio(_mean(run_blocks(encoder, tokens, valid), valid))

    def embed_video(self, video: Tensor) -> Tensor:
        """Return mean_t h_v, ``(B, W)``: the tokens of a time step are averaged, then encoded."""
        tokens = self.video_patches(video)
        steps = tokens.view(len(tokens), self.video_patches.steps, -1, tokens.shape[-1]).mean(2)
        return self.video_encoder(steps).mean(1)

    def reconstruct(
        self, encoder: nn.Module, feats: Tensor, lengths: Tensor, video: Tensor | None = None
    ) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return target, prediction ``(B, N, P)`` and what was hidden ``(B, N)``, by modality."""
        feats = _without_padding(feats, lengths)
        audio = self._see_audio(encoder, feats, lengths)
        out = {"audio": self._audio(feats, lengths, audio)}
        if self.conf.with_video:
            seen = self._see_video(video)
            predicted = self.decoder("video", seen.encoded, seen.mask)
            out["video"] = (self.video_patches.targets(video), predicted, seen.mask.scored)
        return out

    def _mask(self, lengths: Tensor) -> RandomMask:
        generator = None
        if not self.training:
            generator = torch.Generator(lengths.device).manual_seed(VALIDATION_SEED)
        return random_mask(lengths, self.conf.mask_ratio, generator)

    def _see_audio(self, encoder: nn.Module, feats: Tensor, lengths: Tensor) -> Masked:
        """Return the encoded seen tokens ``(B, K, D)``."""
        mask = self._mask(self.at.lengths(lengths))
        if self.conf.mask_at == "frame":
            feats = self.at.hide(feats, mask.scored)
        tokens, valid = (
            x[:, : mask.scored.shape[1]] for x in subsample(encoder, feats, lengths, self.at)
        )
        if self.conf.mask_mode == "drop":
            encoded = run_blocks(encoder, gather_tokens(tokens, mask.keep), mask.kept)
        else:
            tokens = tokens.masked_fill(mask.scored[..., None], 0)
            encoded = gather_tokens(run_blocks(encoder, tokens, valid), mask.keep)
        return Masked(encoded, mask)

    def _see_video(self, video: Tensor) -> Masked:
        tokens = self.video_patches(video)
        count = torch.full((len(video),), tokens.shape[1], device=tokens.device)
        mask = self._mask(count)
        return Masked(self.video_encoder(gather_tokens(tokens, mask.keep)), mask)

    def _audio(self, feats: Tensor, lengths: Tensor, seen: Masked) -> tuple[Tensor, Tensor, Tensor]:
        target = self.at.targets(feats, seen.mask.scored.shape[1])
        valid = _valid(target, self.at.lengths(lengths))
        predicted = self.decoder("audio", self.audio_out(seen.encoded), seen.mask, valid)
        return target, predicted, seen.mask.scored

    def _mae_audio(self, feats: Tensor, lengths: Tensor, seen: Masked, stats: dict) -> Tensor:
        target, predicted, hidden = self._audio(feats, lengths, seen)
        all_tokens = _valid(target, self.at.lengths(lengths))
        scored = hidden if self.conf.mae_loss_on == "masked" else all_tokens
        return _scored("audio", target, predicted, scored, self.conf.normalise_audio, stats)

    def _mae_video(self, video: Tensor, seen: Masked, stats: dict) -> Tensor:
        target = self.video_patches.targets(video)
        predicted = self.decoder("video", seen.encoded, seen.mask)
        hidden = seen.mask.scored
        scored = hidden if self.conf.mae_loss_on == "masked" else torch.ones_like(hidden)
        return _scored("video", target, predicted, scored, self.conf.normalise_video, stats)


def _scored(
    name: str, target: Tensor, predicted: Tensor, scored: Tensor, normalise: bool, stats: dict
) -> Tensor:
    stats[f"mae_{name}"] = loss = mae_loss(target, predicted, scored, normalise)
    stats[f"mean_{name}"] = mean_error(target, scored, normalise)
    return loss


def _valid(tokens: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]


def _without_padding(feats: Tensor, lengths: Tensor) -> Tensor:
    return feats.masked_fill(~_valid(feats, lengths)[..., None], 0)


def _mean(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid tokens ``(B, D)``."""
    kept = tokens.masked_fill(~valid[..., None], 0).sum(1)
    return kept / valid.sum(1, keepdim=True).clamp(min=1)
