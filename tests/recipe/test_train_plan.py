# SPDX-License-Identifier: Apache-2.0
"""What a training phase is given: where it starts from, ESPnet's options, when it starts anew."""

import argparse
import importlib.machinery
import json
import shlex
import sys
import types
from pathlib import Path

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.installation import install
from espnet_ext.recipe import records, stages
from espnet_ext.recipe.steps import argv, earlier, train

STREAMS = [
    {"name": "speech", "file": "wav.scp", "type": "sound"},
    {"name": "text", "file": "text", "type": "text"},
]
ARGS = {
    "max_epoch": 7,
    "use_amp": True,
    "use_wandb": False,
    "grad_clip": 1e-05,
    "patience": None,
    "encoder": "transformer",
    "keep_nbest_models": [3, 1],
    "freeze_param": ["encoder.embed", "decoder"],
    "fold_length": [800, 150],
    "best_model_criterion": [["valid", "acc", "max"], ["train", "loss", "min"]],
    "val_scheduler_criterion": ["train", "acc"],
    "optim_conf": {"lr": 1e-05, "betas": [0.9, 0.98]},
    "encoder_conf": {
        "output_size": 16,
        "input_layer": None,
        "normalize_before": True,
        "note": "a=b: true 'x'",
        "text": "1e-5",
        "sub": {"a": [1, {"b": None}]},
    },
}


@pytest.fixture(scope="module")
def parser():
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    from espnet_ext.espnet.task import ASRTask

    return ASRTask.get_parser()


@pytest.fixture
def plan_of(folder):
    """Return ``plan_of(stage, **phases) -> (context, plan)``."""
    folder.write("conf/train.yaml", "optim_conf: {lr: 1, weight_decay: 2}\nmax_epoch: 3\n")

    def make(stage: str, **phases):
        full = {
            k: {"config": "conf/train.yaml", "streams": STREAMS, **v} for k, v in phases.items()
        }
        folder.recipe(format={}, tokens={"type": "char"}, seed=5, **full)
        ctx = folder.context(stage)
        return ctx, stages.plan(ctx, ctx.stage)

    return make


def test_init_names_phases_and_files(plan_of):
    init = ["pretrain:encoder:encoder", "midtrain", "pretrain:a:b:c", "other/m.pth:x"]
    ctx, plan = plan_of(
        "finetune", pretrain={"model": "5epoch.pth"}, midtrain={}, finetune={"init": init}
    )
    files = [
        "exp/base/pretrain/5epoch.pth:encoder:encoder",
        "exp/base/midtrain/valid.acc.ave.pth",
        "exp/base/pretrain/5epoch.pth:a:b:c",
        "other/m.pth:x",
    ]
    assert train.init_params(ctx) == files
    argv = train.train_argv(ctx)
    at = argv.index("--init_param")
    assert argv[at + 1 : at + 5] == files
    assert argv.count("--init_param") == 1
    assert {Path(f.split(":")[0]) for f in files} <= set(plan.needs)


@pytest.mark.parametrize(
    ("stage", "phases", "says"),
    [
        (
            "pretrain",
            {"pretrain": {"init": ["finetune"]}, "finetune": {}},
            "cannot start from finetune",
        ),
        ("finetune", {"finetune": {"init": ["finetune:a"]}}, "cannot start from finetune"),
        ("finetune", {"finetune": {"init": ["pretrain:a:a"]}}, "no phase 'pretrain'"),
    ],
)
def test_init_from_a_phase_that_is_not_before(plan_of, stage, phases, says):
    with pytest.raises(UsageError, match=says) as e:
        plan_of(stage, **phases)
    assert f"{stage}.init" in str(e.value)


def test_configuration_file_that_is_not_there_or_broken(plan_of, folder):
    with pytest.raises(UsageError, match=r"no configuration conf/trian.yaml(.|\n)*conf/train.yaml"):
        plan_of("finetune", finetune={"config": "conf/trian.yaml"})
    folder.write("conf/list.yaml", "- a\n")
    with pytest.raises(UsageError, match="key: value lines"):
        plan_of("finetune", finetune={"config": "conf/list.yaml"})
    folder.write("conf/bad.yaml", "a: 1\nb: c: d\n")
    with pytest.raises(UsageError, match=r"conf/bad\.yaml:2"):
        plan_of("finetune", finetune={"config": "conf/bad.yaml"})
    folder.write("conf/empty.yaml", "")
    assert plan_of("finetune", finetune={"config": "conf/empty.yaml"})[1].settings["config"] == {
        "seed": 5
    }


def test_options_arrive_in_the_parser(plan_of, parser):
    ctx, plan = plan_of(
        "finetune", pretrain={}, finetune={"args": ARGS, "init": ["pretrain:a", "x:b"]}
    )
    got = parser.parse_args(train.train_argv(ctx))
    expected = {k: v for k, v in ARGS.items() if k not in ("best_model_criterion", "optim_conf")}
    assert {k: getattr(got, k) for k in expected} == expected
    assert [list(x) for x in got.best_model_criterion] == ARGS["best_model_criterion"]
    assert got.init_param == ["exp/base/pretrain/valid.acc.ave.pth:a", "x:b"]
    assert got.seed == 5
    # The record of the stage says what ESPnet's parser makes of file and options together.
    assert got.optim_conf == {"lr": 1e-05, "betas": [0.9, 0.98], "weight_decay": 2}
    assert plan.settings["config"]["optim_conf"] == got.optim_conf
    assert got.output_dir == "exp/base/finetune"
    assert (got.token_type, got.token_list) == ("char", "dump/tokens_char/tokens.txt")
    assert got.resume is True


def test_streams_arrive_in_the_parser(plan_of, parser):
    extra = {"u": {"set": "unlabelled"}, "v": {"set": "video", "streams": STREAMS}}
    ctx, plan = plan_of("pretrain", pretrain={"extra_data": extra, "valid": "dev2"})
    got = parser.parse_args(train.train_argv(ctx))
    assert [tuple(x) for x in got.train_data_path_and_name_and_type] == [
        ("dump/train/wav.scp", "speech", "sound"),
        ("dump/train/text", "text", "text"),
    ]
    stats = "exp/base/stats/pretrain"
    assert got.valid_data_path_and_name_and_type[0][0] == "dump/dev2/wav.scp"
    assert got.train_shape_file == [f"{stats}/train/speech_shape", f"{stats}/train/text_shape"]
    assert got.valid_shape_file[1] == f"{stats}/valid/text_shape"
    assert got.stream_data_path_and_name_and_type == [
        ("u", "dump/unlabelled/wav.scp", "speech", "sound"),
        ("v", "dump/video/wav.scp", "speech", "sound"),
        ("v", "dump/video/text", "text", "text"),
    ]
    assert got.stream_shape_file == [
        ("u", f"{stats}/u/speech_shape"),
        ("v", f"{stats}/v/speech_shape"),
        ("v", f"{stats}/v/text_shape"),
    ]
    assert Path("dump/unlabelled/wav.scp") in plan.needs


def test_repeated_options_are_those_of_the_parser(parser):
    append = {a.dest for a in parser._actions if isinstance(a, argparse._AppendAction)}
    assert append == argv.REPEATED
    assert {a.dest for a in parser._actions} >= earlier.EXTENDABLE


def test_stock_commands_can_be_pasted(plan_of):
    _, plan = plan_of("finetune", finetune={"args": {"encoder_conf": {"note": "a b"}}})
    collect, run = (shlex.split(x) for x in plan.stock)
    assert collect[:3] == run[:3] == ["python", "-m", "espnet2.bin.asr_train"]
    assert collect[collect.index("--collect_stats") + 1] == "true"
    assert "--collect_stats" not in run
    assert "note=a b" in run
    _, plan = plan_of("finetune", finetune={"task": "some.module:Task"})
    own = ["python", "-m", "espnet_ext.espnet.train", "some.module:Task"]
    assert shlex.split(plan.stock[1])[:4] == own


def test_global_mvn_finds_its_statistics(plan_of):
    ctx, _ = plan_of("finetune", finetune={"args": {"normalize": "global_mvn"}})
    argv = train.train_argv(ctx)
    at = argv.index("--normalize_conf")
    assert argv[at + 1] == "stats_file=exp/base/stats/finetune/train/feats_stats.npz"


@pytest.fixture
def trained(plan_of, folder):
    """Return ``trained(**args)``: prepare the phase's folder and tell which folders there are."""
    folder.write("dump/tokens_char/tokens.txt", "a\n")

    def start(task="asr", **args):
        ctx, plan = plan_of("finetune", finetune={"args": args, "task": task})
        out = ctx.phase_dir("finetune")
        earlier.set_aside_if_changed(plan, train.phase_of(ctx).task, out)
        if not (out / "checkpoint.pth").exists():
            (out / "checkpoint.pth").write_text(str(args))
        return {p.name: (p / "checkpoint.pth").read_text() for p in out.parent.glob("finetune*")}

    return start


def test_more_epochs_keep_the_checkpoint(trained):
    first = trained(max_epoch=3, optim_conf={"lr": 1})
    assert list(first) == ["finetune"]
    assert trained(max_epoch=9, patience=2, optim_conf={"lr": 1}) == first


def test_a_method_names_options_of_its_own_that_change_nothing(trained):
    """The cache of a frozen encoder may be switched on or off in the middle; the freeze may not."""
    task = "espnet_ext.multistage.recognition.task:RecognitionTask"
    first = trained(task)
    for section in ({"cache_mb": 0}, {"cache_mb": 9.5}, {}):
        assert trained(task, multistage=section) == first
    assert "finetune.old1" in trained(task, multistage={"freeze": "none", "cache_mb": 0})
    assert "finetune.old2" not in trained(task, multistage={"freeze": "none"})


def test_what_has_become_free_since_is_not_held_against_a_checkpoint(trained):
    first, marker = trained(max_epoch=3), Path("exp/base/finetune/identity.json")
    before = json.loads(marker.read_text())
    marker.write_text(json.dumps({**before, "config": {**before["config"], "patience": 1}}))
    assert trained(max_epoch=3) == first


def test_another_training_is_set_aside_and_nothing_is_lost(trained, capfd, folder):
    first, second = trained(optim_conf={"lr": 1})["finetune"], "{'optim_conf': {'lr': 2}}"
    assert trained(optim_conf={"lr": 2}) == {"finetune": second, "finetune.old1": first}
    said = capfd.readouterr().out
    assert "config.optim_conf.lr" in said
    assert "exp/base/finetune.old1" in said
    assert trained(optim_conf={"lr": 1}).keys() == {"finetune", "finetune.old1", "finetune.old2"}
    folder.write("dump/tokens_char/tokens.txt", "b\n")
    assert "finetune.old3" in trained(optim_conf={"lr": 1})
    assert "inputs.dump/tokens_char/tokens.txt" in capfd.readouterr().out


def test_a_folder_of_unknown_origin_is_set_aside(trained):
    Path("exp/base/finetune").mkdir(parents=True)
    Path("exp/base/finetune/checkpoint.pth").write_text("whose?")
    assert trained()["finetune.old1"] == "whose?"


def test_changed_configuration_file_is_noticed_below_an_override(plan_of, folder):
    """An override of optim_conf.lr must not hide the file's other optim_conf values."""
    args = {"optim_conf": {"lr": 3}}
    ctx, plan = plan_of("finetune", finetune={"args": args})
    records.write(ctx, ctx.stage, plan, records.current(plan), 0)
    for path in plan.makes:
        folder.write(path, "")
    folder.write("conf/train.yaml", "max_epoch: 3\noptim_conf: {lr: 9, weight_decay: 7}\n")
    plan = stages.plan(ctx, ctx.stage)
    why = records.why_run(ctx, ctx.stage, plan, records.current(plan))
    assert why == "changed: config.optim_conf.weight_decay"


def test_shapes_of_a_further_stream(plan_of, folder):
    from espnet_ext.recipe.schema import Stream

    folder.write("dump/u/utt2num_samples", "a 16000\nb 8000\n")
    folder.write("dump/u/text", "a x y z\nb \n")
    streams = [Stream("speech", "wav.scp", "sound"), Stream("text", "text", "text")]
    train.write_stream_shapes(folder.path / "out", "u", streams)
    assert Path("out/speech_shape").read_text() == "a 16000\nb 8000\n"
    assert Path("out/text_shape").read_text() == "a 3\nb 0\n"


def test_the_stand_in_for_a_package_of_espnet_is_not_the_package(folder, monkeypatch):
    """It is imported before stages are planned again, and stock ESPnet alone has none."""
    folder.write("conf/t.yaml", "model_conf: {report_cer: true}\n")
    folder.recipe(finetune={"config": "conf/t.yaml"})
    ctx = folder.context("finetune")
    monkeypatch.setitem(sys.modules, "editdistance", types.ModuleType("editdistance"))
    assert install("editdistance") in train.plan(ctx).notes[0]
    package = types.ModuleType("editdistance")
    package.__spec__ = importlib.machinery.ModuleSpec("editdistance", None)
    monkeypatch.setitem(sys.modules, "editdistance", package)
    assert train.plan(ctx).notes == []
