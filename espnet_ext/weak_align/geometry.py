# SPDX-License-Identifier: Apache-2.0
"""Where in time an encoder's frames lie, from the kernels and strides of its layers.

Frame j after some layers is centred at feature frame ``offset + j * stride``. With
ESPnet's ``conv2d`` (two valid 3x3 convolutions of stride 2) that is ``4 j + 3``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from torch import nn

from espnet_ext.errors import UsageError
from espnet_ext.frames import Features, Step, length_after, offset_of, stride_of
from espnet_ext.weak_align.labels import FrameGrid


@dataclass(frozen=True)
class Geometry:
    """Steps from the features to a layer."""

    steps: tuple[Step, ...] = ()

    def then(self, *steps: Step) -> "Geometry":
        """Return the geometry after further layers."""
        return replace(self, steps=(*self.steps, *steps))

    @property
    def stride(self) -> int:
        """Feature frames between frames."""
        return stride_of(self.steps)

    @property
    def offset(self) -> float:
        """Feature frame at the centre of frame 0."""
        return offset_of(self.steps)

    def length(self, features: int) -> int:
        """Return how many frames come of ``features`` feature frames."""
        return length_after(self.steps, features)

    def grid(self, features: FrameGrid) -> FrameGrid:
        """Return the times of the frames, given those of the features."""
        centre_s = features.centre_s + self.offset * features.shift_s
        return FrameGrid(self.stride * features.shift_s, centre_s)


def conv_steps(modules: Iterable[nn.Module]) -> tuple[Step, ...]:
    """Return the steps of the convolutions among ``modules`` along their first axis."""
    convolutions = (m for m in modules if isinstance(m, nn.Conv1d | nn.Conv2d))
    return tuple(Step(c.kernel_size[0], c.stride[0], c.padding[0]) for c in convolutions)


def feature_grid(features: Features) -> FrameGrid:
    """Return the times of feature frames in seconds."""
    return FrameGrid(features.hop / features.rate, features.first_centre_s)


def features_of(frontend: nn.Module | None, rate: int) -> Features:
    """Return the frames of an ESPnet frontend.

    Args:
        frontend: Of the model.
        rate: Sampling rate in Hz.

    Raises:
        UsageError: The frontend does not tell its hop.
    """
    stft = getattr(frontend, "stft", None)
    if stft is None:
        raise UsageError(
            f"the frame times of the frontend {type(frontend).__name__} are not known",
            "frontend",
            "use ESPnet's default frontend",
        )
    window = stft.n_fft % 2 if stft.center else stft.n_fft
    return Features(hop=stft.hop_length, window=window, rate=rate)
