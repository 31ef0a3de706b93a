# SPDX-License-Identifier: Apache-2.0
"""Lengths of encoders against the modules of the installed ESPnet, length by length."""

import pytest
import torch

from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.espnet.input_layers import OWN  # of which ESPnet knows nothing
from espnet_ext.frames import (
    INPUT_LAYERS,
    encoder_of_config,
    features_of_config,
    rate_hz,
    steps_of_config,
)

fastimport.enable()
with quiet_import():
    from espnet2.asr.frontend.default import DefaultFrontend
    from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError
    from espnet2.tasks.asr import encoder_choices, postencoder_choices

SMALL = {"output_size": 4, "attention_heads": 1, "linear_units": 4, "num_blocks": 1}
CONVOLUTIONS = [x for x in INPUT_LAYERS if x and x[:4] == "conv" and x not in OWN]
TWO_D = [x for x in CONVOLUTIONS if x[:6] == "conv2d"]
NAMED = {  # the input layers that each class takes
    "transformer": ["linear", "conv1d2", *TWO_D, None],
    "conformer": ["linear", *TWO_D],
    "branchformer": ["linear", *TWO_D],
    "e_branchformer": ["linear", *CONVOLUTIONS],
}
CASES = [(e, {**SMALL, "input_layer": x}) for e, layers in NAMED.items() for x in layers]
CASES += [
    ("contextual_block_conformer", {**SMALL, "input_layer": x})
    for x in ("conv2d", "conv2d6", "conv2d8")
]
CASES += [
    ("conformer", SMALL),
    ("rnn", {"hidden_size": 2, "output_size": 2}),
    ("rnn", {"hidden_size": 2, "output_size": 2, "num_layers": 2, "subsample": [3, 2, 2]}),
    ("rnn", {"hidden_size": 2, "output_size": 2, "subsample": None}),
    ("rnn", {"hidden_size": 2, "output_size": 2, "use_projection": False}),
    ("vgg_rnn", {"hidden_size": 2, "output_size": 2, "num_layers": 1}),
]
MELS = 20


def lengths_of(module, frames: int) -> int:
    """Return how many frames ESPnet's module makes of ``frames``; 0 where it refuses them."""
    try:
        with torch.no_grad():
            return int(module(torch.zeros(1, frames, MELS), torch.tensor([frames]))[1][0])
    except TooShortUttError:
        return 0


@pytest.mark.parametrize(
    ("name", "conf"), CASES, ids=lambda x: x if isinstance(x, str) else str(x.get("input_layer"))
)
def test_encoders(name, conf):
    size = 4 if name == "transformer" and conf["input_layer"] is None else MELS
    own = {k: v for k, v in conf.items() if (name, k) != ("branchformer", "linear_units")}
    module = encoder_choices.get_class(name)(input_size=size, **own).eval()
    steps = steps_of_config({"encoder": name, "encoder_conf": conf})
    for frames in (*range(15, 60), 301):
        expected = frames
        for step in steps:
            expected = step.length(expected)
        x = torch.zeros(1, frames, size)
        with torch.no_grad():
            h, h_lengths, _ = module(x, torch.tensor([frames]))
        assert h.shape[1] == int(h_lengths[0]) == expected, frames


@pytest.mark.parametrize("layer", CONVOLUTIONS)
def test_what_the_layer_refuses_has_no_frames(layer):
    module = encoder_choices.get_class("e_branchformer")(MELS, **SMALL, input_layer=layer).eval()
    steps = steps_of_config({"encoder": "e_branchformer", "encoder_conf": {"input_layer": layer}})
    for frames in range(1, 20):
        expected = frames
        for step in steps:
            expected = step.length(expected)
        assert lengths_of(module, frames) == expected, frames


def test_length_adaptor():
    conf = {"length_adaptor_n_layers": 2}
    module = postencoder_choices.get_class("length_adaptor")(MELS, **conf)
    config = {
        "encoder": "transformer", "encoder_conf": {"input_layer": "linear"},
        "postencoder": "length_adaptor", "postencoder_conf": conf,
    }  # fmt: skip
    encoder = encoder_of_config(config)
    assert encoder.stride == 4
    for frames in range(4, 50):
        assert lengths_of(module, frames) == encoder.frames(128 * (frames - 1))


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"n_fft": 512, "hop_length": 160, "win_length": 400},
        {"fs": "8k", "n_fft": 255, "hop_length": 80},
        {"center": False, "hop_length": 100},
    ],
)
def test_frontends(conf):
    features = features_of_config({"frontend_conf": conf})
    frontend = DefaultFrontend(**{"fs": 16000, "n_mels": MELS, **conf})
    for samples in (*range(600, 1400, 7), 16000, 16159, 16160):
        _, lengths = frontend(torch.zeros(1, samples), torch.tensor([samples]))
        assert features.length(samples) == int(lengths[0]), samples


def test_rates_and_shifts():
    assert [rate_hz(x) for x in (None, {}, {"fs": "16k"}, {"fs": 8000})] == [16e3, 16e3, 16e3, 8e3]
    config = {"encoder": "conformer", "frontend_conf": {"fs": "8k", "hop_length": 80}}
    assert encoder_of_config(config).shift_s == pytest.approx(0.04)
    assert encoder_of_config(config).frames(8000) == 24


@pytest.mark.parametrize(
    "config",
    [
        {"encoder": "whisper"},
        {"encoder": "conformer", "frontend": "s3prl"},
        {"encoder": "conformer", "preencoder": "sinc"},
        {"encoder": "conformer", "encoder_conf": {"input_layer": "unheard"}},
        {"encoder": "conformer", "encoder_conf": {"ctc_trim": True}},
        {"encoder": "conformer", "postencoder": "hugging_face_transformers"},
    ],
)
def test_unknown_lengths_are_not_guessed(config):
    assert encoder_of_config(config) is None


RAW = {"encoder": "torchaudiohubert", "frontend": None, "input_size": 1}
RAW_CONF = {
    "encoder_embed_dim": 8, "encoder_num_layers": 1, "encoder_num_heads": 1, "finetuning": True,
    "encoder_ff_interm_features": 8, "encoder_pos_conv_kernel": 3, "encoder_pos_conv_groups": 1,
    "num_classes": 1, "final_dim": 1,
}  # fmt: skip


@pytest.mark.parametrize("layers", [None, [[4, 10, 5], [4, 8, 8], [4, 4, 8]]])
def test_encoders_of_samples(layers):
    conf = {**RAW_CONF, **({"extractor_conv_layer_config": layers} if layers else {})}
    encoder = encoder_of_config({**RAW, "encoder_conf": conf})
    assert encoder.shift_s == 0.02 and encoder.features.rate == 16000
    # Frame 0 sees the first 400 samples of the usual convolutions.
    assert layers or encoder.first_centre_s == pytest.approx(399 / 2 / 16000)
    stock = encoder_choices.get_class("torchaudiohubert")(**conf).eval()
    first = next(n for n in range(1, 500) if encoder.frames(n) == 1)
    assert layers or first == 400
    for samples in (first, first + 319, first + 320, first + 321, 12000, 16000):
        with torch.no_grad():
            h, lengths, _ = stock(torch.zeros(1, samples), torch.tensor([samples]))
        assert h.shape[1] == int(lengths[0]) == encoder.frames(samples), samples
    # One sample less has no frame: the convolution refuses it.
    assert encoder.frames(first - 1) == 0
    with pytest.raises(RuntimeError), torch.no_grad():
        stock(torch.zeros(1, first - 1), torch.tensor([first - 1]))
    assert encoder_of_config({**RAW, "input_size": None}) is None
