# SPDX-License-Identifier: Apache-2.0
"""What stage 1 has learnt, on clips that it has not seen: reconstruction and embeddings.

Hidden tokens are those of the validation, drawn with a fixed seed. Letters: B clips of a batch, L
samples, T pictures of H x H, P elements of a token, E width of an embedding.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_ext.multistage.mae_loss import normalised
from espnet_ext.multistage.options import CLR, MAE


@dataclass(frozen=True)
class Clips:
    """A batch.

    Attributes:
        speech: ``(B, L)``.
        speech_lengths: ``(B,)``.
        video: ``(B, T, H, H, 3)`` uint8; None where the model hears only.
        late: The same half a second late.
        repeated: Pictures of each clip that repeat the last one ``(B,)``.
    """

    speech: Tensor
    speech_lengths: Tensor
    video: Tensor | None = None
    late: Tensor | None = None
    repeated: Tensor | None = None


@dataclass
class Errors:
    """Squared errors of hidden tokens, a mean over the elements of each, summed by clip.

    Attributes:
        predicted: Of the model.
        own_mean: Of predicting each token's own mean, which no model knows.
        tokens: Hidden tokens of the clips.
        sums: Of the targets ``(P,)``, by clip.
        squares: Of the targets, mean over elements, by clip.
        deaf: Of the model where what it sees is of the clip before in the batch; NaN without one.
    """

    predicted: list[float] = field(default_factory=list)
    own_mean: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    deaf: list[float] = field(default_factory=list)

    def add(
        self, target: Tensor, predicted: Tensor, hidden: Tensor, other: Tensor, normalise: bool
    ) -> None:
        """Add the clips of a batch.

        Args:
            target: ``(B, N, P)``.
            predicted: ``(B, N, P)``.
            hidden: ``(B, N)`` bool.
            other: What was predicted from the seen tokens of other clips ``(B, N, P)``.
            normalise: Whether the model predicts normalised targets.
        """
        target = (normalised(target.float()) if normalise else target).double()
        for x, y, z, h in zip(target, predicted.double(), other.double(), hidden, strict=True):
            x, y, z = x[h], y[h], z[h]
            self.predicted.append(float((x - y).square().mean(-1).sum()))
            alone = len(target) == 1
            self.deaf.append(float("nan") if alone else float((x - z).square().mean(-1).sum()))
            self.own_mean.append(float(x.var(-1, unbiased=False).sum()))
            self.tokens.append(len(x))
            self.sums.append(x.sum(0).cpu().numpy())
            self.squares.append(float(x.square().mean(-1).sum()))

    def constant(self) -> np.ndarray:
        """Return the errors of the best constant, the mean of all these targets, by clip."""
        tokens, sums = np.array(self.tokens), np.stack(self.sums)
        mean = sums.sum(0) / max(1, tokens.sum())
        errors = np.array(self.squares) - 2 * (sums * mean).mean(1) + tokens * (mean**2).mean()
        return np.maximum(errors, 0.0)

    def deafness(self) -> float:
        """Return the error from what others show, divided by the model's own; NaN if unknown.

        It is 1 for a model that does not look at what it sees.
        """
        pairs = [(d, p) for d, p in zip(self.deaf, self.predicted, strict=True) if d == d]
        own = sum(p for _, p in pairs)
        return sum(d for d, _ in pairs) / own if own else float("nan")


@dataclass
class Measured:
    """Of all clips: errors by modality, and embeddings ``(clips, E)`` by kind."""

    errors: dict[str, Errors] = field(default_factory=dict)
    embeddings: dict[str, np.ndarray] = field(default_factory=dict)


def measure(model: Any, batches: Iterable[Clips]) -> Measured:
    """Run the model on all clips.

    Args:
        model: :class:`espnet_ext.multistage.model.AudioVisualModel`, or what has its ``features``,
            ``whole_frames``, ``encoder`` and ``audio_visual``; in evaluation mode.
        batches: Of the clips.
    """
    part, out = model.audio_visual, Measured()
    normalise = {"audio": part.conf.normalise_audio, "video": part.conf.normalise_video}
    embedded: dict[str, list[np.ndarray]] = {}
    with torch.inference_mode():
        for clips in batches:
            feats, lengths = model.features(clips.speech, clips.speech_lengths)
            whole = model.whole_frames(clips.speech_lengths)
            if MAE in part.conf.losses:
                video = clips.video
                made = part.reconstruct(model.encoder, feats, lengths, video, whole)
                others = None if video is None else video.roll(1, 0)
                # The masks are the same: they follow from the lengths.
                deaf = part.reconstruct(model.encoder, feats.roll(1, 0), lengths, others, whole)
                for name, shown in made.items():
                    add = out.errors.setdefault(name, Errors()).add
                    add(*shown, deaf[name][1], normalise[name])
            if CLR in part.conf.losses:
                found = {"audio": part.embed_audio(model.encoder, feats, lengths, whole)}
                found |= {"video": part.embed_video(clips.video)}
                found |= {"late": part.embed_video(clips.late)}
                for name, vectors in found.items():
                    embedded.setdefault(name, []).append(vectors.float().cpu().numpy())
    out.embeddings = {name: np.concatenate(parts) for name, parts in embedded.items()}
    return out
