# SPDX-License-Identifier: Apache-2.0
"""Half precision: what is told of a batch, ties, and the same path by CPU autocast in bfloat16."""

import copy

import pytest
import torch
from small_unsup import small_unsup

from espnet_ext.bl_just.model import best_paths
from espnet_ext.bl_just.unsup import UNSUP_LOSSES
from espnet_ext.bl_just.unsup_base import best_share
from espnet_ext.espnet import train
from espnet_ext.weak_align.loss import frame_accuracy

F, D, FRAMES = 6, 8, 160


def encoder(x, lengths):
    h = x[:, : x.shape[1] // 4 * 4].unflatten(1, (-1, 4)).flatten(2)[..., :D]
    return h.tanh() @ torch.eye(D, dtype=h.dtype), lengths // 4


def collapsed(x, lengths):
    h, h_lengths = encoder(x, lengths)
    return torch.ones_like(h), h_lengths


def test_a_tie_is_no_hit():
    logits = torch.zeros(1, 3, 4, dtype=torch.bfloat16)
    assert frame_accuracy(logits, torch.tensor([[0, 1, 2]])) == pytest.approx(1 / 3)
    assert best_share(logits[0], torch.tensor([0, 1, 2])) == pytest.approx(1 / 3)
    # Two numbers that bfloat16 does not tell apart.
    near = torch.tensor([[[1.0, 1.001]]]).bfloat16()
    assert frame_accuracy(near, torch.tensor([[1]])) == 0


@pytest.mark.parametrize("name", UNSUP_LOSSES)
def test_an_encoder_of_one_vector_is_not_accurate(name):
    torch.manual_seed(0)
    loss = small_unsup(name, F, D)
    stats = loss(collapsed, torch.randn(3, FRAMES, F), torch.tensor([160, 150, 140]))[1]
    assert stats["queries"] > 20 and stats["acc"] < 0.3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", UNSUP_LOSSES)
def test_statistics_are_float32_in_one_order(name, dtype):
    """Half precision counts to 256; processes exchange statistics one after the other."""
    loss = small_unsup(name, F, D)
    x = torch.randn(2, FRAMES, F).to(dtype)
    g, told = loss(encoder, x, torch.tensor([FRAMES, FRAMES]))
    nothing = loss(encoder, x, torch.tensor([3, 2]))[1]
    assert list(told) == list(nothing) == [*loss.stat_names, "queries", "skipped"]
    assert {v.dtype for v in (*told.values(), *nothing.values())} == {torch.float32}
    assert g.dtype == torch.float32 and g.isfinite()
    assert nothing["skipped"] == 2 and nothing["acc"].isnan()


def test_best_paths_are_those_of_a_loop():
    torch.manual_seed(0)
    best, lengths = torch.randint(0, 3, (20, 9)), torch.randint(1, 10, (20,))
    text, counts = best_paths(best, lengths, blank=0, padding=-1)
    for row, n, out, count in zip(best, lengths, text, counts, strict=True):
        expected = [int(i) for i in torch.unique_consecutive(row[:n]) if i != 0]
        assert out[: int(count)].tolist() == expected
        assert (out[int(count) :] == -1).all()
    assert text.shape[1] == counts.max()


@pytest.fixture
def make(bl_argv):
    def build(*conf):
        from espnet_ext.bl_just.task import BLJustTask

        argv = [*bl_argv, "--output_dir", "unused", "--specaug", "none"]
        argv += [x for option in conf for x in ("--bl_just", option)]
        torch.manual_seed(0)
        return BLJustTask.build_model(train.parse(BLJustTask, argv)).train()

    return build


def batch(seed=0, count=3):
    draw = torch.Generator().manual_seed(seed)
    lengths = torch.arange(16000, 16000 - 1600 * count, -1600)
    speech = 0.1 * torch.randn(count, 16000, generator=draw)
    text = {"text": torch.randint(2, 5, (count, 4), generator=draw)}
    text["text_lengths"] = torch.full((count,), 4)
    streams = {"speech": speech, "speech_lengths": lengths, **text}
    return streams | {"u_speech": speech.clone(), "u_speech_lengths": lengths.clone()}


@pytest.mark.parametrize(
    ("kind", "conf"),
    [
        ("joint", "unsup_loss=cpc"),
        ("joint", "unsup_loss=best_rq"),
        ("joint", "unsup_loss=wav2vec2"),
        ("pseudo", "schedule=pseudo_label"),
    ],
)
def test_a_step_in_bfloat16(make, kind, conf):
    """Labelled and unlabelled features are alike, sums are float32, all gradients are finite."""
    model = make(conf, "wav2vec2={mask_length_s: 0.16}", "unsup_scale=frame_mean")
    seen = []
    hook = model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    step = {"kind": kind, "gamma": 0.3, "measure": kind == "joint"}
    # Of its own weights a model this young hears nothing: let it hear everything.
    model.ctc.ctc_lo.bias.data[2:5] += 5
    with torch.autocast("cpu", torch.bfloat16):
        out = model(**copy.deepcopy(batch()), step=step)
    hook.remove()
    out["loss"].backward()
    stats = out["stats"]
    assert {v.dtype for v in stats.values() if v is not None} <= {torch.float32, torch.bfloat16}
    assert stats["g"].dtype == stats["f"].dtype == out["loss"].dtype == torch.float32
    assert torch.allclose(stats["loss"], stats["f"] + 0.3 * stats["g"])
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    if kind == "joint":
        assert seen[-1] == torch.float32  # of unlabelled speech, as ESPnet has it on a GPU
    else:
        assert stats["pseudo_empty"].dtype == torch.float32  # processes average it


@pytest.mark.parametrize("loss", ["best_rq", "kmeans"])
def test_features_and_classes_are_those_of_float32(make, loss):
    """Of log energies bfloat16 keeps two digits: it would move a good part of the classes."""
    model = make(f"unsup_loss={loss}", "kmeans={codes: 16, mask_length_s: 0.16}").eval()
    speech, lengths = (batch()[k] for k in ("u_speech", "u_speech_lengths"))
    queries = torch.ones(3, 20, dtype=torch.bool)
    found = []
    for half in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            x, n = model._features(speech, lengths)
            if model.unsup.utterances_to_fit:
                model.unsup.fit([(x, n)])
            found.append((x, model.unsup.targets(x, n, queries)))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(*found, strict=True))
    assert found[0][0].dtype == torch.float32 and len(found[0][1].unique()) > 4
