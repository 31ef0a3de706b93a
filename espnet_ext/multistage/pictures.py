# SPDX-License-Identifier: Apache-2.0
"""Reconstructions of stage 1 beside their originals, as PNG.

Letters: N tokens of a clip, P elements of a token, L frames of F features, T pictures of H x H.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from espnet_ext.errors import SetupError
from espnet_ext.files import atomic_path
from espnet_ext.installation import install
from espnet_ext.multistage.mae_loss import EPSILON
from espnet_ext.multistage.video_patches import VideoPatches

if TYPE_CHECKING:
    from espnet_ext.multistage.measure import Clips

ROWS = ("original", "seen", "reconstructed")
COLUMNS = 8  # pictures of a clip that are shown


def denormalised(predicted: Tensor, target: Tensor) -> Tensor:
    """Undo the normalisation by token, with mean and spread of the target, which no model knows.

    Args:
        predicted: ``(..., N, P)``, of normalised targets.
        target: ``(..., N, P)``, not normalised.
    """
    variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
    return predicted * (variance + EPSILON).sqrt() + mean


def filled_in(target: Tensor, predicted: Tensor, hidden: Tensor) -> Tensor:
    """Return the clip with predictions where tokens were hidden ``(..., N, P)``.

    Args:
        target: ``(..., N, P)``.
        predicted: ``(..., N, P)``.
        hidden: ``(..., N)`` bool.
    """
    return torch.where(hidden[..., None], predicted, target)


def spectrograms(target: Tensor, predicted: Tensor, hidden: Tensor, features: int) -> np.ndarray:
    """Return three spectrograms, one above the other: original, what was seen, reconstruction.

    Args:
        target: Of one clip ``(N, P)``.
        predicted: ``(N, P)``.
        hidden: ``(N,)`` bool.
        features: F.

    Returns:
        ``(3, F, L)``; hidden frames of the second one are NaN.
    """
    rows = (
        target,
        target.masked_fill(hidden[:, None], torch.nan),
        filled_in(target, predicted, hidden),
    )
    return np.stack([x.reshape(-1, features).T.cpu().numpy() for x in rows])


def frames(
    target: Tensor, predicted: Tensor, hidden: Tensor, patches: VideoPatches, size: int
) -> np.ndarray:
    """Return the pictures of a clip, three times: original, what was seen, reconstruction.

    Args:
        target: Of one clip ``(N, P)``.
        predicted: ``(N, P)``; see :func:`denormalised`.
        hidden: ``(N,)`` bool.
        patches: That made the target.
        size: H.

    Returns:
        ``(3, T, H, H, 3)`` uint8; hidden patches of the second are grey.
    """
    rows = (target, target.masked_fill(hidden[:, None], 0), filled_in(target, predicted, hidden))
    pictures = patches.pictures(torch.stack(rows).float(), size, size)
    return (pictures * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()


def draw(path: Path, title: str, model: Any, clip: "Clips") -> None:
    """Draw the reconstruction of a clip.

    Args:
        path: Of the PNG.
        title: Above it.
        model: See :func:`espnet_ext.multistage.measure.measure`; with the objective MAE.
        clip: A batch of one.

    Raises:
        SetupError: matplotlib is not installed.
    """
    part, conf = model.audio_visual, model.audio_visual.conf
    with torch.inference_mode():
        feats, lengths = model.features(clip.speech, clip.speech_lengths)
        whole = model.whole_frames(clip.speech_lengths)
        made = part.reconstruct(model.encoder, feats, lengths, clip.video, whole)
        rows = {name: [x[0] for x in shown] for name, shown in made.items()}
        for name, normalise in (("audio", conf.normalise_audio), ("video", conf.normalise_video)):
            if normalise and name in rows:
                rows[name][1] = denormalised(rows[name][1], rows[name][0])
        sound = spectrograms(*rows["audio"], feats.shape[-1])
        shown = None
        if "video" in rows:
            shown = frames(*rows["video"], part.video_patches, conf.size)
    save(path, title, sound, shown)


def save(path: Path, title: str, sound: np.ndarray, video: np.ndarray | None = None) -> None:
    """Draw a clip.

    Args:
        path: Of the PNG.
        title: Above it.
        sound: From :func:`spectrograms`.
        video: From :func:`frames`; None without pictures.

    Raises:
        SetupError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        what = "drawing reconstructions needs matplotlib"
        raise SetupError(what, path, install(extra="plot")) from None
    blocks = 1 if video is None else 2
    figure = Figure(figsize=(10, 4 * blocks), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(3 * blocks, 1)
    low, high = np.nanpercentile(sound[0], (1, 99))
    for axis, rows, name in zip(axes, sound, ROWS, strict=False):
        axis.imshow(rows, origin="lower", aspect="auto", vmin=low, vmax=high)
        axis.set_ylabel(name)
    axes[2].set_xlabel("frame")
    if video is not None:
        for axis, clip, name in zip(axes[3:], video, ROWS, strict=True):
            shown = clip[np.linspace(0, len(clip) - 1, min(COLUMNS, len(clip))).round().astype(int)]
            axis.imshow(np.concatenate(list(shown), 1))
            axis.set(xticks=[], yticks=[], ylabel=name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png", dpi=80)
