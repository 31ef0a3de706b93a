# SPDX-License-Identifier: Apache-2.0
"""How a speech encoder is trained: what is frozen, what is recomputed, in which precision.

All of it concerns training alone: in evaluation the encoder is ESPnet's own, under its own names,
so stock inference computes the same. Shapes: B utterances, T frames of width D.
"""

from typing import Any

import torch
from torch import Tensor, nn

from espnet_ext.dual_task import freezing
from espnet_ext.errors import UsageError


class Half:
    """Mixin of an encoder of samples or of a block: trained in bfloat16, its output is float32.

    The input layers of ESPnet's encoders are left out: they keep a table of positions in the
    precision of what they last saw, and validation would go on with the rounded one.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the module's own."""
        if not self.training:
            return super().forward(*args, **kwargs)
        device = next(self.parameters()).device.type
        with torch.autocast(device, dtype=torch.bfloat16):
            return _float(super().forward(*args, **kwargs))


class Tuned:
    """Mixin of an encoder whose frozen parts stay in evaluation.

    Attributes:
        frozen_parts: Names of the frozen modules.
    """

    frozen_parts: tuple[str, ...] = ()

    def train(self, mode: bool = True) -> Any:
        """As torch's, but for the frozen parts."""
        super().train(mode)
        freezing.stand_still([self.get_submodule(name) for name in self.frozen_parts])
        return self


class TunedRaw(Tuned):
    """The same for ``torchaudiohubert``, whose training differs from its evaluation.

    ESPnet never trains the convolutions and counts its steps in a buffer that an average over
    checkpoints would sum up; here they are trained where asked, and the buffer stays 0.
    """

    train_cnn = False

    def _finetuning_forward(self, xs_pad: Tensor, ilens: Tensor) -> tuple[Tensor, Tensor, None]:
        """Return hidden states ``(B, T, D)`` and lengths ``(B,)`` of samples ``(B, N)``."""
        model = self.hubert_pretrain_model
        learn = torch.is_grad_enabled() and self.train_cnn
        with torch.set_grad_enabled(learn):
            x, lengths = model.wav2vec2.feature_extractor(xs_pad, ilens)
        padded = torch.arange(x.shape[1], device=lengths.device) >= lengths[:, None]
        x, mask = model.wav2vec2.encoder._preprocess(x, lengths)
        x, _ = model.mask_generator(x, padded)
        return model.wav2vec2.encoder.transformer(x, attention_mask=mask), lengths, None


def tune(
    encoder: nn.Module,
    freeze_layers: int = 0,
    train_cnn: bool = False,
    gradient_checkpointing: bool = False,
    bf16: bool = False,
) -> None:
    """Set up an encoder for training.

    Args:
        encoder: Of an ESPnet model; its class is changed.
        freeze_layers: Freeze the front part and this many of the lowest blocks: no gradient, no
            dropout, no new statistics.
        train_cnn: Train the convolutions of ``torchaudiohubert``.
        gradient_checkpointing: Keep the inputs of blocks alone, and compute the rest again.
        bf16: Train it in bfloat16, on a CPU as well.

    Raises:
        UsageError: An option does not go with this encoder.
    """
    raw = hasattr(encoder, "hubert_pretrain_model")
    if train_cnn and not raw:
        how = "encoder: torchaudiohubert (dual_task.speech_encoder), or train_cnn: false"
        raise UsageError("this encoder has no convolutions on samples", "dual_task.train_cnn", how)
    if gradient_checkpointing:
        freezing.checkpoint_blocks(encoder)
    if raw:
        _prepare_raw(encoder, train_cnn)
    if bf16:
        for module in [encoder] if raw else freezing.parts(encoder)[1]:
            freezing.swap(module, Half)
    frozen = freezing.freeze(encoder, freeze_layers)
    names = {id(m): name for name, m in encoder.named_modules()}
    if raw or frozen:
        freezing.swap(encoder, TunedRaw if raw else Tuned)
        encoder.frozen_parts = tuple(names[id(m)] for m in frozen)
        encoder.train(encoder.training)
    if raw:
        encoder.train_cnn = train_cnn


def _prepare_raw(encoder: Any, train_cnn: bool) -> None:
    model = encoder.hubert_pretrain_model
    model.wav2vec2.feature_extractor.requires_grad_(train_cnn)
    # Parts of pre-training, which no loss reaches: processes of a group would wait for them.
    model.logit_generator.requires_grad_(False)
    generator = model.mask_generator
    if generator.mask_prob == 0:
        generator.requires_grad_(False)
    # ESPnet keeps a second copy of the weights, to load them again; they come from elsewhere.
    encoder.pretrained_params = {}


def _float(given: Any) -> Any:
    """Return the floating-point tensors of an output in float32."""
    if isinstance(given, tuple | list):
        return type(given)(_float(x) for x in given)
    is_float = isinstance(given, Tensor) and given.is_floating_point()
    return given.float() if is_float else given
