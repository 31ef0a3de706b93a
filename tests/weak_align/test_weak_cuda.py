# SPDX-License-Identifier: Apache-2.0
"""Auxiliary losses on a GPU that is none; and layers that one process of several has dropped."""

import copy
import math

import pytest
import torch
from pretend_cuda import PretendCuda, cuda_autocast, to_cuda
from torch._subclasses import FakeTensorMode

from espnet_ext.espnet import train
from espnet_ext.weak_align.loss import frame_accuracy, smoothed_ce

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu has the real one")
B = 3


@pytest.fixture
def build(align_argv, tmp_path):
    def built(*aux):
        from espnet_ext.weak_align.task import WeakAlignTask

        argv = [*align_argv, "--output_dir", str(tmp_path / "exp")]
        argv += [x for option in aux for x in ("--aux", option)]
        args = train.parse(WeakAlignTask, argv)
        torch.manual_seed(args.seed)
        return WeakAlignTask.build_model(args).train()

    return built


def batch():
    draw = torch.Generator().manual_seed(0)
    lengths = torch.tensor([12000, 9000, 8000])
    out = {
        "speech": 0.1 * torch.randn(B, 12000, generator=draw), "speech_lengths": lengths,
        "text": torch.randint(2, 5, (B, 4), generator=draw), "text_lengths": torch.full((B,), 4),
    }  # fmt: skip
    for name, high in (("align", 7), ("align_phone", 5), ("align_bpe", 7)):
        out[name] = torch.randint(0, high, (B, 75), generator=draw)
        out[f"{name}_lengths"] = lengths // 160
    return out


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "aux",
    [
        ("preset=weak_tri",), ("preset=both", "label_rule=soft"), ("preset=tri_ctc",),
        ("preset=weak_tri", "silence=mask", "label_rule=majority", "normalise=match_attention"),
        ("preset=weak_tri", "label_source=shuffled"),
    ],
)  # fmt: skip
def test_a_step_stays_on_its_device(build, aux, dtype):
    model = build(*aux)
    with PretendCuda() as mode, cuda_autocast(dtype):
        on_device = to_cuda(model)
        data = {k: v.to("cuda") for k, v in batch().items()}
        on_device(**copy.copy(data))  # the first batch is checked
        mode.waits.clear()
        loss, stats, weight = on_device(**data)
        assert all(v.is_cuda for v in (loss, weight, *stats.values()) if v is not None)
        assert loss.dtype == torch.float32 and bool(loss.isfinite().all())
        ours = sum(n for k, n in mode.waits.items() if k.startswith("weak_align/"))
    # A batch's longest sequence of labels, the longest shuffled utterance, torch's CTC for both
    # kinds of lengths: not one per utterance.
    assert ours <= 4


@pytest.mark.parametrize("form", ["uniform_all", "uniform_other"])
def test_the_loss_under_fake_tensors(form):
    with FakeTensorMode():
        logits = torch.randn(2, 5, 7, device="cuda", dtype=torch.bfloat16)
        labels = torch.randint(0, 7, (2, 5), device="cuda")
        tokens = torch.tensor([3, 2], device="cuda")
        value = smoothed_ce(logits, labels, 0.5, form, None, "match_attention", tokens)
        assert value.is_cuda and value.dtype == torch.float32
        assert frame_accuracy(logits, labels, labels[0, :2]).is_cuda


def test_a_dropped_layer_tells_the_same_statistics(build, monkeypatch):
    """Another process may have it: they exchange statistics one after the other, by order."""
    from espnet_ext.weak_align import model as module

    model = build("preset=both")
    _, whole, _ = model(**batch())
    plain = module.record

    def nothing_seen(taps, encoder):
        return plain({}, encoder)

    monkeypatch.setattr(module, "record", nothing_seen)
    loss, without, _ = model(**batch())
    assert list(whole) == list(without)
    told = [k for k in whole if "_aux_" in k]
    assert told and all(math.isnan(without[k]) and without[k].dtype == whole[k].dtype for k in told)
    loss.backward()
    assert all(p.grad is not None for p in model.aux_heads.parameters())
