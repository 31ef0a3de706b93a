# SPDX-License-Identifier: Apache-2.0
"""Gradients, statistics and side effects of one step of the ESPnet model, phase by phase."""

import copy

import pytest
import torch

from espnet_ext.errors import UsageError
from espnet_ext.espnet import fastimport, train

fastimport.enable()

from espnet2.asr.espnet_model import ESPnetASRModel  # noqa: E402

from espnet_ext.bl_just.model import part_of  # noqa: E402
from espnet_ext.bl_just.task import BLJustTask  # noqa: E402

# No dropout and no masks of ESPnet's own: what is random then is drawn by g alone.
PLAIN = [
    "--specaug none",
    "--encoder_conf dropout_rate=0 --encoder_conf positional_dropout_rate=0",
    "--decoder_conf dropout_rate=0 --decoder_conf positional_dropout_rate=0",
]
CONFORMER = ["--encoder conformer --encoder_conf cnn_module_kernel=7"]
BLSTM = ["--encoder vgg_rnn --encoder_conf hidden_size=8 --encoder_conf num_layers=1"]
BLSTM += ["--encoder_conf dropout=0 --model_conf ctc_weight=1.0"]
INTER = ["--encoder_conf num_blocks=2 --encoder_conf interctc_layer_idx=[1]"]
INTER += ["--encoder_conf interctc_use_conditioning=true --model_conf interctc_weight=0.3"]
PREENCODER = ["--preencoder linear --preencoder_conf input_size=20"]
PREENCODER += ["--preencoder_conf output_size=16"]
GAMMA = 0.3
SCALE = "unsup_scale=frame_mean"  # where a test says nothing else


def words(lines):
    return [word for line in lines for word in line.split()]


def drop(argv, *names):
    """Take options away with their values."""
    pairs = zip(argv[::2], argv[1::2], strict=True)
    return [x for pair in pairs if not pair[1].startswith(names) for x in pair]


@pytest.fixture
def make(bl_argv):
    def build(*conf, options=(), plain=PLAIN):
        argv = bl_argv
        if any("vgg_rnn" in line for line in options):
            argv = drop(argv, "output_size", "num_blocks", "attention_heads", "linear_units")
            plain = plain[:1]
        argv = [*argv, *words([*plain, *options]), "--output_dir", "unused"]
        argv += [word for option in (SCALE, *conf) for word in ("--bl_just", option)]
        args = train.parse(BLJustTask, argv)
        torch.manual_seed(0)
        return BLJustTask.build_model(args).double().train()

    return build


def labelled(seed=0, count=3):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.arange(16000, 16000 - 1600 * count, -1600)
    speech = torch.randn(count, 16000, generator=generator, dtype=torch.double)
    text = torch.randint(2, 5, (count, 4), generator=generator)
    batch = {"speech": speech, "speech_lengths": lengths, "text": text}
    return {**batch, "text_lengths": torch.full((count,), 4)}


def unlabelled(seed=9, count=2):
    batch = labelled(seed, count)
    return {"u_speech": batch["speech"], "u_speech_lengths": batch["speech_lengths"]}


def step(kind, gamma=0.0, measure=False):
    return {"kind": kind, "gamma": gamma, "measure": measure}


def call(model, info, *batches, seed=1):
    torch.manual_seed(seed)
    data = {k: v.clone() for batch in batches for k, v in batch.items()}
    return model(**data, step=info)


def gradients(model, info, *batches):
    model.zero_grad()
    out = call(model, info, *batches)
    out["loss"].backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}, out


def of(part, grads):
    return {n: g for n, g in grads.items() if part_of(n) == part}


def flat(grads):
    return torch.cat([g.flatten() for _, g in sorted(grads.items())])


def near(ours, reference):
    """Equal names; values apart from one another by 1e-6 of their size at most."""
    assert ours.keys() == reference.keys() and ours
    gap = (flat(ours) - flat(reference)).norm()
    return bool(gap <= 1e-6 * flat(reference).norm())


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("best_rq", []), ("wav2vec2", CONFORMER), ("cpc", BLSTM), ("cpc", CONFORMER + PREENCODER),
        ("best_rq", INTER),
    ],
)  # fmt: skip
def test_the_joint_gradient_is_that_of_f_plus_gamma_g(make, loss, options):
    """And each head learns of its own loss alone."""
    model = make(f"unsup_loss={loss}", "wav2vec2={mask_length_s: 0.16}", options=options)
    f, _ = gradients(model, step("label"), labelled())
    g, _ = gradients(model, step("explore"), unlabelled())
    both, out = gradients(model, step("joint", GAMMA, measure=True), labelled(), unlabelled())
    f_theta, g_theta = of("theta", f), of("theta", g)
    zero = torch.zeros(())
    expected = {n: f_theta.get(n, zero) + GAMMA * g_theta.get(n, zero) for n in f_theta | g_theta}
    assert near(of("theta", both), expected)
    assert not near(
        of("theta", both), f_theta | {n: 0 * g_theta[n] for n in g_theta.keys() - f_theta}
    )
    assert near(of("phi", both), of("phi", f)) and not of("phi", g)
    assert near(of("eta", both), {n: GAMMA * x for n, x in of("eta", g).items()})
    assert not of("eta", f)
    told = out["stats"]
    assert told["loss"] == told["f"] + GAMMA * told["g"] == out["loss"]
    names = sorted(f_theta | g_theta)
    a, b = ({n: x.get(n, 0 * expected[n]) for n in names} for x in (f_theta, g_theta))
    norms = flat(a).norm(), flat(b).norm()
    measured = torch.cat([told[f"grad_{x}"] for x in ("norm_f", "norm_g", "cosine")])
    cosine = flat(a) @ flat(b) / (norms[0] * norms[1])
    torch.testing.assert_close(measured, torch.stack([*norms, cosine]))


def test_both_paths_use_the_same_encoder(make):
    model = make("unsup_loss=cpc", options=CONFORMER + PREENCODER)
    used = {}
    for name, batch in (("label", labelled()), ("explore", unlabelled())):
        seen, hooks = set(), []
        for module in model.modules():
            own = [p.data_ptr() for p in module.parameters(recurse=False)]
            hooks.append(module.register_forward_hook(lambda *_, s=seen, o=own: s.update(o)))
        call(model, step(name), batch)
        for hook in hooks:
            hook.remove()
        used[name] = seen
    theta = {p.data_ptr() for n, p in model.named_parameters() if part_of(n) == "theta"}
    assert theta and theta & used["label"] == theta & used["explore"]
    before = call(model, step("label"), labelled())["loss"]
    kept = {n: p.clone() for n, p in model.named_parameters() if part_of(n) == "phi"}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    gradients(model, step("explore"), unlabelled())
    optimiser.step()
    assert abs(call(model, step("label"), labelled())["loss"] - before) > 1e-4
    assert all(torch.equal(p, kept[n]) for n, p in model.named_parameters() if n in kept)


@pytest.mark.parametrize("upper", ["supervised", "unsupervised"])
def test_no_head_sees_the_other_batch(make, upper):
    model = make(f"upper_level={upper}")
    info = step("joint", GAMMA)
    grads, _ = gradients(model, info, labelled(), unlabelled())
    other_g, _ = gradients(model, info, labelled(), unlabelled(seed=5))
    other_f, _ = gradients(model, info, labelled(seed=5), unlabelled())
    for other, same, changed in ((other_g, "phi", "eta"), (other_f, "eta", "phi")):
        assert torch.equal(flat(of(same, grads)), flat(of(same, other)))
        assert not torch.allclose(flat(of(changed, grads)), flat(of(changed, other)))
        assert not torch.allclose(flat(of("theta", grads)), flat(of("theta", other)))


def test_reversed_levels_put_the_penalty_on_f(make):
    model = make("upper_level=unsupervised")
    f, told_f = gradients(model, step("label"), labelled())
    g, told_g = gradients(model, step("explore"), unlabelled())
    both, out = gradients(model, step("joint", GAMMA), labelled(), unlabelled())
    assert out["loss"] == told_g["loss"] + GAMMA * told_f["loss"] == out["stats"]["loss"]
    assert near(of("phi", both), {n: GAMMA * x for n, x in of("phi", f).items()})
    assert near(of("eta", both), of("eta", g))
    alone, out = gradients(model, step("joint", 0.0), unlabelled())  # gamma 0: no labelled batch
    assert not of("phi", alone) and near(alone, g) and out["stats"].keys() >= {"g", "loss"}


def test_eta_scale_one_frees_the_head_of_gamma(make):
    model = make("eta_scale=one")
    f, _ = gradients(model, step("label"), labelled())
    g, _ = gradients(model, step("explore"), unlabelled())
    both, out = gradients(model, step("joint", GAMMA, measure=True), labelled(), unlabelled())
    assert near(of("eta", both), of("eta", g)) and near(of("phi", both), of("phi", f))
    theta = {n: f[n] + GAMMA * x for n, x in of("theta", g).items()}
    assert near(of("theta", both), theta)
    told = out["stats"]
    torch.testing.assert_close(told["grad_norm_g"].squeeze(), flat(of("theta", g)).norm())
    assert told["loss"] == told["f"] + GAMMA * told["g"]


def test_match_tokens_scales_g_by_the_tokens_of_an_utterance(make):
    models = [make(f"unsup_scale={x}") for x in ("match_tokens", "frame_mean")]
    batches = labelled(), unlabelled()
    batches[0]["text_lengths"] = torch.tensor([4, 2, 3])
    joint = [gradients(m, step("joint", GAMMA), *batches) for m in models]
    assert near(of("eta", joint[0][0]), {n: 3 * x for n, x in of("eta", joint[1][0]).items()})
    assert near(of("phi", joint[0][0]), of("phi", joint[1][0]))
    scaled, mean = (out["stats"] for _, out in joint)
    assert scaled["g"] == mean["g"] and scaled["f"] == mean["f"]  # curves stay comparable
    explored = [gradients(m, step("explore"), unlabelled())[0] for m in models]
    assert near(*explored)
    reverse = make("unsup_scale=match_tokens", "upper_level=unsupervised")
    grads, _ = gradients(reverse, step("joint", 0.0), unlabelled())  # no tokens to match
    assert of("eta", grads) and not of("phi", grads)
    both, _ = gradients(reverse, step("joint", GAMMA), *batches)
    assert near(of("eta", both), of("eta", grads))  # g, the upper loss, is the same at any gamma
    expected = {n: GAMMA / 3 * x for n, x in of("phi", joint[0][0]).items()}
    assert near(of("phi", both), expected)


@pytest.mark.parametrize("source", ["both", "labelled"])
def test_batch_normalisation_learns_from_what_is_asked_for(make, source):
    model = make(f"bn_update_from={source}", options=CONFORMER)
    twin = copy.deepcopy(model)
    call(model, step("joint", GAMMA), labelled(), unlabelled())
    call(twin, step("label"), labelled())
    state, reference = model.state_dict(), twin.state_dict()
    norms = [k for k in state if k.endswith(("running_mean", "running_var"))]
    assert norms
    same = [torch.equal(state[k], reference[k]) for k in norms]
    assert all(same) if source == "labelled" else not any(same)
    before = copy.deepcopy(state)
    call(model, step("explore"), unlabelled())
    same = [torch.equal(model.state_dict()[k], before[k]) for k in norms]
    assert all(same) if source == "labelled" else not any(same)
    call(model, step("label"), labelled())
    assert not any(torch.equal(model.state_dict()[k], before[k]) for k in norms)


@pytest.mark.parametrize("masked", [False, True])
def test_specaug_masks_unlabelled_speech_only_when_asked_to(make, masked):
    masks = [*PLAIN[1:], "--specaug_conf apply_time_warp=false"]
    model = make(f"specaug_unlabelled={masked}", "unsup_loss=cpc", plain=masks)
    two = [call(model, step("explore"), unlabelled(), seed=s)["loss"] for s in (1, 2)]
    assert (two[0] != two[1]) == masked
    f = [call(model, step("label"), labelled(), seed=s)["loss"] for s in (1, 2)]
    assert f[0] != f[1]


def greedy(model, speech, lengths):
    """Transcripts of the best path, a loop."""
    with torch.no_grad():
        h, h_lengths = copy.deepcopy(model).eval().encode(speech, lengths)
        best = model.ctc.argmax(h)
    texts = []
    for row, n in zip(best.tolist(), h_lengths.tolist(), strict=True):
        row = [x for i, x in enumerate(row[:n]) if i == 0 or x != row[i - 1]]
        texts.append([x for x in row if x != 0])
    return texts


def test_pseudo_labels_are_the_greedy_transcripts(make):
    model = make("schedule=pseudo_label")
    speech, lengths = unlabelled(count=4).values()
    with torch.no_grad():  # so that two utterances have a transcript and two are empty
        h, h_lengths = copy.deepcopy(model).eval().encode(speech, lengths)
        logits = model.ctc.ctc_lo(h)
        above = (logits[..., 1:].amax(-1) - logits[..., 0]).unbind()
        above = sorted(x[:n].max() for x, n in zip(above, h_lengths, strict=True))
        model.ctc.ctc_lo.bias[0] += (above[1] + above[2]) / 2
    texts = greedy(model, speech, lengths)
    kept = [i for i, t in enumerate(texts) if t]
    assert len(kept) == 2
    width = max(len(texts[i]) for i in kept)
    text = torch.tensor([texts[i] + [-1] * (width - len(texts[i])) for i in kept])
    text_lengths = torch.tensor([len(texts[i]) for i in kept])
    reference, _, _ = ESPnetASRModel.forward(model, speech[kept], lengths[kept], text, text_lengths)
    batches = labelled(), {"u_speech": speech, "u_speech_lengths": lengths}
    grads, out = gradients(model, step("pseudo", GAMMA), *batches)
    told = out["stats"]
    torch.testing.assert_close(told["g"], reference.detach())
    torch.testing.assert_close(out["loss"].detach(), told["f"] + GAMMA * told["g"])
    assert told["pseudo_empty"] == 4 - len(kept) and out["optim_idx"] == 0
    assert all(m.training for m in model.modules()) and of("phi", grads)


def test_pseudo_labels_leave_batch_normalisation_to_labelled_speech(make):
    model = make("schedule=pseudo_label", options=CONFORMER)
    with torch.no_grad():
        model.ctc.ctc_lo.bias[0] -= 100  # no transcript is empty
    twin = copy.deepcopy(model)
    out = call(model, step("pseudo", GAMMA), labelled(), unlabelled())
    assert out["stats"]["pseudo_empty"] == 0
    call(twin, step("label"), labelled())
    norms = {k: v for k, v in model.state_dict().items() if "running_" in k}
    assert norms and all(torch.equal(v, twin.state_dict()[k]) for k, v in norms.items())


def test_pseudo_labels_may_all_be_empty(make):
    model = make("schedule=pseudo_label")
    with torch.no_grad():
        model.ctc.ctc_lo.bias[0] += 100
    grads, out = gradients(model, step("pseudo", GAMMA, True), labelled(), unlabelled())
    f, _ = gradients(model, step("label"), labelled())
    assert out["stats"]["g"] == 0 and near(grads, f)


def test_the_extension_leaves_the_stock_model_as_it_was(make):
    models, draws = [], []
    for conf in (["schedule=supervised"], ["unsup_loss=wav2vec2", "wav2vec2={mask_length_s: 0.2}"]):
        models.append(make(*conf))
        draws.append(torch.rand(3))
    stock, ours = (m.state_dict() for m in models)
    assert torch.equal(*draws)
    assert all(torch.equal(x, ours[n]) for n, x in stock.items())
    extra = ours.keys() - stock.keys()
    assert extra and {part_of(n) for n in extra} == {"eta"}
    data = {k: v.clone() for k, v in labelled().items()}
    plain = [m.eval()(**data)[0] for m in models]  # validation: no step, ESPnet's own loss
    assert plain[0] == plain[1] == ESPnetASRModel.forward(models[1], **data)[0]


def test_log_probabilities_are_no_hidden_vectors(make):
    class LogSoftmax(torch.nn.Module):
        def forward(self, h, lengths):
            return h.log_softmax(-1), lengths

    model = make("unsup_loss=cpc")
    model.postencoder = LogSoftmax()
    with pytest.raises(UsageError, match="log-probabilities"):
        call(model, step("explore"), unlabelled())
