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
from espnet_ext.multistage.audio_parts import (
    CONV2D,
    TokenFrames,
    run_blocks,
    subsample,
    subsample_some,
)
from espnet_ext.multistage.clr_loss import ClrLoss, retrieval
from espnet_ext.multistage.clr_tokens import joined, mean_token, step_means, step_of
from espnet_ext.multistage.decoder import CommonDecoder, Seen
from espnet_ext.multistage.mae_loss import mae_loss, mean_error
from espnet_ext.multistage.masking import RandomMask, gather_tokens, random_mask
from espnet_ext.multistage.options import CLR, MAE, MultistageConf
from espnet_ext.multistage.video_encoder import VideoEncoder
from espnet_ext.multistage.video_patches import VideoPatches

VALIDATION_SEED = 20240319  # the same masks in each validation


class Masked(NamedTuple):
    """Tokens that an encoder has seen ``(B, K, W)``, which they were, what they were made of."""

    encoded: Tensor
    mask: RandomMask
    target: Tensor  # (B, N, P)
    lengths: Tensor  # tokens of each clip (B,)


class Lengths(NamedTuple):
    """Frames ``(B,)`` of the sound that is used, and of the clip that the pictures span."""

    used: Tensor
    whole: Tensor


class AudioVisual(nn.Module):
    """Video encoder, common decoder, projections and losses.

    Args:
        conf: Options.
        features: F.
        width: D, of the audio encoder.
        steps: Its subsampling.

    Attributes:
        audio_out: Linear layer and normalisation from D to W.
        clr_audio: Projection of the mean audio token, or of each step's, to W.
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
                elements, grid, conf.cross_modal, conf.decoder_start,
            )  # fmt: skip
        if CLR in conf.losses:
            self.clr_audio = nn.Linear(width, conf.width)
            self.clr = ClrLoss(conf.tau)

    def forward(
        self,
        encoder: nn.Module,
        feats: Tensor,
        lengths: Tensor,
        video: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and its parts.

        Args:
            encoder: Of the audio, see :mod:`espnet_ext.multistage.audio_parts`.
            feats: Normalised features ``(B, L, F)``.
            lengths: Of the frames ``(B,)``.
            video: ``(B, T, H, H, 3)`` uint8; not needed for audio alone.
            whole: Frames of the clips ``(B,)`` where the sound was cut; None: it was not.
        """
        if self.training and self.conf.pairing == "shuffled" and video is not None:
            video = video.roll(1, 0)
        feats, spans = _without_padding(feats, lengths), _spans(lengths, whole)
        pixels = self.video_patches.targets(video) if self.conf.with_video else None
        stats: dict[str, Tensor] = {}
        losses, seen = [], {}
        if MAE in self.conf.losses:
            seen = self._see(encoder, feats, lengths, pixels)
            losses += self._mae(seen, spans, stats)
        if CLR in self.conf.losses:
            if self.conf.clr_on_masked:
                a, v = self._embed_seen(seen, spans)
            else:
                a, v = self._embed_audio(encoder, feats, spans), self._embed_pixels(pixels)
            stats["clr"], stats["retrieval"] = self.clr(a, v), retrieval(a.detach(), v.detach())
            stats["tau"] = 1 / self.clr.scale
            losses += [stats["clr"] * (self.conf.clr_weight if MAE in self.conf.losses else 1)]
        return sum(losses), {k: v.detach() for k, v in stats.items()}

    def embed_audio(
        self, encoder: nn.Module, feats: Tensor, lengths: Tensor, whole: Tensor | None = None
    ) -> Tensor:
        """Return W mean_t h_a, ``(B, W)``, or with steps their vectors ``(B, S * W)``.

        The length of a vector means nothing; see :mod:`espnet_ext.multistage.clr_tokens` and
        :meth:`forward` for the arguments.
        """
        return self._embed_audio(encoder, _without_padding(feats, lengths), _spans(lengths, whole))

    def embed_video(self, video: Tensor) -> Tensor:
        """Return mean_t h_v, ``(B, W)``, or with steps their vectors ``(B, S * W)``.

        The tokens of a time step are averaged, then encoded.
        """
        return self._embed_pixels(self.video_patches.targets(video))

    def reconstruct(
        self,
        encoder: nn.Module,
        feats: Tensor,
        lengths: Tensor,
        video: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Return target, prediction ``(B, N, P)`` and what was hidden ``(B, N)``, by modality."""
        feats = _without_padding(feats, lengths)
        pixels = self.video_patches.targets(video) if self.conf.with_video else None
        seen = self._see(encoder, feats, lengths, pixels)
        predicted = self._decode(seen, _spans(lengths, whole), hidden_only=False)
        return {name: (m.target, predicted[name], m.mask.scored) for name, m in seen.items()}

    def _mask(self, lengths: Tensor) -> RandomMask:
        generator = None
        if not self.training:
            generator = torch.Generator(lengths.device).manual_seed(VALIDATION_SEED)
        return random_mask(lengths, self.conf.mask_ratio, generator)

    def _see(
        self, encoder: nn.Module, feats: Tensor, lengths: Tensor, pixels: Tensor | None
    ) -> dict[str, Masked]:
        """Return the encoded seen tokens by modality."""
        seen = {"audio": self._see_audio(encoder, feats, lengths)}
        if pixels is not None:
            seen["video"] = self._see_video(pixels)
        return seen

    def _see_audio(self, encoder: nn.Module, feats: Tensor, lengths: Tensor) -> Masked:
        count = self.at.lengths(lengths)
        mask = self._mask(count)
        target = self.at.targets(feats, mask.scored.shape[1])
        if self.conf.mask_at == "frame":
            feats = self.at.hide(feats, mask.scored)
        if self.conf.mask_mode == "drop":
            tokens = subsample_some(encoder, feats, lengths, mask, self.at)
            return Masked(run_blocks(encoder, tokens, mask.kept), mask, target, count)
        tokens, valid = (
            x[:, : mask.scored.shape[1]] for x in subsample(encoder, feats, lengths, self.at)
        )
        tokens = tokens.masked_fill(mask.scored[..., None], 0)
        encoded = gather_tokens(run_blocks(encoder, tokens, valid), mask.keep)
        return Masked(encoded, mask, target, count)

    def _see_video(self, pixels: Tensor) -> Masked:
        count = torch.full((len(pixels),), pixels.shape[1], device=pixels.device)
        mask = self._mask(count)
        tokens = self.video_patches.embed_pixels(pixels, mask.keep)
        return Masked(self.video_encoder(tokens), mask, pixels, count)

    def _decode(
        self, seen: dict[str, Masked], spans: Lengths, hidden_only: bool
    ) -> dict[str, Tensor]:
        """Return predictions by modality, ``(B, M, P)`` or ``(B, N, P)``."""
        audio, timed = seen["audio"], self.conf.video_sampling == "uniform"
        place = torch.arange(audio.target.shape[1], device=audio.target.device)
        times = (place + 0.5) / self.at.lengths(spans.whole).clamp(min=1)[:, None]
        valid = place < audio.lengths[:, None]
        parts = {
            "audio": Seen(
                self.audio_out(audio.encoded), audio.mask, valid, times if timed else None
            )
        }
        if "video" in seen:
            video, patches = seen["video"], self.video_patches
            step = torch.arange(patches.tokens, device=place.device) // patches.area
            times = ((step + 0.5) / patches.steps).expand(video.mask.scored.shape)
            parts["video"] = Seen(video.encoded, video.mask, None, times if timed else None)
        return self.decoder(parts, hidden_only)

    def _mae(self, seen: dict[str, Masked], spans: Lengths, stats: dict) -> list[Tensor]:
        """Return the loss of each modality."""
        hidden_only = self.conf.mae_loss_on == "masked"
        predicted = self._decode(seen, spans, hidden_only)
        normalise = {"audio": self.conf.normalise_audio, "video": self.conf.normalise_video}
        losses = []
        for name, part in seen.items():
            if hidden_only:
                target, scored = gather_tokens(part.target, part.mask.hidden), part.mask.there
            else:
                target, scored = part.target, _valid(part.target, part.lengths)
            losses.append(mae_loss(target, predicted[name], scored, normalise[name]))
            stats[f"mae_{name}"] = losses[-1]
            stats[f"mean_{name}"] = mean_error(target, scored, normalise[name])
        return losses

    def _embed_audio(self, encoder: nn.Module, feats: Tensor, spans: Lengths) -> Tensor:
        tokens, valid = subsample(encoder, feats, spans.used, self.at)
        place = torch.arange(tokens.shape[1], device=tokens.device).expand(valid.shape)
        return self._joined_audio(run_blocks(encoder, tokens, valid), place, valid, spans)

    def _joined_audio(self, tokens: Tensor, place: Tensor, valid: Tensor, spans: Lengths) -> Tensor:
        if self.conf.clr_tokens == "mean":
            return self._project(mean_token(tokens, valid))
        steps = self.video_patches.steps
        step = step_of(place, self.at.lengths(spans.whole), steps)
        means, there = step_means(tokens, step, valid, steps)
        return joined(self._project(means), there, self.conf.clr_tokens == "centred")

    def _project(self, means: Tensor) -> Tensor:
        # What the steps of a clip have in common is taken away later; little may be left of it.
        with torch.autocast(means.device.type, enabled=False):
            return self.clr_audio(means.to(self.clr_audio.weight.dtype))

    def _embed_pixels(self, pixels: Tensor) -> Tensor:
        tokens = self.video_patches.embed_pixels(pixels)
        means = tokens.unflatten(1, (self.video_patches.steps, -1)).mean(2)
        place = torch.arange(means.shape[1], device=means.device).expand(means.shape[:2])
        return self._joined_video(self.video_encoder(means), place, torch.ones_like(place).bool())

    def _joined_video(self, tokens: Tensor, step: Tensor, valid: Tensor) -> Tensor:
        if self.conf.clr_tokens == "mean":
            return mean_token(tokens, valid)
        means, there = step_means(tokens, step, valid, self.video_patches.steps)
        return joined(means, there, self.conf.clr_tokens == "centred")

    def _embed_seen(self, seen: dict[str, Masked], spans: Lengths) -> tuple[Tensor, Tensor]:
        """Return both embeddings of what MAE has encoded."""
        (audio, video), area = (seen["audio"], seen["video"]), self.video_patches.area
        a = self._joined_audio(audio.encoded, audio.mask.keep, audio.mask.kept, spans)
        v = self._joined_video(video.encoded, video.mask.keep // area, video.mask.kept)
        return a, v


def _spans(lengths: Tensor, whole: Tensor | None) -> Lengths:
    return Lengths(lengths, lengths if whole is None else torch.maximum(lengths, whole))


def _valid(tokens: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]


def _without_padding(feats: Tensor, lengths: Tensor) -> Tensor:
    return feats.masked_fill(~_valid(feats, lengths)[..., None], 0)
