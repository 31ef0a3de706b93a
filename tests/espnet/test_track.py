# SPDX-License-Identifier: Apache-2.0
"""Trackers: ESPnet's writers without network, MLflow by a stand-in that notes its calls."""

import json
import sys

import pytest

from espnet_ext.errors import SetupError, UsageError
from espnet_ext.espnet import train
from espnet_ext.installation import install
from espnet_ext.recipe import tracking

MLFLOW = """
import json, types
CALLS, RUN = [], []
def note(name):
    def call(*args, **more):
        CALLS.append([name, args, more])
    return call
set_tracking_uri, set_experiment = note("uri"), note("experiment")
log_params, log_metrics = note("params"), note("metrics")
def start_run(**more):
    CALLS.append(["start", (), more])
    RUN.append(types.SimpleNamespace(info=types.SimpleNamespace(run_id="r1")))
    return RUN[-1]
def active_run():
    return RUN[-1] if RUN else None
def end_run():
    RUN.clear()
"""


def run(tiny_argv, out, epochs, *more):
    train.run("asr", [*tiny_argv, "--output_dir", str(out), "--max_epoch", str(epochs), *more])


def test_mlflow_gets_each_epoch_and_a_resumed_training_its_run(tiny_argv, tmp_path, monkeypatch):
    (tmp_path / "mlflow.py").write_text(MLFLOW)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    options = tracking.options("mlflow", tmp_path / "exp", "finetune")
    run(tiny_argv, tmp_path / "exp/finetune", 1, *options)
    run(tiny_argv, tmp_path / "exp/finetune", 2, *options)
    mlflow = sys.modules.pop("mlflow")
    calls = [(name, args, more) for name, args, more in mlflow.CALLS if name != "params"]
    steps = [more["step"] for name, _, more in calls if name == "metrics"]
    assert steps == [1, 2] and mlflow.active_run() is None
    logged = [set(args[0]) for name, args, _ in calls if name == "metrics"]
    assert all({"train/loss", "valid/loss", "valid/acc"} <= names for names in logged)
    starts = [more for name, _, more in calls if name == "start"]
    assert starts == [{"run_name": "exp/finetune"}, {"run_id": "r1"}]
    assert calls[0][1] == (f"sqlite:///{tmp_path.resolve()}/exp/mlflow.db",)
    params = [args[0] for name, args, _ in mlflow.CALLS if name == "params"]
    assert max(map(len, params)) <= 100 and any("max_epoch" in part for part in params)
    json.dumps(params)


def test_tensorboard_by_espnets_writer(tiny_argv, tmp_path):
    pytest.importorskip("tensorboard")
    run(tiny_argv, tmp_path / "exp", 1, *tracking.options("tensorboard", tmp_path, "finetune"))
    assert list((tmp_path / "exp/tensorboard/train").iterdir())


def test_wandb_offline_by_espnets_writer(tiny_argv, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    assert "WANDB_MODE=online" in tracking.prepare_wandb()
    run(tiny_argv, tmp_path / "exp", 1, *tracking.options("wandb", tmp_path, "finetune"))
    monkeypatch.delenv("WANDB_MODE")
    assert list((tmp_path / "exp/wandb").glob("offline-run-*"))
    import wandb

    assert wandb.run is None  # ended: the next phase has a run of its own


@pytest.mark.parametrize("known", [{"WANDB_MODE": "online"}, {"WANDB_API_KEY": "x"}, {}])
def test_wandb_stays_online_with_a_key(known, tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ("none" if known else "netrc")))
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    assert tracking.prepare_wandb() == ""


def test_an_absent_package_is_told_before_anything_runs(monkeypatch):
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        tracking.check("wandbb")
    monkeypatch.setattr(tracking, "_installed", lambda name: False)
    for tracker in tracking.TRACKERS:
        with pytest.raises(SetupError, match=f"pip install .*{tracker}"):
            tracking.check(tracker)
    monkeypatch.setattr(tracking, "_installed", lambda name: name != "sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SetupError, match="mlflow-skinny"):
        tracking.check("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server")
    tracking.check("mlflow")
    tracking.check("")


def test_without_the_packages_of_curves_it_trains_and_says_so(
    tiny_argv, tmp_path, monkeypatch, caplog
):
    for package in train.CURVES:
        for module in [m for m in sys.modules if m.partition(".")[0] == package]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    with caplog.at_level("INFO", logger="espnet_ext.progress"):
        run(tiny_argv, tmp_path, 1, "--use_tensorboard", "true", "--use_matplotlib", "true")
    told = [r.getMessage() for r in caplog.records if "is not installed" in r.getMessage()]
    assert len(told) == 2 and install("tensorboard") in told[1]
    assert (tmp_path / "1epoch.pth").exists() and not (tmp_path / "tensorboard").exists()
