# SPDX-License-Identifier: Apache-2.0
"""Taking the output of an inner encoder layer while ESPnet's own forward runs.

The layer is read through forward hooks that exist during one forward call only, so the
model is ESPnet's own outside training. Encoders are recognised by their parts:
``embed`` and ``encoders`` (Transformer, Conformer, Branchformer, E-Branchformer),
``enc`` (RNN, VGG-RNN).
Letters: B utterances, T_l frames and D_l width of the layer.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from espnet_ext.errors import UsageError, nearest
from espnet_ext.frames import POOL2, Step, skip
from espnet_ext.weak_align.geometry import Geometry, conv_steps

PLACES = ("middle", "output", "context")  # besides layer numbers
TAPS = ("after_layer_before_pool", "after_layer_after_pool")
_KEY_PROJECTIONS = ("mlp_enc", "mlp_k", "linear_k")
Read = Callable[[Any], tuple[Tensor, Tensor | None]]


@dataclass
class Tap:
    """A place in the model and how to read it.

    Attributes:
        modules: The layers; the last one that ran counts.
        width: D_l.
        geometry: From feature frames to the frames here.
        text: For people, e.g. ``after block 3 of 6``.
        read: Turns what the module returned into ``(B, T_l, D_l)`` and ``(B,)``
            lengths, or None for the lengths of the encoder's output.
    """

    modules: tuple[nn.Module, ...]
    width: int
    geometry: Geometry
    text: str
    read: Read


@contextlib.contextmanager
def record(taps: dict[str, Tap], encoder: nn.Module) -> Iterator[dict[str, tuple]]:
    """Collect ``{name: (h (B, T_l, D_l), lengths (B,))}`` of the calls in the block."""
    seen: dict[str, tuple] = {}
    output_lengths: list[Tensor] = []
    handles = [encoder.register_forward_hook(lambda m, i, out: output_lengths.append(out[1]))]

    def keep(name: str, read: Read) -> Callable:
        return lambda module, inputs, output: seen.__setitem__(name, read(output))

    for name, tap in taps.items():
        handles += [m.register_forward_hook(keep(name, tap.read)) for m in tap.modules]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
    for name, (h, lengths) in seen.items():
        lengths = output_lengths[-1] if lengths is None else lengths
        seen[name] = (h, lengths.to(h.device))


def find_tap(model: nn.Module, layer: int | str, tap: str = TAPS[0]) -> Tap:
    """Return the tap for a layer.

    Args:
        model: An ESPnet ASR model.
        layer: Number from 1; ``middle``, of an odd number of layers the one in the
            middle, else the last of the first half; ``output`` of the encoder;
            ``context``, the projection of the encoder output that the attention of the
            decoder takes as keys.
        tap: One of :data:`TAPS`; the same where encoders do not pool between layers.

    Raises:
        UsageError: There is no such layer, or the encoder is not supported.
    """
    blocks = _blocks(model.encoder)
    if layer == "context":
        return _context_tap(model, blocks[-1].geometry)
    if layer == "output":
        geometry = blocks[-1].geometry
        width = model.encoder.output_size()
        return Tap((model.encoder,), width, geometry, "at the encoder output", _read_output)
    number = (len(blocks) + 1) // 2 if layer == "middle" else layer
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"'{layer}' is not a layer", "aux.layer", nearest(str(layer), PLACES))
    if not 1 <= number <= len(blocks):
        raise UsageError(
            f"there is no layer {number}: the encoder has layers 1 to {len(blocks)}",
            "aux.layer",
            f"a number from 1 to {len(blocks)}, or {', '.join(PLACES)}",
        )
    return blocks[number - 1].tap(number, len(blocks), tap)


def layer_number(model: nn.Module, layer: int | str) -> int | str:
    """Return the layer with ``middle`` turned into its number."""
    return (len(_blocks(model.encoder)) + 1) // 2 if layer == "middle" else layer


@dataclass
class _Block:
    """One layer of an encoder; ``geometry`` is that after its pool."""

    modules: tuple[nn.Module, ...]
    width: int
    geometry: Geometry
    read: Read
    pool: Step | None = None

    def tap(self, number: int, count: int, tap: str) -> Tap:
        text, read, geometry = f"after block {number} of {count}", self.read, self.geometry
        if self.pool is not None and tap == TAPS[0]:
            geometry = Geometry(geometry.steps[:-1])
            text += ", before its pool"
        elif self.pool is not None:
            read = _pooled(read, self.pool.stride)
            text += ", after its pool"
        return Tap(self.modules, self.width, geometry, text, read)


def _blocks(encoder: nn.Module) -> list[_Block]:
    layers = getattr(encoder, "encoders", None)
    if isinstance(layers, nn.Sequential | nn.ModuleList) and hasattr(encoder, "embed"):
        if getattr(encoder, "ctc_trim", False):
            raise UsageError(
                "labels cannot follow frames that the encoder drops", "encoder_conf.ctc_trim",
                "ctc_trim: false",
            )  # fmt: skip
        conv = getattr(encoder.embed, "conv", None)
        geometry = Geometry(conv_steps(conv) if conv is not None else ())
        width = encoder.output_size()
        # A layer that is dropped at random leaves what the one below it gave.
        below = [tuple(layers[: i + 1]) for i in range(len(layers))]
        return [_Block(modules, width, geometry, _read_block) for modules in below]
    parts = getattr(encoder, "enc", None)
    if isinstance(parts, nn.ModuleList):
        return _rnn_blocks(parts)
    raise UsageError(
        f"the layers of the encoder {type(encoder).__name__} are not known", "encoder",
        "conformer, transformer, e_branchformer, branchformer, rnn or vgg_rnn",
    )  # fmt: skip


def _rnn_blocks(parts: nn.ModuleList) -> list[_Block]:
    geometry, rnn = Geometry(), parts[-1]
    if len(parts) == 2:  # VGG: two convolutions and a pool, twice
        vgg = parts[0]
        first = conv_steps([vgg.conv1_1, vgg.conv1_2])
        geometry = geometry.then(*first, POOL2)
        geometry = geometry.then(*conv_steps([vgg.conv2_1, vgg.conv2_2]), POOL2)
    if hasattr(rnn, "nbrnn"):
        raise UsageError(
            "an RNN encoder without projections does not show its layers", "encoder_conf",
            "use_projection: true",
        )  # fmt: skip
    blocks = []
    for i in range(rnn.elayers):
        layer = getattr(rnn, ("birnn" if rnn.bidir else "rnn") + str(i))
        step = int(rnn.subsample[i + 1])
        pool = skip(step) if step > 1 else None
        geometry = geometry.then(pool) if pool else geometry
        width = layer.hidden_size * (2 if rnn.bidir else 1)
        blocks.append(_Block((layer,), width, geometry, _read_rnn, pool))
    return blocks


def _context_tap(model: nn.Module, geometry: Geometry) -> Tap:
    decoder = getattr(model, "decoder", None)
    if hasattr(decoder, "att_list"):
        attention = decoder.att_list[0]
    else:
        attention = next((getattr(d, "src_attn", None) for d in getattr(decoder, "decoders", [])),
                         None)  # fmt: skip
    named = (getattr(attention, n, None) for n in _KEY_PROJECTIONS)
    found = [m for m in named if isinstance(m, nn.Linear)]
    if not found:
        raise UsageError(
            f"the decoder {type(decoder).__name__} does not project the encoder output",
            "aux.layer",
            "layer: output",
        )
    projection = found[0]
    text = "at the attention's projection of the encoder output"
    return Tap((projection,), projection.out_features, geometry, text, lambda out: (out, None))


def _read_block(output: Any) -> tuple[Tensor, Tensor]:
    x, mask = output
    x = x[0] if isinstance(x, tuple) else x
    return x, mask.reshape(mask.shape[0], -1, mask.shape[-1])[:, -1].sum(-1)


def _read_output(output: Any) -> tuple[Tensor, Tensor]:
    x = output[0][0] if isinstance(output[0], tuple) else output[0]
    return x, output[1]


def _read_rnn(output: Any) -> tuple[Tensor, Tensor]:
    packed = output[0]
    assert isinstance(packed, PackedSequence)
    return pad_packed_sequence(packed, batch_first=True)


def _pooled(read: Read, step: int) -> Read:
    def pooled(output: Any) -> tuple[Tensor, Tensor]:
        h, lengths = read(output)
        return h[:, ::step], torch.div(lengths + 1, step, rounding_mode="floor")

    return pooled
