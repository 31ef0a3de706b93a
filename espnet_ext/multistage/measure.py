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
        places: Number of hidden tokens ``(N,)``, their sums ``(N, P)`` and the sums of their
            squares ``(N,)``, by place in the clip.
    """

    predicted: list[float] = field(default_factory=list)
    own_mean: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    sums: list[np.ndarray] = field(default_factory=list)
    squares: list[float] = field(default_factory=list)
    places: tuple[np.ndarray, ...] = ()

    def add(self, target: Tensor, predicted: Tensor, hidden: Tensor, normalise: bool) -> None:
        """Add the clips of a batch: ``(B, N, P)`` twice, ``(B, N)`` bool."""
        target = (normalised(target.float()) if normalise else target).double()
        self._add_places(target.cpu().numpy(), hidden.cpu().numpy())
        for x, y, h in zip(target, predicted.double(), hidden, strict=True):
            x, y = x[h], y[h]
            self.predicted.append(float((x - y).square().mean(-1).sum()))
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

    def _add_places(self, target: np.ndarray, hidden: np.ndarray) -> None:
        x = np.where(hidden[..., None], target, 0.0)
        new = (hidden.sum(0).astype(float), x.sum(0), (x**2).mean(-1).sum(0))
        if self.places:
            longer = max(len(new[0]), len(self.places[0]))
            both = zip(_padded(self.places, longer), _padded(new, longer), strict=True)
            new = tuple(a + b for a, b in both)
        self.places = new

    def by_place(self) -> float:
        """Return the error a token of predicting the mean of the other clips' tokens at its place.

        Whoever is not better than this has learnt nothing from the tokens around. Places that are
        hidden in one clip only do not count; NaN where there are no others.
        """
        count, sums, squares = (a[self.places[0] > 1] for a in self.places)
        within = squares - (sums**2).mean(-1) / count
        # A token is n / (n - 1) times as far from the mean of the others as from that of all.
        if not len(count):
            return float("nan")
        return float((within * (count / (count - 1)) ** 2).sum() / count.sum())


def _padded(places: tuple[np.ndarray, ...], length: int) -> list[np.ndarray]:
    return [np.pad(a, [(0, length - len(a)), *[(0, 0)] * (a.ndim - 1)]) for a in places]


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
                made = part.reconstruct(model.encoder, feats, lengths, clips.video, whole)
                for name, shown in made.items():
                    out.errors.setdefault(name, Errors()).add(*shown, normalise[name])
            if CLR in part.conf.losses:
                found = {"audio": part.embed_audio(model.encoder, feats, lengths, whole)}
                found |= {"video": part.embed_video(clips.video)}
                found |= {"late": part.embed_video(clips.late)}
                for name, vectors in found.items():
                    embedded.setdefault(name, []).append(vectors.float().cpu().numpy())
    out.embeddings = {name: np.concatenate(parts) for name, parts in embedded.items()}
    return out
