# SPDX-License-Identifier: Apache-2.0
"""Where in time an encoder's frames lie, from the kernels and strides of its layers.

Frame j after some layers is centred at feature frame ``offset + j * stride``. With ESPnet's
``conv2d`` (two valid 3x3 convolutions of stride 2) that is ``4 j + 3``.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import nn

from espnet_ext.errors import UsageError
from espnet_ext.weak_align.labels import FrameGrid


class Step(NamedTuple):
    """A layer along time: output j looks at inputs ``[j stride - pad, j stride - pad + kernel)``.

    Attributes:
        kernel: Inputs of one output.
        stride: Inputs between outputs.
        pad: Zeros before the first input, and after the last.
        slack: Added to the length before it is divided; ``stride - 1`` rounds up.
    """

    kernel: int
    stride: int
    pad: int = 0
    slack: int = 0

    def length(self, frames: int) -> int:
        """Return the number of outputs."""
        return max(0, (frames + 2 * self.pad - self.kernel + self.slack) // self.stride + 1)


POOL2 = Step(kernel=2, stride=2, slack=1)  # max_pool2d with ceil_mode


def skip(step: int) -> Step:
    """Every ``step``-th frame, as ESPnet's RNN encoders pool time; of n frames (n + 1) // step.

    The length is ESPnet's own, which for steps above 2 drops a last frame.
    """
    return Step(kernel=1, stride=step, slack=2 - step)


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
        stride = 1
        for step in self.steps:
            stride *= step.stride
        return stride

    @property
    def offset(self) -> float:
        """Feature frame at the centre of frame 0."""
        offset, stride = 0.0, 1
        for step in self.steps:
            offset += stride * ((step.kernel - 1) / 2 - step.pad)
            stride *= step.stride
        return offset

    def length(self, frames: int) -> int:
        """Return how many frames come of ``frames`` feature frames."""
        for step in self.steps:
            frames = step.length(frames)
        return frames

    def grid(self, features: FrameGrid) -> FrameGrid:
        """Return the times of the frames, given those of the features."""
        centre_s = features.centre_s + self.offset * features.shift_s
        return FrameGrid(self.stride * features.shift_s, centre_s)


def conv_steps(modules: Iterable[nn.Module]) -> tuple[Step, ...]:
    """Return the steps of the convolutions among ``modules``; time is their first axis."""
    convolutions = (m for m in modules if isinstance(m, nn.Conv1d | nn.Conv2d))
    return tuple(Step(c.kernel_size[0], c.stride[0], c.padding[0]) for c in convolutions)


class Features(NamedTuple):
    """How a frontend makes feature frames of samples.

    Attributes:
        hop: Samples between frames.
        window: Samples of a frame that must be inside; 0 if the signal is padded by half a frame.
        centre: Sample at the centre of frame 0.
        rate: Samples per second.
    """

    hop: int
    window: int
    centre: float
    rate: int

    @property
    def grid(self) -> FrameGrid:
        """The frames in seconds."""
        return FrameGrid(self.hop / self.rate, self.centre / self.rate)

    def length(self, samples: int) -> int:
        """Return the number of frames of ``samples`` samples."""
        return max(0, (samples - self.window) // self.hop + 1)


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
    centred = stft.center
    window = stft.n_fft
    return Features(
        hop=stft.hop_length,
        window=window % 2 if centred else window,
        centre=0.0 if centred else window / 2,
        rate=rate,
    )
