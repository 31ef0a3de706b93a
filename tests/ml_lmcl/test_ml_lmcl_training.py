# SPDX-License-Identifier: Apache-2.0
"""Both stages by ESPnet's trainer: what they start from, resume, teachers, two processes."""

import json
import logging
import os
import re
import signal

import pytest
import torch
import yaml
from children import in_child, train_in_two

from espnet_ext.espnet import fastimport, train

fastimport.enable()

from espnet_ext.espnet.buckets import BucketSampler  # noqa: E402
from espnet_ext.ml_lmcl import trainer as lmcl_trainer  # noqa: E402
from espnet_ext.ml_lmcl.load import load_classifier  # noqa: E402

TASK = "espnet_ext.ml_lmcl.task:"
CYCLE = ("gamma_period=8", "tau_d=2.0")


def run(task, argv, out, *more):
    train.run(TASK + task, [*argv, *more, "--output_dir", str(out)])


def weights(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def stage1(text_corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("stage1") / "exp"
    assert in_child(run, "ContrastiveTask", text_corpus.argv(), out) == 0
    return out


@pytest.fixture(scope="module")
def reference(text_corpus, tmp_path_factory):
    """Three epochs without interruption, by teacher_refresh."""
    made = {}
    for refresh in ("full", "on_the_fly"):
        out = tmp_path_factory.mktemp(refresh) / "exp"
        argv = text_corpus.argv(*CYCLE, f"teacher_refresh={refresh}", label=True)
        assert in_child(run, "ClassifyTask", [*argv, "--max_epoch", "3"], out) == 0
        made[refresh] = argv, out
    return made


def test_stage_1_lowers_its_loss_and_brings_pairs_together(stage1):
    log = json.loads((stage1 / "spent.json").read_text())
    assert len(log) == 2
    # Two texts are compared, and in both sub-words are guessed.
    assert all(epoch["passes"] == 4 * epoch["batches"] for epoch in log.values())
    state = weights(stage1 / "checkpoint.pth")["reporter"]["stats"]
    first, last = state[1]["valid"], state[2]["valid"]  # without dropout
    assert last["loss"] < first["loss"] and last["contrastive"] < first["contrastive"]


def test_stage_2_starts_from_every_tensor_of_stage_1(stage1, text_corpus, tmp_path):
    """Trap 6, in both classifiers, seen in a training that changes nothing."""
    argv = text_corpus.argv(label=True)
    frozen = ["--max_epoch", "1", "--optim_conf", "lr=0", "--optim_conf", "weight_decay=0"]
    init = ["--init_param", str(stage1 / "valid.loss.best.pth")]
    assert in_child(run, "ClassifyTask", [*argv, *frozen, *init], tmp_path / "e") == 0
    before = weights(stage1 / "valid.loss.best.pth")
    after = weights(tmp_path / "e/valid.acc.best.pth")
    encoder = {k: v for k, v in before.items() if k.startswith("encoder.")}
    assert encoder
    for name in ("clean", "asr"):
        for key, value in encoder.items():
            assert torch.equal(after[f"models.{name}.{key}"], value), key
    heads = [after[f"models.{name}.heads.topic.weight"] for name in ("clean", "asr")]
    assert not torch.equal(*heads)
    config = yaml.safe_load((tmp_path / "e/config.yaml").read_text())
    assert all(":encoder:models." in text for text in config["init_param"])


def killed_in(argv, out, epoch, batch):
    """Die in that batch of that epoch."""

    class Model(lmcl_trainer.ClassifyTrainer):
        pass

    from espnet_ext.ml_lmcl.model import ClassifyModel

    plain = ClassifyModel.forward

    def forward(self, *args, **kwargs):
        if self.training and self.training_progress == (epoch, batch):
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(self, *args, **kwargs)

    ClassifyModel.forward = forward
    run("ClassifyTask", argv, out)


@pytest.mark.parametrize("refresh", ["full", "on_the_fly"])
@pytest.mark.parametrize(("epoch", "batch"), [(2, 7), (3, 10)])
def test_killed_training_ends_in_the_same_bits(reference, tmp_path, refresh, epoch, batch):
    """Teachers and gamma(t), whose period does not fit the epoch, go on where they were."""
    argv, done = reference[refresh]
    argv = [*argv, "--max_epoch", "3"]
    assert in_child(killed_in, argv, tmp_path / "e", epoch, batch) == -signal.SIGKILL
    assert in_child(run, "ClassifyTask", argv, tmp_path / "e") == 0
    a, b = (weights(d / "checkpoint.pth") for d in (done, tmp_path / "e"))
    assert a["model"].keys() == b["model"].keys()
    assert all(torch.equal(a["model"][k], b["model"][k]) for k in a["model"])
    gammas = [c["reporter"]["stats"][e]["train"]["gamma"] for c in (a, b) for e in (1, 2, 3)]
    assert gammas == [0, 0.5, 0.65] * 2  # a period of 8 from epoch 2 on, of 5 updates each


FROZEN = ("freeze_layers=1", *CYCLE)


def test_frozen_layers_do_not_move_and_a_killed_training_ends_in_the_same_bits(
    text_corpus, tmp_path, stage1
):
    """Weight decay leaves them alone, in both classifiers; the record counts what is trained."""
    argv = text_corpus.argv(*FROZEN, label=True)
    argv += ["--optim_conf", "weight_decay=0.5", "--max_epoch", "2"]
    argv += ["--init_param", str(stage1 / "valid.loss.best.pth")]
    assert in_child(run, "ClassifyTask", argv, tmp_path / "a") == 0
    assert in_child(killed_in, argv, tmp_path / "b", 2, 7) == -signal.SIGKILL
    assert in_child(run, "ClassifyTask", argv, tmp_path / "b") == 0
    a, b = (weights(tmp_path / d / "checkpoint.pth")["model"] for d in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a)
    before, same, moved = weights(stage1 / "valid.loss.best.pth"), set(), set()
    for name in ("clean", "asr"):
        for key in (k for k in before if k.startswith("encoder.")):
            kept = torch.equal(a[f"models.{name}.{key}"], before[key])
            (same if kept else moved).add(".".join(key.split(".")[1:4]))
    assert "encoder.layer.0" in same and any("embeddings" in k for k in same)
    assert moved == {"encoder.layer.1"}
    record = json.loads((tmp_path / "a/phase.json").read_text())
    frozen = sum(v.numel() for k, v in a.items() if "embeddings" in k or "layer.0." in k)
    assert record["params"] - record["params_trained"] == frozen


def test_frozen_layers_in_stage_1(text_corpus, tmp_path):
    """Its own trainer fills their memory; the encoder's folder has what they are to stay at."""
    from espnet_ext.text.encoder import build_encoder

    argv = text_corpus.argv("freeze_layers=1")
    argv += ["--optim_conf", "weight_decay=0.5", "--max_epoch", "1"]
    assert in_child(run, "ContrastiveTask", argv, tmp_path / "e") == 0
    after = weights(tmp_path / "e/checkpoint.pth")["model"]
    before = build_encoder(text_corpus.root / "dump/text_encoder", True).state_dict()
    moved = {k for k, v in before.items() if not torch.equal(v, after[f"encoder.{k}"])}
    assert moved and all(".layer.1." in f".{k}" for k in moved)


def test_teachers_matter_and_differ_between_the_ways_to_make_them(reference):
    full, fly = (weights(out / "checkpoint.pth") for _, out in reference.values())
    stats = [c["reporter"]["stats"] for c in (full, fly)]
    assert all("distillation" not in s[1]["train"] for s in stats)  # epoch 1 has no teacher
    assert stats[0][1]["train"]["loss"] == stats[1][1]["train"]["loss"]
    assert stats[0][2]["train"]["distillation"] != stats[1][2]["train"]["distillation"]
    files = {p.name for p in reference["on_the_fly"][1].glob("teacher.*")}
    assert files == {"teacher.2epoch.pth", "teacher.3epoch.pth"}
    assert not list(reference["full"][1].glob("teacher.*"))


def test_refreshed_teachers_are_the_models_own_logits(reference, text_corpus, monkeypatch):
    """Dropout off, every utterance there, whatever the order of loading."""
    monkeypatch.chdir(text_corpus.root)
    out = reference["full"][1]
    net, tokenizer, heads = load_classifier(out / "config.yaml", out / "valid.acc.best.pth")
    from espnet_ext.data.tables import read_table
    from espnet_ext.ml_lmcl.model import ClassifyModel
    from espnet_ext.ml_lmcl.teacher import TeacherStore

    net.__class__ = ClassifyModel
    texts = {k: read_table(f"dump/train/text_{k}") for k in ("manual", "asr")}
    utts = list(texts["asr"])

    def batches(order):
        for utt in order:
            batch = {}
            for kind, table in texts.items():
                ids = torch.from_numpy(tokenizer(table[utt]))[None]
                batch |= {f"text_{kind}": ids, f"text_{kind}_lengths": torch.tensor([ids.shape[1]])}
            yield [utt], batch

    widths = {f"{n}.{h}": len(c) for n in (0, 1) for h, c in heads.items()}
    stores = [TeacherStore(utts, widths) for _ in range(2)]
    for s, order in zip(stores, (utts, utts[::-1]), strict=True):
        lmcl_trainer.refresh(net, s, batches(order))
    assert all(torch.equal(stores[0].logits[n], stores[1].logits[n]) for n in widths)
    assert stores[0].known.all() and stores[0].logits["0.topic"].abs().max() > 0


def test_a_cycle_that_cannot_end_is_warned_of(text_corpus, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "espnet_ext.progress"):
        lmcl_trainer._tell_gamma(lmcl_trainer.MlLmclConf(), 160)
        assert "0.06 of its height" in caplog.text and "gamma_period_fraction" in caplog.text
        caplog.clear()
        lmcl_trainer._tell_gamma(lmcl_trainer.MlLmclConf(gamma_period_fraction=0.5), 160)
        assert not caplog.text
        # The cycle has the updates after epoch 1 only.
        short = lmcl_trainer.MlLmclConf(gamma_period=100)
        lmcl_trainer._tell_gamma(short, 90, 30)
        assert not caplog.text
        lmcl_trainer._tell_gamma(short, 90, 45)
        assert "in the 45 updates after epoch 1 gamma gets to 0.88" in caplog.text
        caplog.clear()
        for conf in (short, lmcl_trainer.MlLmclConf(gamma_mode="constant")):
            lmcl_trainer._tell_gamma(conf, 30, 30)
            assert "never act" in caplog.text and "max_epoch to 2" in caplog.text
            caplog.clear()


@pytest.mark.parametrize("accum_grad", [1, 2])
def test_gamma_starts_with_the_first_update_that_has_a_teacher(accum_grad):
    """Five batches an epoch, three epochs; a share is one of the updates from epoch 2 on."""
    from espnet_ext.ml_lmcl.model import ClassifyModel
    from espnet_ext.ml_lmcl.options import resolve

    def course(**section):
        model = ClassifyModel.__new__(ClassifyModel)  # the schedule alone
        torch.nn.Module.__init__(model)
        model.conf, each = resolve(section), 5 // accum_grad
        model.total_updates = 3 * each
        model.untaught_updates = 0 if model.conf.first_teacher == "one_hot" else each
        gammas = []
        for epoch, batch in ((e, b) for e in (1, 2, 3) for b in range(5)):
            model.training_progress = epoch, (epoch - 1) * each + batch // accum_grad
            gammas.append(model.gamma())
        return gammas

    assert course(gamma_mode="constant") == [0] * 5 + [1] * 10
    assert course(gamma_mode="constant", first_teacher="one_hot") == [1] * 15
    cyclic = course(gamma_period_fraction=1.0)
    if accum_grad == 1:  # a period of 10 updates from the sixth on
        assert cyclic == pytest.approx([0] * 5 + [0, 0.2, 0.4, 0.6, 0.8] + [1] * 5)
    else:  # a fifth batch begins an update that is dropped
        assert cyclic == pytest.approx([0] * 5 + [0, 0, 0.5, 0.5, 1, 1, 1, 1, 1, 0])
    cycles = course(gamma_period=4, first_teacher="one_hot")
    assert cycles[:4] == ([0, 0.5, 1, 1] if accum_grad == 1 else [0, 0, 0.5, 0.5])


@pytest.mark.parametrize("preset", ["ce_manual", "pooled", "spokencse", "spokencse_asis"])
def test_presets_train_and_load_without_espnet(text_corpus, tmp_path, preset, monkeypatch):
    argv = text_corpus.argv(f"preset={preset}", "train_samples=20", label=True)
    assert in_child(run, "ClassifyTask", [*argv, "--max_epoch", "2"], tmp_path / "e") == 0
    record = json.loads((tmp_path / "e/phase.json").read_text())
    assert record["updates"] == 2 * 3  # 20 utterances in batches of up to 8
    texts = 2 if preset == "pooled" else 1
    assert record["passes"] == texts * record["updates"]
    monkeypatch.chdir(text_corpus.root)
    net, _, heads = load_classifier(tmp_path / "e/config.yaml", tmp_path / "e/valid.acc.best.pth")
    assert net.names == ("asr",) and list(heads) == ["topic", "act"] and not net.training


def test_masked_lm_training_needs_no_contrast(text_corpus, tmp_path):
    assert in_child(run, "PretrainTask", text_corpus.argv(), tmp_path / "e") == 0
    stats = weights(tmp_path / "e/checkpoint.pth")["reporter"]["stats"][1]["train"]
    assert "contrastive" not in stats and stats["loss"] == stats["mlm"]


@pytest.mark.parametrize("refresh", ["full", "on_the_fly"])
def test_two_processes_share_teachers_and_weights(text_corpus, tmp_path, refresh):
    argv = text_corpus.argv(*CYCLE, f"teacher_refresh={refresh}", label=True)
    train_in_two(f"{TASK}ClassifyTask", [*argv, "--output_dir", str(tmp_path / "e")])
    assert json.loads((tmp_path / "e/phase.json").read_text())["processes"] == 2
    stats = weights(tmp_path / "e/checkpoint.pth")["reporter"]["stats"]
    assert stats[2]["train"]["distillation"] > 0
    if refresh == "on_the_fly":  # rows of both processes are in the file of the first
        assert weights(tmp_path / "e/teacher.2epoch.pth")["known"].all()


def test_buckets_are_new_each_epoch_and_hold_everything():
    lengths = {f"u{i}": i % 17 for i in range(103)}
    sampler = BucketSampler(lengths, 10)
    one, two = sampler.generate(1), sampler.generate(2)
    assert len(one) == len(sampler) == 11 and one == sampler.generate(1)
    assert {len(b) for b in one} == {9, 10}
    for epoch in (one, two):
        assert sorted(u for b in epoch for u in b) == sorted(lengths)
    assert {frozenset(b) for b in one} != {frozenset(b) for b in two}
    spread = [max(lengths[u] for u in b) - min(lengths[u] for u in b) for b in one]
    assert sum(spread) / len(spread) < 3
    parts = [BucketSampler(lengths, 10, rank, 2).generate(1) for rank in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in one]


def test_random_batches_have_the_labels_of_the_corpus_and_sorted_ones_do_not():
    """Long texts are of one class here, as questions of TREC6 in part are."""
    lengths = {f"u{i}": 5 + (i % 4 == 0) * 10 + i % 7 for i in range(960)}

    def far(by_length):
        sampler = BucketSampler(lengths, 48, sorted_by_length=by_length)
        epochs = [sampler.generate(epoch) for epoch in (1, 2)]
        assert not {frozenset(b) for b in epochs[0]} & {frozenset(b) for b in epochs[1]}
        shares = [sum(lengths[u] > 14 for u in b) / len(b) for e in epochs for b in e]
        return sum(abs(share - 0.25) for share in shares) / len(shares)

    drawn = (2 * 0.25 * 0.75 / 48 / 3.1416) ** 0.5  # of a fair draw: E|x - p|, about
    assert far(by_length=False) < 1.3 * drawn and far(by_length=True) > 5 * drawn


def test_unknown_option_of_the_section_is_named(text_corpus, tmp_path):
    from espnet_ext.errors import UsageError

    argv = text_corpus.argv("tau_x=1", label=True)
    with pytest.raises(UsageError, match=re.escape("unknown key 'ml_lmcl.tau_x'")):
        run("ClassifyTask", argv, tmp_path / "e")


def test_more_samples_than_utterances_are_refused(text_corpus, tmp_path):
    from espnet_ext.errors import UsageError

    argv = text_corpus.argv("preset=pooled", "train_samples=41", label=True)
    with pytest.raises(UsageError, match="41 samples of 40"):
        run("ClassifyTask", argv, tmp_path / "e")
