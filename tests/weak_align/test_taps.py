# SPDX-License-Identifier: Apache-2.0
"""Time geometry and taps against ESPnet's own encoders."""

import types

import pytest
import torch

from espnet_ext.errors import UsageError
from espnet_ext.espnet import fastimport

fastimport.enable()

from espnet2.asr.encoder.branchformer_encoder import BranchformerEncoder  # noqa: E402
from espnet2.asr.encoder.conformer_encoder import ConformerEncoder  # noqa: E402
from espnet2.asr.encoder.e_branchformer_encoder import EBranchformerEncoder  # noqa: E402
from espnet2.asr.encoder.rnn_encoder import RNNEncoder  # noqa: E402
from espnet2.asr.encoder.transformer_encoder import TransformerEncoder  # noqa: E402
from espnet2.asr.encoder.vgg_rnn_encoder import VGGRNNEncoder  # noqa: E402
from espnet2.asr.frontend.default import DefaultFrontend  # noqa: E402

from espnet_ext.weak_align.geometry import feature_grid, features_of  # noqa: E402
from espnet_ext.weak_align.labels import FrameGrid, resample  # noqa: E402
from espnet_ext.weak_align.taps import TAPS, find_tap, record  # noqa: E402

ATTENTION = dict(output_size=8, attention_heads=2, num_blocks=3)
PAPER = dict(num_layers=6, hidden_size=5, output_size=7, subsample=[3, 2, 1, 1, 1, 1])


def make(kind, input_layer="conv2d"):
    """An encoder of 24 features behind a namespace that stands for the model."""
    torch.manual_seed(0)
    if kind == "rnn":
        encoder = RNNEncoder(24, **PAPER)
    elif kind == "vgg_rnn":
        encoder = VGGRNNEncoder(24, num_layers=2, hidden_size=5, output_size=7)
    else:
        classes = {
            "conformer": ConformerEncoder,
            "transformer": TransformerEncoder,
            "branchformer": BranchformerEncoder,
            "e_branchformer": EBranchformerEncoder,
        }
        own = {"linear_units": 8} if kind != "branchformer" else {}
        own |= {"cgmlp_linear_units": 8} if "branchformer" in kind else {}
        encoder = classes[kind](24, input_layer=input_layer, **ATTENTION, **own)
    return types.SimpleNamespace(encoder=encoder.eval())


KINDS = [
    *((k, "conv2d") for k in ("conformer", "transformer", "branchformer", "e_branchformer")),
    *(("conformer", f"conv2d{n}") for n in (1, 2, 6, 8)),
    ("conformer", "linear"), ("rnn", ""), ("vgg_rnn", ""),
]  # fmt: skip
LENGTHS = torch.tensor([61, 60, 59, 50, 49, 48, 47, 33])


@pytest.mark.parametrize(("kind", "input_layer"), KINDS)
@pytest.mark.parametrize("place", TAPS)
def test_every_layer_is_tapped_with_the_lengths_of_its_geometry(kind, input_layer, place):
    model = make(kind, input_layer)
    layers = {"rnn": 6, "vgg_rnn": 2}.get(kind, 3)
    taps = {str(n): find_tap(model, n, place) for n in range(1, layers + 1)}
    taps["output"] = find_tap(model, "output")
    x = torch.randn(len(LENGTHS), int(LENGTHS.max()), 24)
    with record(taps, model.encoder) as seen:
        out, out_lengths, _ = model.encoder(x, LENGTHS)
    assert list(seen) == list(taps)
    for name, (h, lengths) in seen.items():
        geometry = taps[name].geometry
        assert lengths.tolist() == [geometry.length(n) for n in LENGTHS.tolist()]
        assert h.shape[0] == len(LENGTHS) and h.shape[1] >= int(lengths.max())
        assert h.shape[2] == taps[name].width
    torch.testing.assert_close(seen["output"][0], out)
    assert seen["output"][1].tolist() == list(out_lengths)
    assert not any(m._forward_hooks for m in model.encoder.modules())


@pytest.mark.parametrize(("kind", "input_layer"), KINDS)
def test_frame_centres_are_in_the_middle_of_what_the_network_sees(kind, input_layer):
    """The inputs that reach encoder frame j lie symmetrically around ``offset + j stride``."""
    model = make(kind, input_layer)
    part = getattr(model.encoder, "embed", None)
    if kind == "rnn":  # skips frames: no neighbours to see
        assert [find_tap(model, n).geometry.stride for n in (1, 2, 3)] == [1, 3, 6]
        assert find_tap(model, 3).geometry.offset == 0
        return
    if kind == "vgg_rnn":
        part = model.encoder.enc[0]
    geometry = find_tap(model, 1).geometry
    x = (1 + torch.rand(1, 61, 24)).requires_grad_()
    for p in part.parameters():
        torch.nn.init.constant_(p, 0.1)
    if kind == "vgg_rnn":
        y = part(x, [61])[0]
    elif input_layer == "linear":
        y = part[0](x)
    else:
        y = part.conv(x.unsqueeze(1)).transpose(1, 2).flatten(2)
    j = y.shape[1] // 2
    y[:, j].sum().backward()
    seen = x.grad.abs().sum((0, 2)).nonzero().flatten().tolist()
    assert (seen[0] + seen[-1]) / 2 == pytest.approx(geometry.offset + j * geometry.stride, abs=2.6
                                                     if kind == "vgg_rnn" else 0)  # fmt: skip


def test_labels_in_the_loudness_are_recovered_through_frontend_and_conv2d():
    """Audio whose level is the label; convolutions that pass the middle of what they see."""
    labels = torch.randint(0, 8, (1, 101), generator=torch.Generator().manual_seed(1))
    level = torch.exp(labels.double() - 4).repeat_interleave(160, 1)
    # Label frame t is centred at sample 160 t, as an STFT frame is.
    tone = torch.sin(torch.arange(level.shape[1]) * 0.7)
    speech = (level * tone)[:, 80:].float()
    frontend = DefaultFrontend(fs=16000, n_fft=64, hop_length=160, n_mels=20)
    features, lengths = frontend(speech, torch.tensor([speech.shape[1]]))
    encoder = ConformerEncoder(20, output_size=4, attention_heads=2, num_blocks=1).eval()
    for conv in (encoder.embed.conv[0], encoder.embed.conv[2]):
        torch.nn.init.zeros_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
        conv.weight.data[0, 0, 1, 1] = 1.0
    passed = encoder.embed.conv((features + 50).unsqueeze(1))[0, 0].detach()  # (T_l, mels)
    heard = features[0].detach()
    tap = find_tap(types.SimpleNamespace(encoder=encoder), 1)
    grid = tap.geometry.grid(feature_grid(features_of(frontend, 16000)))
    n = tap.geometry.length(int(lengths[0]))
    assert n == len(passed)
    label_grid = FrameGrid(0.01, 0.0)
    want = resample(labels, torch.tensor([101]), n, torch.tensor([n]), label_grid, grid).labels
    # Of the 20 mels conv2d keeps those with numbers 4 m + 3.
    kept = heard[:101, 3::4][:, : passed.shape[1]]
    of_frame = labels[0, : len(kept)]
    table = torch.stack([kept[of_frame == k].mean(0) for k in range(8)])
    got = ((passed - 50).unsqueeze(1) - table).square().sum(-1).argmin(1)
    assert torch.equal(got, want[0])
    late = FrameGrid(grid.shift_s, grid.centre_s + grid.shift_s)
    shifted = resample(labels, torch.tensor([101]), n, torch.tensor([n]), label_grid, late).labels
    assert (got != shifted[0]).float().mean() > 0.5


@pytest.mark.parametrize("centre", [True, False])
def test_feature_lengths_are_those_of_the_frontend(centre):
    frontend = DefaultFrontend(fs=16000, n_fft=512, hop_length=128, n_mels=8, center=centre)
    samples = torch.tensor([9000, 8064, 8000])
    _, lengths = frontend(torch.randn(3, 9000), samples)
    features = features_of(frontend, 16000)
    assert [features.length(n) for n in samples.tolist()] == lengths.tolist()
    assert feature_grid(features) == FrameGrid(0.008, 0.0 if centre else 0.016)


def test_layers_that_are_not_there_are_named():
    model = make("conformer")
    with pytest.raises(UsageError, match="layers 1 to 3"):
        find_tap(model, 4)
    with pytest.raises(UsageError, match="layers 1 to 3"):
        find_tap(model, 0)
    plain = types.SimpleNamespace(encoder=RNNEncoder(24, use_projection=False))
    with pytest.raises(UsageError, match="use_projection: true"):
        find_tap(plain, 1)
    with pytest.raises(UsageError, match="Linear are not known"):
        find_tap(types.SimpleNamespace(encoder=torch.nn.Linear(1, 1)), 1)


@pytest.mark.parametrize("kind", ["branchformer", "e_branchformer"])
def test_a_layer_dropped_at_random_leaves_the_one_below(kind):
    model = make(kind)
    holder = model.encoder.encoders if kind == "branchformer" else model.encoder
    holder.layer_drop_rate = 0.7
    model.encoder.train()
    tap, ran = find_tap(model, 2), []
    for i, layer in enumerate(model.encoder.encoders):
        layer.register_forward_hook(lambda m, x, out, i=i: ran.append((i, out[0])))
    for _ in range(20):
        ran.clear()
        with record({"x": tap}, model.encoder) as seen:
            model.encoder(torch.randn(1, 61, 24), torch.tensor([61]))
        below = [x[0] if isinstance(x, tuple) else x for i, x in ran if i < 2]
        assert ("x" in seen) == bool(below)
        assert not below or seen["x"][0] is below[-1]
