# SPDX-License-Identifier: Apache-2.0
"""Whole trainings through ESPnet's trainer: phases, counts, optimisers, encoders, processes."""

import itertools
import json
from collections import Counter

import pytest
import torch
import yaml
from children import train_in_two
from torch.optim.optimizer import register_optimizer_step_post_hook

from espnet_ext.espnet import checkpoint, fastimport, train
from espnet_ext.progress import progress_log

fastimport.enable()

from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402

from espnet_ext.bl_just import task as bl_task  # noqa: E402
from espnet_ext.bl_just.model import part_of  # noqa: E402
from espnet_ext.bl_just.task import BLJustTask  # noqa: E402
from espnet_ext.data.tables import read_table  # noqa: E402
from espnet_ext.espnet.verify import verify_stock  # noqa: E402

TASK = "espnet_ext.bl_just.task:BLJustTask"
ADAMW = ["--optim", "adamw", "--optim_conf", "weight_decay=0.1"]
KEEP = ["--keep_nbest_models", "99"]
COUNTS = ("labelled_batches", "unlabelled_batches", "passes")


def run(argv, out, *conf, more=(), task=TASK):
    options = [x for option in conf for x in ("--bl_just", option)]
    train.run(task, [*argv, *KEEP, *options, *more, "--output_dir", str(out)])
    return out


def read(out, name="phase.json"):
    return json.loads((out / name).read_text())


def counts(out):
    return tuple(read(out)[k] for k in COUNTS)


def weights(out, epoch):
    return checkpoint.load(out / f"{epoch}epoch.pth")


def parts_that_moved(before, after):
    """Parts with a parameter that differs; buffers such as running means are no parameters."""
    return {part_of(n) for n, x in before.items() if not torch.equal(x, after[n])}


def without(argv, *names):
    pairs = zip(argv[::2], argv[1::2], strict=True)
    return [x for pair in pairs if not pair[1].startswith(names) for x in pair]


@pytest.fixture(scope="module")
def spy():
    """Note kind, ids and gamma of each training batch, and what each optimiser stepped on."""
    seen, steps, forward = [], [], BLJustTask.model_class.forward

    def noting(self, *args, **kwargs):
        if self.training:
            info = kwargs["step"]
            seen.append((info["kind"], kwargs["utt_id"], len(kwargs.get("u_speech", ())), info))
        return forward(self, *args, **kwargs)

    def stepped(optimiser, *_):
        norms = [
            torch.stack([p.grad.norm() for p in group["params"] if p.grad is not None]).norm()
            for group in optimiser.param_groups
            if any(p.grad is not None for p in group["params"])
        ]
        steps.append((len(optimiser.param_groups), [float(x) for x in norms]))

    patch = pytest.MonkeyPatch()
    patch.setattr(BLJustTask.model_class, "forward", noting)
    handle = register_optimizer_step_post_hook(stepped)
    yield seen, steps
    handle.remove()
    patch.undo()


@pytest.fixture(scope="module")
def whole(bl_argv, tmp_path_factory, spy):
    """A training with all phases, what it printed, read and did."""
    lines, handle = [], progress_log.info
    patch = pytest.MonkeyPatch()
    patch.setattr(progress_log, "info", lambda text, *a: (lines.append(text), handle(text, *a)))
    out = tmp_path_factory.mktemp("whole") / "exp"
    for notes in spy:
        notes.clear()
    more = ["--grad_clip", "0.001", "--use_tensorboard", "true"]
    run(bl_argv, out, more=more)
    patch.undo()
    return out, lines, *(list(notes) for notes in spy)


def test_an_epoch_explores_then_descends_jointly(whole, tiny_data, unlabelled_dir):
    out, lines, seen, _ = whole
    assert [kind for kind, *_ in seen] == (["explore"] * 5 + ["joint"] * 4) * 2 + ["final"] * 2
    gammas = [info["gamma"] for kind, *_, info in seen if kind == "joint"]
    assert gammas == [0.0] * 4 + [0.25] * 4
    train_ids = Counter(list(read_table(tiny_data / "train" / "text")))
    other_ids = Counter(list(read_table(unlabelled_dir / "wav.scp")))
    joint = [Counter(), Counter()]
    explored = [Counter(), Counter()]
    for place, (kind, ids, count, info) in enumerate(seen[:18]):
        (joint if kind == "joint" else explored)[place // 9].update(ids)
        assert bool(count) == (kind == "explore" or info["gamma"] > 0)
    assert joint == [train_ids] * 2
    assert explored == [other_ids] * 2
    assert counts(out) == (10, 14, 24)
    phase = read(out)
    assert (phase["valid_updates"], phase["valid_passes"]) == ([9, 18, 20], [1.0, 2.0, 2.5])
    assert phase["chosen_by"] == "acc" and len(phase["valid_acc"]) == 3
    assert len(phase["valid_cer_ctc"]) == (3 if "valid cer_ctc" in "".join(lines) else 0)
    told = [x for x in lines if x.startswith("epoch ")]
    assert len(told) == 3 and "5 explore + 4 joint, gamma 0.25: f " in told[1]
    assert "10 labelled and 14 unlabelled updates, 24 forward-backward passes" in "".join(lines)


def test_each_part_is_clipped_by_itself(whole):
    """Norms as each optimiser's step found them; a common bound would leave most far below."""
    _, _, _, steps = whole
    # Groups with gradients: of g theta and eta, of f theta and phi, of f + gamma g all.
    groups = [2] * 5 + [2] * 4 + [2] * 5 + [3] * 4 + [2] * 2
    assert [len(norms) for _, norms in steps] == groups
    assert [held for held, _ in steps] == ([2] * 5 + [3] * 4) * 2 + [2] * 2
    for _, norms in steps:
        assert all(norm == pytest.approx(0.001, rel=1e-2) for norm in norms), norms


def test_tensorboard_shows_both_losses_and_their_gradients(whole):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(whole[0] / "tensorboard/train"))
    events.Reload()
    names = {"f", "g", "gamma", "grad_norm_f", "grad_norm_g", "grad_cosine"}
    assert names <= set(events.Tags()["scalars"])
    assert [x.value for x in events.Scalars("gamma")] == [0.25]  # of epoch 2
    assert len(events.Scalars("f")) == 3 and len(events.Scalars("g")) == 2
    assert all(-1 <= x.value <= 1 for x in events.Scalars("grad_cosine"))


def test_stock_espnet_loads_the_model(whole):
    out = whole[0]
    config, model_file = out / "config.yaml", out / "valid.acc.ave.pth"
    saved = yaml.safe_load(config.read_text())
    assert saved.get("model", "espnet") == "espnet" and saved["max_epoch"] == 3
    assert saved["bl_just"]["unsup_loss"] == "best_rq"
    verdict = verify_stock(config, model_file)
    assert verdict.extra and all(n.startswith("unsup.") for n in verdict.extra)
    stock, _ = StockASRTask.build_model_from_file(config, model_file)
    ours, _ = BLJustTask.build_model_from_file(config, model_file)
    speech = torch.randn(1, 9000), torch.tensor([9000])
    assert torch.equal(ours.eval().encode(*speech)[0], stock.eval().encode(*speech)[0])


@pytest.fixture(scope="module")
def pretrained(bl_argv, tmp_path_factory):
    """pt_ft keeps its phases in epochs apart; ESPnet's own criteria, some without values."""
    criteria = ["--best_model_criterion", "train,loss,min", "valid,loss,min", "train,acc,max"]
    argv = without(bl_argv, "valid,acc,max")
    return run(argv, tmp_path_factory.mktemp("pt") / "exp", "schedule=pt_ft",
               more=[*ADAMW, *criteria, "valid,acc,max"])  # fmt: skip


def test_a_phase_leaves_the_other_head_bit_equal(pretrained):
    """In spite of weight decay: exploration phi, supervised epochs eta."""
    kinds = [2, 3, 5]  # last epochs of exploration, of supervised training, of the last phase
    assert counts(pretrained) == (10, 14, 24) and read(pretrained)["epochs"] == kinds[-1]
    epochs = [weights(pretrained, e) for e in range(1, 6)]
    assert parts_that_moved(*epochs[:2]) == {"theta", "eta"}
    for before, after in itertools.pairwise(epochs[1:]):
        assert parts_that_moved(before, after) == {"theta", "phi"}


def test_gamma_zero_alone_is_supervised_training(bl_argv, tiny_argv, tmp_path):
    """Bit for bit, with dropout and masks; and ESPnet's own task, but for its common clipping."""
    more = [*ADAMW, "--grad_clip", "1e9"]
    zero = run(bl_argv, tmp_path / "zero", "gamma_max=0", "explore_steps=0", "final_steps=0",
               more=more)  # fmt: skip
    plain = run(bl_argv, tmp_path / "plain", "schedule=supervised", "final_steps=0", more=more)
    stock = run(tiny_argv, tmp_path / "stock", more=[*more, "--max_epoch", "2"], task="asr")
    assert counts(zero) == counts(plain) == (8, 0, 8)
    for epoch in (1, 2):
        ours, reference = weights(zero, epoch), weights(stock, epoch)
        assert {part_of(n) for n in ours.keys() - reference.keys()} == {"eta"}
        for other in (reference, weights(plain, epoch)):
            assert all(torch.equal(x, ours[n]) for n, x in other.items())


# At equal batches, and at equal forward-backward passes.
@pytest.mark.parametrize(
    ("schedule", "budget", "expected"),
    [
        ("supervised", "passes", (24, 0, 24)),
        ("weighted_sum", "batches", (10, 10, 20)),
        ("weighted_sum", "passes", (12, 12, 24)),
        ("pseudo_label", "batches", (10, 4, 14)),
    ],
)
def test_each_baseline_runs_on_the_budget_that_it_tells(
    bl_argv, tmp_path, schedule, budget, expected
):
    out = run(bl_argv, tmp_path / "exp", f"schedule={schedule}", f"budget={budget}")
    assert counts(out) == expected
    spent = read(out, "spent.json").values()
    assert tuple(sum(epoch[k] for epoch in spent) for k in COUNTS) == expected


def test_reversed_levels_explore_on_labelled_data(bl_argv, tmp_path, spy):
    seen, _ = spy
    seen.clear()
    out = run(bl_argv, tmp_path / "exp", "upper_level=unsupervised", "explore_steps=3",
              "joint_steps=2", "unsup_scale=match_tokens")  # fmt: skip
    shown = [(kind, ids[0][0], count > 0) for kind, ids, count, _ in seen]
    explore, final = ("explore", "t", False), ("final", "t", False)
    alone, both = ("joint", "u", True), ("joint", "t", True)
    assert shown == [explore] * 3 + [alone] * 2 + [explore] * 3 + [both] * 2 + [final] * 2
    assert counts(out) == (10, 4, 14)


def adam_steps(out):
    """The greatest number of steps of a parameter, for each optimiser."""
    states = checkpoint.load(out / "checkpoint.pth")["optimizers"]
    return [max((int(s["step"]) for s in x["state"].values()), default=0) for x in states]


@pytest.mark.parametrize(
    ("conf", "steps"),
    [
        ([], [8, 10, 10]),  # the last phase goes on counting after the joint one
        (["final_reset=true"], [8, 10, 2]),
        (["keep_state=false"], [0, 0, 6]),  # what an epoch gathers is dropped before the next
        (["keep_state=false", "final_reset=true"], [0, 0, 2]),
    ],
)
def test_each_phase_has_an_optimiser_of_its_own(bl_argv, tmp_path, conf, steps):
    assert adam_steps(run(bl_argv, tmp_path / "exp", *conf)) == steps


def test_accumulation_reads_two_batches_an_update(bl_argv, tmp_path, spy):
    for notes in spy:
        notes.clear()
    out = run(bl_argv, tmp_path / "exp", "epochs=1", "gamma_ramp=constant", "final_steps=1",
              more=["--accum_grad", "2"])  # fmt: skip
    seen, steps = spy
    # 5 unlabelled and 4 labelled batches: 3 and 2 updates.
    assert [kind for kind, *_ in seen] == ["explore"] * 6 + ["joint"] * 4 + ["final"] * 2
    assert [held for held, _ in steps] == [2] * 3 + [3] * 2 + [2]
    assert counts(out) == (6, 10, 16) and read(out)["updates"] == 6


ENCODERS = {
    "conformer": ["--encoder", "conformer", "--encoder_conf", "cnn_module_kernel=7"],
    "vgg_rnn": ["--encoder", "vgg_rnn"],
    "rnn": ["--encoder", "rnn", "--encoder_conf", "subsample=[2,2]"],
}


@pytest.mark.parametrize(
    ("encoder", "loss", "ctc_weight"),
    [
        ("conformer", "cpc", 0.3), ("vgg_rnn", "wav2vec2", 1.0), ("rnn", "cpc", 1.0),
        ("conformer", "wav2vec2", 1.0), ("rnn", "best_rq", 0.3),
        ("conformer", "kmeans", 0.3),
    ],
)  # fmt: skip
def test_encoders_and_losses_train_together(bl_argv, tmp_path, encoder, loss, ctc_weight):
    argv, more = bl_argv, ENCODERS[encoder]
    if encoder != "conformer":
        argv = without(argv, "output_size", "num_blocks", "attention_heads", "linear_units")
        more = [*more, "--encoder_conf", "hidden_size=8", "--encoder_conf", "num_layers=2"]
    conf = [f"unsup_loss={loss}", "epochs=1", "gamma_ramp=constant"]
    conf += ["explore_steps=2", "joint_steps=2"]
    conf += ["wav2vec2={mask_length_s: 0.16, codes: 8, code_dim: 8}"]
    conf += ["kmeans={mask_length_s: 0.16, codes: 8}"]
    more = [*more, "--best_model_criterion", "valid,loss,min"]
    more += ["--model_conf", f"ctc_weight={ctc_weight}"]
    out = run(without(argv, "valid,acc,max"), tmp_path / "exp", *conf, more=more)
    spent = read(out, "spent.json")
    assert counts(out) == (4, 4, 8) and spent.keys() == {"1", "2"}
    state = weights(out, 2)
    assert all(torch.isfinite(x).all() for x in state.values())
    verdict = verify_stock(out / "config.yaml", out / "2epoch.pth")
    assert {part_of(n) for n in verdict.extra} == {"eta"}


def test_two_processes_go_through_all_phases(bl_argv, unlabelled_dir, tmp_path):
    """In each phase a head idles; an utterance is too short, so the stream is written again.

    One process fits the k-means of both.
    """
    argv = [*bl_argv, "--output_dir", str(tmp_path / "exp"), "--bl_just", "unsup_loss=kmeans"]
    lengths = {u: int(n) for u, n in read_table(unlabelled_dir / "speech_shape").items()}
    mask_s = (sorted(lengths.values())[1] - 1) / 16000 / 2 - 0.005
    argv += ["--bl_just", f"kmeans={{mask_length_s: {mask_s:.3f}, codes: 4}}"]
    said = train_in_two(TASK, argv)
    for epoch in (1, 2, 3):
        assert said.count(f"espnet_ext.progress: epoch {epoch}/3") == 1
    (plan,) = [x for x in said.splitlines() if "forward-backward passes" in x]
    assert said.count("k-means: 4 classes of ") == 1
    assert len((tmp_path / "exp/unlabelled_skipped.tsv").read_text().splitlines()) == 1
    record = read(tmp_path / "exp")
    assert record["processes"] == 2
    assert record["labelled_batches"] + record["unlabelled_batches"] == record["passes"]
    told = plan.partition(" labelled and ")[0].rpartition(" ")[2]
    assert record["labelled_batches"] == int(told)


@pytest.mark.parametrize("loss", ["best_rq", "wav2vec2", "cpc", "kmeans"])
@pytest.mark.parametrize("layer", ["conv2d2", "conv2d", "conv2d8"])
def test_the_shortest_utterance_is_that_of_the_model(loss, layer):
    """It is known before the model is built; the masked losses depend on the encoder's stride."""
    argv = ["--encoder", "conformer", "--encoder_conf", f"input_layer={layer}"]
    argv += ["--encoder_conf", "output_size=8", "--encoder_conf", "attention_heads=1"]
    argv += ["--encoder_conf", "num_blocks=1", "--frontend_conf", "hop_length=160"]
    argv += ["--bl_just", f"unsup_loss={loss}", "--decoder", "transformer"]
    args = BLJustTask.get_parser().parse_args(argv)
    args.token_list = ["<blank>", "<unk>", "a", "<sos/eos>"]
    conf = bl_task.prepare(args)
    shortest = bl_task._min_samples(args, conf)
    model = BLJustTask.build_model(args)
    assert shortest == (model.unsup.min_frames - 1) * 160
