# SPDX-License-Identifier: Apache-2.0
"""How many frames come of an utterance: exact, from a training configuration, without torch.

One account of lengths for all: formatting and training leave out what CTC has no path for, weak
alignment places its labels, the doctor compares ``format.ctc_stride`` with the encoder.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A layer along time: output j sees ``kernel`` inputs from ``j stride - pad`` on.

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
_SAME = Step(kernel=3, stride=1, pad=1)
_VGG = (_SAME, _SAME, POOL2, _SAME, _SAME, POOL2)
# ESPnet's input layers: none of the convolutions is padded. conv1d4 is ours (espnet_ext.conv1d4).
INPUT_LAYERS: dict[str | None, tuple[Step, ...]] = {
    None: (), "linear": (), "embed": (),
    "conv1d1": (Step(3, 1), Step(3, 1)), "conv1d2": (Step(3, 1), Step(3, 2)),
    "conv1d3": (Step(3, 1), Step(5, 3)), "conv1d4": (Step(5, 2, pad=2), Step(5, 2, pad=2)),
    "conv2d1": (Step(3, 1), Step(3, 1)),
    "conv2d2": (Step(3, 2), Step(3, 1)), "conv2d": (Step(3, 2), Step(3, 2)),
    "conv2d6": (Step(3, 2), Step(5, 3)), "conv2d8": (Step(3, 2), Step(3, 2), Step(3, 2)),
}  # fmt: skip
_EMBEDDED = {
    "conformer", "transformer", "branchformer", "e_branchformer", "contextual_block_conformer",
    "contextual_block_transformer", "multiconv_conformer",
}  # fmt: skip
RAW_ENCODER = "torchaudiohubert"  # reads samples: frontend: null, input_size: 1
# Its convolutions (channels, kernel, stride), those of all released encoders: 320 samples a frame.
WAV2VEC2 = ((512, 10, 5), *((512, 3, 2),) * 4, *((512, 2, 2),) * 2)


def skip(step: int) -> Step:
    """Return the step to every ``step``-th frame, as ESPnet's RNN encoders pool time.

    Of n frames it leaves ``(n + 1) // step``: ESPnet's own length, which for steps
    above 2 drops a last frame.
    """
    return Step(kernel=1, stride=step, slack=2 - step)


def stride_of(steps: Iterable[Step]) -> int:
    """Return how many frames before the steps lie between frames after them."""
    return math.prod(step.stride for step in steps)


def length_after(steps: Iterable[Step], frames: int) -> int:
    """Return how many of ``frames`` frames are left after the steps."""
    for step in steps:
        frames = step.length(frames)
    return frames


def offset_of(steps: Iterable[Step]) -> float:
    """Return the frame before the steps at which frame 0 after them is centred."""
    offset, stride = 0.0, 1
    for step in steps:
        offset += stride * ((step.kernel - 1) / 2 - step.pad)
        stride *= step.stride
    return offset


class Features(NamedTuple):
    """How a frontend makes feature frames of samples.

    Attributes:
        hop: Samples between frames.
        window: Samples of a frame that must be inside; 0 if the signal is padded by
            half a frame.
        rate: Samples per second.
    """

    hop: int
    window: int
    rate: float

    def length(self, samples: int) -> int:
        """Return the number of frames of ``samples`` samples."""
        return max(0, (samples - self.window) // self.hop + 1)

    @property
    def first_centre_s(self) -> float:
        """Seconds at the centre of frame 0: 0 where half a frame is padded before."""
        return 0.0 if self.window < 2 else self.window / 2 / self.rate


@dataclass(frozen=True)
class Encoder:
    """From samples to the frames of an encoder's output."""

    features: Features
    steps: tuple[Step, ...]

    @property
    def stride(self) -> int:
        """Feature frames between encoder frames."""
        return stride_of(self.steps)

    @property
    def shift_s(self) -> float:
        """Seconds between encoder frames."""
        return self.stride * self.features.hop / self.features.rate

    @property
    def first_centre_s(self) -> float:
        """Seconds at the centre of encoder frame 0."""
        shift_s = self.features.hop / self.features.rate
        return self.features.first_centre_s + offset_of(self.steps) * shift_s

    def frames(self, samples: int) -> int:
        """Return the number of encoder frames of ``samples`` samples."""
        return length_after(self.steps, self.features.length(samples))


def rate_hz(frontend_conf: Mapping[str, Any] | None) -> float:
    """Return ESPnet's ``fs``, a number or text as ``16k``, in Hz."""
    text = str((frontend_conf or {}).get("fs", 16000)).strip().lower()
    return float(text[:-1]) * 1000 if text.endswith("k") else float(text)


def features_of_config(config: Mapping[str, Any]) -> Features | None:
    """Return the frames of ESPnet's default frontend, or samples; None for another one."""
    if config.get("input_size") == 1 and config.get("encoder") == RAW_ENCODER:
        return Features(hop=1, window=1, rate=rate_hz(config.get("frontend_conf")))
    if config.get("frontend", "default") != "default" or config.get("input_size") is not None:
        return None
    conf = config.get("frontend_conf") or {}
    window = int(conf.get("n_fft", 512))
    centred = conf.get("center", True)
    hop = int(conf.get("hop_length", 128))
    return Features(hop, window % 2 if centred else window, rate_hz(conf))


def steps_of_config(config: Mapping[str, Any]) -> tuple[Step, ...] | None:
    """Return the layers that change the length; None where they are not known."""
    name, conf = config.get("encoder") or "rnn", config.get("encoder_conf") or {}
    if config.get("preencoder") not in (None, "linear") or conf.get("ctc_trim"):
        return None
    steps: tuple[Step, ...] | None = None
    if name in _EMBEDDED:
        steps = INPUT_LAYERS.get(conf.get("input_layer", "conv2d"))
    elif name == "vgg_rnn":
        steps = _VGG
    elif name == RAW_ENCODER:
        layers = conf.get("extractor_conv_layer_config") or WAV2VEC2
        steps = tuple(Step(int(kernel), int(stride)) for _, kernel, stride in layers)
    elif name == "rnn":
        layers = conf.get("num_layers", 4)
        every = conf.get("subsample", (2, 2, 1, 1)) if conf.get("use_projection", True) else None
        steps = tuple(skip(int(n)) for n in (every or ())[:layers] if int(n) > 1)
    if steps is None or config.get("postencoder") is None:
        return steps
    if config["postencoder"] != "length_adaptor":
        return None
    layers = (config.get("postencoder_conf") or {}).get("length_adaptor_n_layers", 0)
    return (*steps, *(Step(2, 2) for _ in range(layers)))


def encoder_of_config(config: Mapping[str, Any]) -> Encoder | None:
    """Return what a training configuration makes of samples; None where it is not known.

    Args:
        config: ESPnet's training options; what is absent has ESPnet's default.
    """
    features, steps = features_of_config(config), steps_of_config(config)
    return None if features is None or steps is None else Encoder(features, steps)


@lru_cache
def usual_encoder(fs: int, stride: int) -> Encoder:
    """Return the encoder that formatting supposes, before a training configuration is known.

    Args:
        fs: Samples per second; features have a hop of 10 ms and centred windows.
        stride: Features per encoder frame: 2, 4, 6, 8 as ``conv2d<stride>``, 1 as ``linear``,
            others by plain division.
    """
    layer = {1: "linear", 4: "conv2d"}.get(stride, f"conv2d{stride}")
    steps = INPUT_LAYERS.get(layer, (Step(stride, stride),))
    return Encoder(Features(round(0.01 * fs), 0, fs), steps)
