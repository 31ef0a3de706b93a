# SPDX-License-Identifier: Apache-2.0
"""The model next to the stock one: same updates, same decoding, gradients where they belong."""

import copy

import numpy as np
import pytest
import torch

from espnet_ext.espnet import fastimport, train

fastimport.enable()

from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402

from espnet_ext.espnet.task import ASRTask  # noqa: E402
from espnet_ext.weak_align.loss import smoothed_ce  # noqa: E402
from espnet_ext.weak_align.task import WeakAlignTask  # noqa: E402

B, CLASSES = 3, 7


@pytest.fixture
def build(align_argv, tmp_path):
    """A function from ``aux`` options to (model, args), seeded as a training is."""

    def built(*aux, task=WeakAlignTask, more=()):
        argv = list(align_argv)
        for key in ("--encoder_conf", "--decoder_conf") if "rnn" in more else ():
            while key in argv:
                at = argv.index(key)
                del argv[at : at + 2]
        argv += [*more, "--output_dir", str(tmp_path / "exp")]
        for option in aux:
            argv += ["--aux", option]
        if task is ASRTask:
            pairs = zip(argv, [*argv[1:], ""], strict=True)
            argv = [x for x, y in pairs if ",align" not in x + y]
        args = train.parse(task, argv)
        torch.manual_seed(args.seed)
        return task.build_model(args), args

    return built


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    lengths = torch.tensor([12000, 9000, 8000])
    frames = lengths // 160
    out = {
        "speech": torch.tensor(0.1 * rng.standard_normal((B, 12000)), dtype=torch.float),
        "speech_lengths": lengths,
        "text": torch.tensor(rng.integers(2, 5, (B, 4))),
        "text_lengths": torch.full((B,), 4),
    }
    for name, high in (("align", CLASSES), ("align_phone", 5), ("align_bpe", 7)):
        out[name] = torch.tensor(rng.integers(0, high, (B, 75)))
        out[f"{name}_lengths"] = frames.clone()
    return out


def step(model, batch, seed=0, **change):
    """One forward and backward in training; returns loss, stats, gradients by name."""
    torch.manual_seed(seed)
    model.train()
    model.zero_grad()
    loss, stats, _ = model(**{**copy.deepcopy(batch), **change})
    loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters()}
    return loss.detach(), stats, grads


def test_weight_zero_is_the_baseline_to_the_bit(build, batch):
    stock, _ = build(task=ASRTask)
    ours, _ = build("weight=0")
    plain = {k: v for k, v in batch.items() if "align" not in k}
    for seed in range(3):
        updates = []
        for model, data in ((stock, plain), (ours, batch)):
            optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
            loss, stats, _ = step(model, data, seed)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            updates.append((loss, torch.rand(1)))
        assert torch.equal(updates[0][0], updates[1][0])
        assert torch.equal(updates[0][1], updates[1][1])  # random numbers are aligned
    states = ours.state_dict()
    assert all(torch.equal(v, states[k]) for k, v in stock.state_dict().items())
    assert "loss_aux_tri" in stats and "aux_heads.tri.0.weight" in states
    # DDP would wait for gradients that never come.
    assert not any(p.requires_grad for p in ours.aux_heads.parameters())


def test_the_head_does_not_change_the_initialisation(build):
    stock, _ = build(task=ASRTask)
    after = torch.rand(4)
    for aux in (("preset=both", "head_layers=3"), ("layer=1",)):
        states = build(*aux)[0].state_dict()
        assert torch.equal(torch.rand(4), after)  # nor any random number that follows
        assert all(torch.equal(v, states[k]) for k, v in stock.state_dict().items())


def test_the_loss_is_the_sum_and_everything_is_logged(build, batch):
    model, _ = build("preset=both", "weight=0.3")
    loss, stats, _ = step(model, batch)
    total = 0.5 * stats["loss_ctc"] + 0.5 * stats["loss_att"]
    total = total + 0.3 * (stats["loss_aux_tri"] + stats["loss_aux_bpe"])
    torch.testing.assert_close(loss, total)
    torch.testing.assert_close(stats["loss"], loss)
    assert {"acc_aux_tri", "acc_speech_aux_tri", "acc_aux_bpe"} <= stats.keys()


def test_the_loss_is_that_of_the_labels_at_4j_plus_3(build, batch):
    """Against the layer's output taken by hand and the index rule of conv2d."""
    model, _ = build("layer=3", "weight=1")
    model.eval()
    held = []
    model.encoder.encoders[2].register_forward_hook(lambda m, i, out: held.append(out))
    _, stats, _ = model(**copy.deepcopy(batch))
    (h, _), mask = held[0]
    labels = torch.full(h.shape[:2], -1)
    for b in range(B):
        n, t = int(mask[b].sum()), int(batch["align_lengths"][b])
        for j in range(n):
            labels[b, j] = batch["align"][b, min(4 * j + 3, t - 1)]
    want = smoothed_ce(model.aux_heads["tri"](h), labels, 0.5)
    torch.testing.assert_close(stats["loss_aux_tri"][0], want.detach())


def test_only_layers_up_to_the_tap_learn_from_the_branch(build, batch):
    model, _ = build("layer=2", "weight=1")
    _, _, primary = step(build("weight=0")[0], batch)
    _, _, both = step(model, batch)
    moved = {n for n, g in both.items() if primary.get(n) is not None
             and not torch.equal(g, primary[n])}  # fmt: skip
    assert any(n.startswith("encoder.encoders.1.") for n in moved)
    assert any(n.startswith("encoder.embed.") for n in moved)
    above = ("encoder.encoders.2", "encoder.encoders.3", "encoder.after", "decoder", "ctc")
    assert not [n for n in moved if n.startswith(above)]


def test_decoder_smoothing_is_another_setting(build):
    model, _ = build("smoothing=0.7", more=["--model_conf", "lsm_weight=0.1"])
    assert model.criterion_att.smoothing == 0.1
    assert model.aux_conf.losses[0].smoothing == 0.7


def test_no_labels_no_auxiliary_loss(build, batch):
    model, _ = build("weight=1")
    baseline, _, want = step(build("weight=0")[0], batch)
    loss, stats, got = step(model, batch, align=torch.full_like(batch["align"], -1))
    assert torch.equal(loss, baseline) and stats["loss_aux_tri"] == 0
    assert all(torch.equal(g, want[n]) for n, g in got.items() if not n.startswith("aux_"))
    assert not got["aux_heads.tri.0.weight"].any()
    one = batch["align"].clone()
    one[0] = -1  # an utterance without alignment next to others
    _, stats, _ = step(model, batch, align=one)
    assert stats["loss_aux_tri"].isfinite() and stats["loss_aux_tri"] > 0


def test_padding_between_batch_mates_changes_no_label(build, batch):
    """The losses of single utterances, weighted by frames, are the loss of the batch."""
    model, _ = build("normalise=utterance_sum")
    model.eval()
    total = model(**copy.deepcopy(batch))[1]["loss_aux_tri"]
    alone = 0
    for b in range(B):
        one = {k: v[b : b + 1] for k, v in copy.deepcopy(batch).items()}
        for key in ("speech", "align", "align_phone", "align_bpe"):
            one[key] = one[key][:, : one[f"{key}_lengths"][0]]
        alone += model(**one)[1]["loss_aux_tri"]
    torch.testing.assert_close(total, alone / B, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("period", "tri"), [(1, [0, 2, 4, 6, 8]), (3, [0, 1, 2, 6, 7, 8])])
def test_alternation_computes_one_loss_an_update(build, batch, period, tri):
    model, _ = build("preset=alternating", f"alternation.period={period}")
    seen = {"tri": [], "bpe": []}
    for name, head in model.aux_heads.items():
        head.register_forward_hook(lambda m, i, o, n=name: seen[n].append(update))
    for update in range(10):
        model.training_progress = (1, update)
        _, stats, grads = step(model, batch)
        names = [k for k in stats if k.startswith("loss_aux")]
        assert names == ["loss_aux_tri" if update in tri else "loss_aux_bpe"]
        # Both heads have gradients, the idle one zeros: DDP waits for none.
        assert all(g is not None for n, g in grads.items() if n.startswith("aux_"))
    assert seen["tri"] == tri and sorted(seen["bpe"] + tri) == list(range(10))
    model.eval()
    assert {"loss_aux_tri", "loss_aux_bpe"} <= model(**copy.deepcopy(batch))[1].keys()


@pytest.mark.parametrize("aux", [
    ["preset=tri_ctc"], ["preset=tri_ctc", "ctc_sequence=frames"], ["unit=phone"],
    ["preset=bpe_ce_ctx"], ["label_rule=soft", "silence=mask"], ["label_rule=majority"],
    ["smoothing_form=uniform_other", "label_rule=soft"], ["normalise=match_attention"],
    ["head_layers=2", "head_norm=true"], ["preset=bpe_ce", "bpe_collision=majority"],
    ["preset=bpe_ce_no_ctc", "layer=2"],
])  # fmt: skip
def test_every_option_trains_the_encoder(build, batch, aux):
    model, _ = build(*aux)
    slow = batch["align"][:, :10].repeat_interleave(8, 1)[:, :75]  # sequences that fit in CTC
    loss, stats, grads = step(model, batch, align=slow)
    name = model.aux_conf.losses[0].name
    assert loss.isfinite() and stats[f"loss_aux_{name}"] > 0
    assert all(g.abs().sum() > 0 for n, g in grads.items() if n == f"aux_heads.{name}.0.weight")
    _, _, plain = step(build("preset=baseline")[0], batch)
    first = "encoder.encoders.0.feed_forward.w_1.weight"
    assert not torch.equal(grads[first], plain[first])


@pytest.mark.parametrize(("option", "name"), [
    ("label_rule=first", "tri"), ("smoothing=0.3", "tri"), ("smoothing_form=uniform_other", "tri"),
    ("silence=mask", "tri"), ("normalise=utterance_sum", "tri"), ("layer=4", "tri"),
    ("bpe_collision=first", "bpe"), ("smoothing=0.3", "bpe"),
])  # fmt: skip
def test_an_option_changes_the_loss_it_is_for(build, batch, option, name):
    """Both losses at once; options of labels are for one of them."""
    one, two = (step(build("preset=both", *more)[0], batch)[1] for more in ((), (option,)))
    changed = {n for n in ("tri", "bpe") if one[f"loss_aux_{n}"] != two[f"loss_aux_{n}"]}
    assert name in changed
    if option.startswith(("label_rule", "bpe_collision", "layer")):
        assert changed == {name}


def test_shuffled_labels_are_stretched_over_the_utterance(build, batch):
    """40 labels over 80 frames are each label twice."""
    one = {k: batch[k][:1] for k in ("text", "text_lengths")}
    one |= {"speech": torch.randn(1, 12800), "speech_lengths": torch.tensor([12800])}
    labels = batch["align"][:1, :40]
    twice = {**one, "align": labels.repeat_interleave(2, 1), "align_lengths": torch.tensor([80])}
    once = {**one, "align": labels, "align_lengths": torch.tensor([40])}
    want = step(build()[0], twice)[1]["loss_aux_tri"]
    assert torch.equal(step(build("label_source=shuffled")[0], once)[1]["loss_aux_tri"], want)
    assert not torch.equal(step(build()[0], once)[1]["loss_aux_tri"], want)


def test_masked_silence_does_not_count(build, batch):
    silent = {**batch, "align": torch.zeros_like(batch["align"])}
    assert step(build("silence=mask")[0], silent)[1]["loss_aux_tri"] == 0
    assert step(build("silence=keep")[0], silent)[1]["loss_aux_tri"] > 0


def test_presets_without_ctc_have_none(build, batch):
    for aux in (["preset=aed_only"], ["preset=bpe_ce_no_ctc"],
                ["preset=alternating", "ctc_in_alternation=false"]):  # fmt: skip
        model, args = build(*aux)
        assert model.ctc is None and args.model_conf["ctc_weight"] == 0
    assert build("preset=alternating")[0].ctc is not None


def test_encoding_is_that_of_a_stock_model_without_the_head(build, batch):
    model, args = build("preset=both")
    stock = StockASRTask.build_model(args)
    missing, extra = stock.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all(n.startswith("aux_heads.") for n in extra) and extra
    speech = batch["speech"], batch["speech_lengths"]
    ours, theirs = model.eval().encode(*speech), stock.eval().encode(*speech)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert torch.equal(model.ctc.log_softmax(ours[0]), stock.ctc.log_softmax(theirs[0]))


def test_the_papers_blstm_with_pools_of_3_and_2(build, batch):
    conf = ["num_layers=6", "hidden_size=6", "output_size=8", "subsample=[3,2,1,1,1,1]"]
    more = ["--encoder", "rnn", "--decoder", "rnn"]
    more += [x for c in conf for x in ("--encoder_conf", c)]
    more += ["--decoder_conf", "hidden_size=8"]
    for aux, stride in (("layer=3", 6), ("layer=2", 3), ("preset=bpe_ce_ctx", 6)):
        model, _ = build(aux, more=more)
        _, stats, _ = step(model, batch)
        (tap,) = model.taps.values()
        assert tap.geometry.stride == stride and stats["loss"].isfinite()
