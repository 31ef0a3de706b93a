# SPDX-License-Identifier: Apache-2.0
"""Frozen layers do not change, checkpointing only saves memory, convolutions learn if asked."""

import copy

import pytest
import tiny_speech_encoder as tiny
import torch

from espnet_ext.dual_task import hf_encoder
from espnet_ext.dual_task.tuning import tune
from espnet_ext.errors import UsageError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import quiet_import

fastimport.enable()
with quiet_import():
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder
    from espnet2.asr.encoder.rnn_encoder import RNNEncoder

FRAMES = torch.tensor([60, 45])
SAMPLES = torch.tensor([4000, 3000])


def conformer(dropout=0.1):
    torch.manual_seed(2)
    rates = {f"{x}dropout_rate": dropout for x in ("", "positional_", "attention_")}
    return ConformerEncoder(
        20, output_size=16, attention_heads=2, linear_units=16, num_blocks=3,
        input_layer="conv2d2", cnn_module_kernel=3, macaron_style=True, **rates,
    )  # fmt: skip


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning") / "encoder"
    tiny.write(folder)
    return hf_encoder.describe(folder), hf_encoder.convert(folder)


@pytest.fixture(params=["conformer", "raw"])
def case(request, converted):
    """Make a new encoder, and its input."""
    torch.manual_seed(3)
    if request.param == "conformer":
        return conformer, (torch.randn(2, 60, 20), FRAMES)
    return lambda: tiny.espnet_encoder(*converted), (torch.randn(2, 4000), SAMPLES)


def step(encoder, given, seed=5):
    """Return output, gradients by name and buffers of one training step."""
    torch.manual_seed(seed)
    encoder.train().zero_grad()
    out, lengths, _ = encoder(*(x.clone() for x in given))
    keep = torch.arange(out.shape[1]) < lengths[:, None]
    (out[keep].pow(2) * torch.linspace(0, 1, out.shape[-1])).sum().backward()
    grads = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
    return out.detach(), grads, {n: b.clone() for n, b in encoder.named_buffers()}


def test_frozen_layers_stand_still(case):
    make, given = case
    encoder = make()
    before = copy.deepcopy(encoder.state_dict())
    tune(encoder, freeze_layers=1)
    assert encoder.state_dict().keys() == before.keys()
    hidden = []
    blocks = (encoder.encoders if hasattr(encoder, "encoders")
              else encoder.hubert_pretrain_model.wav2vec2.encoder.transformer.layers)  # fmt: skip
    blocks[0].register_forward_hook(lambda m, i, out: hidden.append(out[0]))
    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    for seed in (1, 2):  # other dropout
        step(encoder, given, seed)
        optimiser.step()
    first, second = (h[0] if isinstance(h, tuple) else h for h in hidden)
    assert torch.equal(first, second) and not first.requires_grad
    after = encoder.state_dict()
    low = {k for k in before if "encoders.0." in k or "layers.0." in k or "embed." in k}
    assert low and all(torch.equal(before[k], after[k]) for k in low)
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert any("encoders.1." in k or "transformer.layers.1." in k for k in moved)
    if hasattr(encoder, "encoders"):
        assert "encoders.1.conv_module.norm.running_mean" in moved


@pytest.mark.parametrize("frozen", [0, 1])
def test_checkpointing_changes_nothing(case, frozen):
    make, given = case
    plain, checked = make(), make()
    tune(plain, freeze_layers=frozen)
    tune(checked, freeze_layers=frozen, gradient_checkpointing=True)
    for (out, grads, buffers), (out2, grads2, buffers2) in zip(
        *([step(e, given, seed) for seed in (1, 2)] for e in (plain, checked)), strict=True
    ):
        torch.testing.assert_close(out2, out, rtol=0, atol=1e-6)
        assert grads2.keys() == grads.keys()
        for name, grad in grads.items():
            torch.testing.assert_close(grads2[name], grad, rtol=1e-5, atol=1e-6)
        # Statistics of batch normalisation: the batch counts once.
        assert all(torch.equal(buffers2[k], v) for k, v in buffers.items())
    # It does compute the blocks again.
    calls = []
    hub = getattr(checked, "hubert_pretrain_model", None)
    inner = (checked.encoders[-1].feed_forward if hub is None
             else hub.wav2vec2.encoder.transformer.layers[-1].feed_forward)  # fmt: skip
    inner.register_forward_pre_hook(lambda *_: calls.append(1))
    step(checked, given)
    assert len(calls) == 2


def test_convolutions_learn_only_if_asked(converted):
    given = (torch.randn(2, 4000), SAMPLES)
    stock = tiny.espnet_encoder(*converted)
    still, learning = (tiny.espnet_encoder(*converted) for _ in range(2))
    tune(still)
    tune(learning, train_cnn=True)
    out, grads, _ = step(stock, given)
    out2, grads2, buffers2 = step(still, given)
    _, grads3, _ = step(learning, given)
    assert torch.equal(out, out2) and all(torch.equal(grads[k], v) for k, v in grads2.items())
    cnn = {n for n, _ in learning.named_parameters() if "feature_extractor" in n}
    assert cnn and not cnn & grads2.keys() and cnn < grads3.keys()
    assert all(grads3[n].abs().max() > 0 for n in cnn)
    # All that is trained has a gradient, so several processes need not search for unused parts.
    for encoder, found in ((still, grads2), (learning, grads3)):
        assert {n for n, p in encoder.named_parameters() if p.requires_grad} == found.keys()
    # ESPnet counts steps in a buffer, which an average over checkpoints would sum up.
    assert buffers2["global_step"].item() == 0
    with torch.no_grad():
        assert torch.equal(still.eval()(*given)[0], stock.eval()(*given)[0])


def test_an_average_of_checkpoints_has_the_buffer_of_one(converted, tmp_path):
    from espnet2.main_funcs.average_nbest_models import average_nbest_models
    from espnet2.train.reporter import Reporter

    encoder, reporter = tiny.espnet_encoder(*converted), Reporter()
    tune(encoder)
    for epoch in (1, 2, 3):
        with reporter.observe("valid", epoch) as sub:
            sub.register({"loss": torch.tensor(float(epoch))}, torch.tensor(1.0))
            sub.next()
        step(encoder, (torch.randn(2, 4000), SAMPLES))
        torch.save(encoder.state_dict(), tmp_path / f"{epoch}epoch.pth")
    average_nbest_models(tmp_path, reporter, [("valid", "loss", "min")], 3)
    average = torch.load(tmp_path / "valid.loss.ave_3best.pth", weights_only=True)
    assert average["global_step"].item() == 0
    for name, value in encoder.state_dict().items():  # no step was taken
        torch.testing.assert_close(average[name], value, rtol=0, atol=1e-6)


def test_bf16_trains_in_float32_at_both_ends(case):
    make, given = case
    plain, half = (tiny.without_dropout(make()) for _ in range(2))
    tune(plain)
    tune(half, bf16=True)
    out, grads, _ = step(plain, given)
    out2, grads2, _ = step(half, given)
    assert out2.dtype == torch.float32 and not torch.equal(out, out2)
    torch.testing.assert_close(out2, out, rtol=0.1, atol=0.15)
    assert grads2.keys() == grads.keys()
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in grads2.values())
    with torch.no_grad():  # evaluation is that of stock inference
        stock = make()
        stock.load_state_dict(half.state_dict())
        assert torch.equal(half.eval()(*given)[0], stock.eval()(*given)[0])


def test_what_an_encoder_lacks_is_told():
    with pytest.raises(UsageError, match="the encoder has 3 blocks"):
        tune(conformer(), freeze_layers=4)
    with pytest.raises(UsageError, match="no convolutions on samples"):
        tune(conformer(), train_cnn=True)
    with pytest.raises(UsageError, match="has no blocks"):
        tune(RNNEncoder(20, hidden_size=4, output_size=4, num_layers=1), freeze_layers=1)
