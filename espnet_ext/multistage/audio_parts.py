# SPDX-License-Identifier: Apache-2.0
"""A Conformer driven in parts: subsampling, then blocks on some of the tokens.

The encoder is any module with ``embed(feats, mask)`` that adds absolute positions, ``encoders``
(blocks of ``(tokens, mask)``) and ``after_norm``, as ESPnet's Conformer with ``abs_pos`` and
``selfattn``; its parameters keep their names. Letters: B utterances, T frames of F features, N
tokens of width D.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from espnet_ext.frames import INPUT_LAYERS, Step, length_after, offset_of, stride_of
from espnet_ext.multistage.masking import RandomMask, gather_tokens, restore_tokens

CONV2D = INPUT_LAYERS["conv2d"]


class TokenFrames:
    """Which frames a token stands for.

    A token of ``conv2d`` sees frames 4k to 4k+6; it stands for the four in the middle, 4k+2 to
    4k+5. One of ``conv1d4`` is centred at frame 4k and stands for 4k to 4k+3.

    Args:
        steps: Layers of the subsampling.

    Attributes:
        stride: Frames of a token.
        first: The first one of token 0.
        window: Frames that a token sees, from ``stride`` times its number on.
    """

    def __init__(self, steps: Iterable[Step] = CONV2D):
        self.steps = tuple(steps)
        self.stride, self.window = stride_of(self.steps), window_of(self.steps)
        self.first = max(0, int(-(-(offset_of(self.steps) - (self.stride - 1) / 2) // 1)))

    def lengths(self, frames: Tensor) -> Tensor:
        """Return the tokens ``(B,)`` of utterances of so many frames ``(B,)``.

        A last token that stands for frames beyond the end does not count (``conv1d4``).
        """
        counts = [
            min(length_after(self.steps, n), max(0, n - self.first) // self.stride)
            for n in frames.tolist()
        ]
        return torch.tensor(counts, device=frames.device, dtype=torch.long)

    def targets(self, feats: Tensor, tokens: int) -> Tensor:
        """Return the frames of each token, one after the other: ``(B, N, stride * F)``.

        Args:
            feats: ``(B, T, F)``.
            tokens: N.
        """
        part = feats[:, self.first : self.first + tokens * self.stride]
        return part.reshape(len(feats), tokens, -1)

    def hide(self, feats: Tensor, hidden: Tensor) -> Tensor:
        """Return the features with the frames of hidden tokens set to 0, the mean.

        Args:
            feats: ``(B, T, F)``.
            hidden: ``(B, N)`` bool.
        """
        out = feats.clone()
        frames = hidden.repeat_interleave(self.stride, 1)
        part = out[:, self.first : self.first + frames.shape[1]]
        part.masked_fill_(frames[..., None], 0)
        return out


def window_of(steps: Iterable[Step]) -> int:
    """Return how many frames an output of these layers sees."""
    window, stride = 1, 1
    for step in steps:
        window += (step.kernel - 1) * stride
        stride *= step.stride
    return window


def subsample(
    encoder: nn.Module, feats: Tensor, lengths: Tensor, at: TokenFrames
) -> tuple[Tensor, Tensor]:
    """Return tokens with their positions ``(B, N, D)`` and which of them are valid ``(B, N)``.

    A token that sees padding is not valid; some releases of ESPnet count it.

    Args:
        encoder: See the module's text.
        feats: ``(B, T, F)``.
        lengths: Of the frames ``(B,)``.
        at: The subsampling.
    """
    mask = torch.arange(feats.shape[1], device=feats.device) < lengths[:, None]
    tokens, _ = encoder.embed(feats, mask[:, None])
    place = torch.arange(tokens.shape[1], device=feats.device)
    return tokens, place < at.lengths(lengths)[:, None]


def subsample_some(
    encoder: nn.Module, feats: Tensor, lengths: Tensor, mask: RandomMask, at: TokenFrames
) -> Tensor:
    """Return the seen tokens with their positions ``(B, K, D)``.

    They are those of :func:`subsample`; where the input layer has parts (``conv``, ``out``,
    ``pos_enc``, as ESPnet's) and many tokens are hidden, only the frames that the seen ones look at
    are convolved. Frames that two tokens share are then convolved twice, so few hidden tokens are
    not worth it.

    Args:
        encoder: See the module's text.
        feats: ``(B, T, F)``.
        lengths: Of the frames ``(B,)``.
        mask: Which tokens are seen.
        at: The subsampling.
    """
    embed = encoder.embed
    few_hidden = mask.keep.shape[1] * at.window > mask.scored.shape[1] * (at.stride + 1)
    if few_hidden or not _in_parts(embed, at):
        return gather_tokens(subsample(encoder, feats, lengths, at)[0], mask.keep)
    windows = feats.unfold(1, at.window, at.stride)  # (B, N, F, window)
    index = mask.keep[..., None, None].expand(-1, -1, *windows.shape[2:])
    maps = embed.conv(windows.gather(1, index).flatten(0, 1).transpose(1, 2)[:, None])
    tokens = embed.out(maps.transpose(1, 2).reshape(*mask.keep.shape, -1))
    # The module adds positions by counting, so each token goes to its place before.
    placed = restore_tokens(tokens, tokens.new_zeros(tokens.shape[-1]), mask)
    return gather_tokens(embed.pos_enc(placed), mask.keep)


def _in_parts(embed: nn.Module, at: TokenFrames) -> bool:
    """Whether the input layer is convolutions without padding, a linear layer, and positions."""
    parts = [getattr(embed, name, None) for name in ("conv", "out", "pos_enc")]
    if not all(isinstance(part, nn.Module) for part in parts):
        return False
    first = next(iter(parts[0].children()), None)
    return isinstance(first, nn.Conv2d) and not any(s.pad or s.slack for s in at.steps)


def run_blocks(encoder: nn.Module, tokens: Tensor, valid: Tensor) -> Tensor:
    """Return what the blocks make of tokens, of all or of some of them: ``(B, N, D)``.

    Args:
        encoder: See the module's text.
        tokens: ``(B, N, D)``.
        valid: ``(B, N)`` bool.
    """
    mask = valid[:, None]
    for block in encoder.encoders:
        tokens, mask = block(tokens, mask)
    return encoder.after_norm(tokens) if getattr(encoder, "normalize_before", True) else tokens
