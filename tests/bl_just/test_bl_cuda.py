# SPDX-License-Identifier: Apache-2.0
"""Steps of BL-JUST on a GPU that is none: devices, mixed precision, waits for the device."""

import pytest
import torch
from pretend_cuda import PretendCuda, cuda_autocast, to_cuda
from small_unsup import small_unsup

from espnet_ext.bl_just.unsup import UNSUP_LOSSES
from espnet_ext.espnet import train

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu has the real one")
MASKS = {"mask_length_s": 0.16}
OPTIONS = {"cpc": {"max_queries": 20}, "wav2vec2": MASKS, "best_rq": MASKS, "kmeans": MASKS}
PRECISIONS = [None, torch.float16, torch.bfloat16]


@pytest.fixture
def make(bl_argv):
    def build(*conf):
        from espnet_ext.bl_just.task import BLJustTask

        argv = [*bl_argv, "--output_dir", "unused"]
        conf = (*conf, "wav2vec2={mask_length_s: 0.16}")
        argv += [x for option in conf for x in ("--bl_just", option)]
        torch.manual_seed(0)
        model = BLJustTask.build_model(train.parse(BLJustTask, argv)).train()
        model.ctc.ctc_lo.bias.data[2:5] += 5  # else pseudo-labels of a model this young are empty
        return model

    return build


def batch(count):
    draw = torch.Generator().manual_seed(1)
    lengths = torch.arange(16000, 16000 - 800 * count, -800)
    speech = 0.1 * torch.randn(count, 16000, generator=draw)
    text = torch.randint(2, 5, (count, 4), generator=draw)
    sizes = torch.full((count,), 4)
    return {"speech": speech, "speech_lengths": lengths, "text": text, "text_lengths": sizes}


def run(model, kind, dtype, unlabelled=2):
    """One forward pass; returns what the model returned and the mode."""
    data = {} if kind == "explore" else batch(2)
    if kind not in ("label", "final"):
        other = batch(unlabelled)
        data |= {"u_speech": other["speech"], "u_speech_lengths": other["speech_lengths"]}
    info = {"kind": kind, "gamma": 0.3, "measure": False}
    with PretendCuda() as mode, cuda_autocast(dtype):
        on_device = {k: v.to("cuda") for k, v in data.items()}
        torch.manual_seed(2)
        return to_cuda(model)(**on_device, step=info), mode


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(
    ("kind", "conf"),
    [
        ("joint", "unsup_loss=cpc"), ("joint", "unsup_loss=wav2vec2"), ("label", ""),
        ("joint", "unsup_loss=best_rq"), ("explore", "unsup_loss=best_rq"),
        ("pseudo", "schedule=pseudo_label"),
    ],
)  # fmt: skip
def test_a_step_stays_on_its_device(make, kind, conf, dtype):
    out, mode = run(make(*filter(None, [conf])), kind, dtype)
    told = [v for v in (out["loss"], out["weight"], *out["stats"].values()) if v is not None]
    with mode:
        assert all(v.is_cuda for v in told)
        assert out["loss"].dtype == torch.float32 and bool(out["loss"].isfinite().all())


def test_pseudo_labels_do_not_wait_for_each_utterance(make):
    model = make("schedule=pseudo_label")
    few, many = (run(model, "pseudo", torch.bfloat16, n)[1].waits for n in (2, 9))
    assert few["bl_just/model.py"] == many["bl_just/model.py"] < 10


@pytest.mark.parametrize("name", UNSUP_LOSSES)
def test_a_loss_waits_as_often_for_many_utterances_as_for_few(name):
    loss = small_unsup(name, 6, 8, **OPTIONS[name])

    def encoder(x, lengths):
        h = x[:, : x.shape[1] // 4 * 4].unflatten(1, (-1, 4)).flatten(2)[..., :8]
        return h.tanh(), lengths // 4

    waits = []
    for count in (2, 20):
        with PretendCuda() as mode:
            on_device, x = to_cuda(loss), torch.randn(count, 160, 6).to("cuda")
            lengths = torch.arange(160, 160 - count, -1).to("cuda")
            on_device(encoder, x, lengths)  # the first call checks the encoder
            mode.waits.clear()
            g, told = on_device(encoder, x, lengths)
            ours = {k: n for k, n in mode.waits.items() if k.startswith("bl_just/")}
            assert g.is_cuda and all(v.is_cuda for v in told.values())
        waits.append(ours)
    assert waits[0] == waits[1] and sum(waits[0].values()) <= 20


def test_features_of_unlabelled_speech_have_the_precision_of_labelled(make):
    model, seen = make("unsup_loss=best_rq"), []

    def note(_, inputs):
        seen.append(inputs[0].dtype)

    model.encoder.register_forward_pre_hook(note)
    run(model, "joint", torch.bfloat16)
    assert set(seen) == {torch.float32} and len(seen) == 2
