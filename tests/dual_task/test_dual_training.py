# SPDX-License-Identifier: Apache-2.0
"""Training through ESPnet's trainer: what each phase trains, writes, and refuses."""

import json

import pytest
import torch
import yaml

from espnet_ext.errors import EspnetExtError, UsageError
from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402

from espnet_ext.dual_task.task import DualTask, PretrainTask  # noqa: E402
from espnet_ext.espnet.verify import verify_stock  # noqa: E402

MODULE = "espnet_ext.dual_task.task"


def run(argv, out, *options, task="DualTask", more=()):
    given = [x for o in options for x in ("--dual_task", o)]
    train.run(f"{MODULE}:{task}", [*argv, *given, *more, "--output_dir", str(out)])
    return out


def config(out):
    return yaml.safe_load((out / "config.yaml").read_text())


@pytest.fixture(scope="module")
def trained(dual_argv, tmp_path_factory):
    """The dual schedule with a Bi-LSTM, three epochs."""
    return run(dual_argv, tmp_path_factory.mktemp("dual_exp") / "exp")


def test_both_losses_go_down_and_both_optimisers_step(trained):
    states = checkpoint.load(trained / "checkpoint.pth")
    encoder, other = states["optimizers"]
    assert len(states["optimizers"]) == 2
    for state in (encoder, other):  # every parameter of each group has moved
        assert len(state["state"]) == sum(len(g["params"]) for g in state["param_groups"])
    assert other["param_groups"][0]["rho"] == 0.95 and other["param_groups"][0]["lr"] <= 1.0
    spent = json.loads((trained / "spent.json").read_text())
    assert len(spent) == 3 and all(e["updates"] == e["batches"] == 3 for e in spent.values())
    for epoch in spent.values():  # what `espnet-ext report` draws
        assert {*epoch["curves"]} == {"train", "valid"}
        assert all("loss" in means and "time" not in means for means in epoch["curves"].values())


def test_stock_espnet_refuses_a_model_with_a_bi_lstm(trained):
    assert config(trained)["model"] == "dual_task"
    with pytest.raises(ValueError, match="dual_task"):
        StockASRTask.build_model_from_file(
            trained / "config.yaml", trained / "valid.loss.best.pth", "cpu"
        )
    with pytest.raises(EspnetExtError, match="stock ESPnet cannot build"):
        verify_stock(trained / "config.yaml", trained / "valid.loss.best.pth")


def test_ours_loads_it_without_store_and_phones(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    changed = config(trained)
    changed["dual_task"] |= {"sentences": "gone", "phones": "gone"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(changed))
    weights = trained / "valid.loss.best.pth"
    model, _ = DualTask.build_model_from_file(tmp_path / "config.yaml", weights, "cpu")
    saved = checkpoint.load(weights)
    assert model.state_dict().keys() == saved.keys()
    assert all(torch.equal(v, saved[k]) for k, v in model.state_dict().items())
    assert {k.split(".")[0] for k in saved} >= {"encoder", "ctc", "slu", "pooling"}


@pytest.fixture(scope="module")
def without_head(dual_argv, tmp_path_factory):
    """The SLU schedule, with nothing between encoder and CTC."""
    out = tmp_path_factory.mktemp("slu_exp") / "exp"
    options = ("schedule=slu", "blstm_layers=0", "linear_blocks=0")
    return run(dual_argv, out, *options, more=["--max_epoch", "1"])


def test_without_a_head_stock_espnet_computes_the_same(without_head):
    weights = without_head / "valid.loss.best.pth"
    assert config(without_head)["model"] == "espnet"
    assert not verify_stock(without_head / "config.yaml", weights).missing
    stock, _ = StockASRTask.build_model_from_file(without_head / "config.yaml", weights, "cpu")
    ours, _ = DualTask.build_model_from_file(without_head / "config.yaml", weights, "cpu")
    speech, lengths = torch.randn(2, 16000), torch.tensor([16000, 12000])
    with torch.inference_mode():
        encoded, frames = stock.eval().encode(speech, lengths)
        wanted = stock.ctc.log_softmax(encoded)
        encoded, frames = ours.eval().encode(speech, lengths)
        assert torch.equal(ours.slu_logits(encoded, frames).log_softmax(-1), wanted)


def test_the_slu_schedule_leaves_the_pooling_head_alone(without_head, dual_argv, tmp_path):
    """So that what is forgotten can be measured with it."""
    before = PretrainTask  # the class is imported: its parser must know the options
    assert before.role == "pretrain"
    start = run(dual_argv, tmp_path / "exp", "schedule=slu", "blstm_layers=0", "linear_blocks=0",
                more=["--max_epoch", "1", "--seed", "3", "--optim_conf", "lr=0.0"])  # fmt: skip
    ours, theirs = (checkpoint.load(p / "1epoch.pth") for p in (start, without_head))
    for name, value in ours.items():
        if name.startswith("pooling."):
            assert torch.equal(value, theirs[name])
    assert any(not torch.equal(v, theirs[k]) for k, v in ours.items() if k.startswith("encoder."))


@pytest.mark.parametrize(
    ("task", "options", "trains", "rests"),
    [
        ("PretrainTask", (), {"encoder", "pooling", "phone_head"}, {"ctc"}),
        ("PretrainTask", ("pretrain=phones",), {"encoder", "phone_head"}, {"ctc", "pooling"}),
        ("SpecialiseTask", ("schedule=sequential",), {"encoder", "pooling"}, {"ctc"}),
        ("DualTask", (), {"encoder", "pooling", "slu", "ctc"}, set()),
        ("DualTask", ("schedule=sequential",), {"encoder", "slu", "ctc"}, {"pooling"}),
        ("DualTask", ("schedule=samu",), {"encoder", "pooling"}, {"ctc"}),
    ],
)
def test_every_tensor_that_a_phase_trains_changes_and_no_other(
    task, options, trains, rests, dual_argv, tmp_path, monkeypatch
):
    from espnet_ext.dual_task import trainer

    first = {}
    start = trainer.DualTaskTrainer._check_start.__func__

    def noting(cls, model):
        first.update({k: v.clone() for k, v in model.named_parameters()})
        return start(cls, model)

    monkeypatch.setattr(trainer.DualTaskTrainer, "_check_start", classmethod(noting))
    out = run(dual_argv, tmp_path / "exp", *options, task=task, more=["--max_epoch", "1"])
    saved = checkpoint.load(out / "1epoch.pth")
    assert {k.split(".")[0] for k in first} == trains | rests
    for name, value in first.items():
        same = torch.equal(value, saved[name])
        # A bias that all scores of a softmax share has no effect: its gradient is 0 in theory.
        shared = name.endswith(("linear_k.bias", "pooling.score.bias"))
        assert same == (name.split(".")[0] in rests) or shared, name


def test_what_is_missing_is_told_before_training(dual_argv, tmp_path):
    lacks = [x for x in dual_argv if x != "samu_scale=1" and not x.endswith("/sentences")]
    lacks = [x for i, x in enumerate(lacks) if x != "--dual_task" or "=" in lacks[i + 1]]
    with pytest.raises(UsageError, match="samu_scale is not given"):
        run(lacks, tmp_path / "exp")
    with pytest.raises(EspnetExtError, match="there are no sentence embeddings"):
        run(dual_argv, tmp_path / "exp", "sentences=dump/none")
    (tmp_path / "plain").write_text("train00 prego\n")
    other = [x if not x.endswith("train/plain,sentence,text") else f"{tmp_path}/plain,sentence,text"
             for x in dual_argv]  # fmt: skip
    with pytest.raises(EspnetExtError, match="no sentence vector of 'prego'"):
        run(other, tmp_path / "exp")
    gone = [x for x in dual_argv if not x.endswith("plain,sentence,text")]
    gone = [x for i, x in enumerate(gone) if not x.startswith("--") or i + 1 == len(gone)
            or not gone[i + 1].startswith("--")]  # fmt: skip
    with pytest.raises(UsageError, match="lack the stream 'sentence'"):
        run(gone, tmp_path / "exp")
    with pytest.raises(UsageError, match="by CTC alone"):
        run(dual_argv, tmp_path / "exp", more=["--model_conf", "ctc_weight=0.5"])
