# SPDX-License-Identifier: Apache-2.0
"""Stage 5 killed while it measures: what lies there is of the model before, and nobody takes it."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from espnet_ext.errors import DataError
from espnet_ext.multistage.stages import pretrain, score
from espnet_ext.recipe import config, records
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context, find
from espnet_ext.recipe.steps import train
from espnet_ext.scoring import metrics

RECIPE = {
    "recipe": "toy/multistage1",
    "pretrain": {
        "config": "conf/x.yaml",
        "task": "espnet_ext.multistage.task:PretrainTask",
        "code": "espnet_ext.multistage.stages.pretrain",
        "model": "latest.pth",
    },
}
METRICS = metrics.load(["mae_audio"])


class Killed(BaseException):
    """Nothing catches it, as nothing catches a signal."""


class Errors(SimpleNamespace):
    """Of two clips."""

    predicted, own_mean, tokens = [1.0, 2.0], [2.0, 2.0], [4, 4]

    def constant(self):
        return np.array([2.0, 4.0])

    def deafness(self):
        return float("nan")


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Return ``run(killed_in)``: a training with a new model each time, then the measurement."""
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    Path("conf/x.yaml").write_text("{}")
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    ctx = Context(config.load(Path("recipe.yaml")), Options(ngpu=0), find("pretrain"))
    model = train.model_file(ctx, "pretrain")
    model.parent.mkdir(parents=True)
    monkeypatch.setattr(
        train, "run", lambda *_: model.write_text(f"{model.exists() and model.read_text()}+")
    )
    monkeypatch.setattr(pretrain, "_draw", lambda *_: None)
    reader = SimpleNamespace(clips={"a": 1, "b": 2}, short=0, batches=lambda: [])
    whole = pretrain.write_table

    def run(killed_in=""):
        def at(place, value):
            if place and killed_in == place:
                raise Killed
            return value

        def write_table(path, rows):
            whole(path, rows)
            at("write" if path.name == "mae_audio" else "", None)

        reading = SimpleNamespace(Reader=lambda *_: reader, load=lambda *_: None)
        found = SimpleNamespace(errors={"audio": Errors()}, embeddings={})
        measuring = SimpleNamespace(measure=lambda *_: at("measure", found))
        monkeypatch.setitem(sys.modules, "espnet_ext.multistage.clip_reading", reading)
        monkeypatch.setitem(sys.modules, "espnet_ext.multistage.measure", measuring)
        monkeypatch.setattr(pretrain, "write_table", write_table)
        pretrain.run(ctx, None)

    return ctx, run


@pytest.mark.parametrize("place", ["measure", "write"])
def test_a_measurement_of_the_model_before_is_not_believed(stage, place):
    ctx, run = stage
    run()
    before = json.loads((pretrain.out_dir(ctx) / "measure.json").read_text())
    assert score._score_clips(ctx, METRICS)[0] == before["set"]
    with pytest.raises(Killed):
        run(place)
    left = json.loads((pretrain.out_dir(ctx) / "measure.json").read_text())
    assert left == before  # whole, and of the model that it names
    with pytest.raises(DataError, match="measurement of pretrain is of another model"):
        score._score_clips(ctx, METRICS)
    plan = pretrain.plan(ctx)
    assert records.why_run(ctx, ctx.stage, plan, records.current(plan)) == "first run"
    run()
    after = json.loads((pretrain.out_dir(ctx) / "measure.json").read_text())
    assert after["model_sha256"] != before["model_sha256"]
    assert score._score_clips(ctx, METRICS)[0] == before["set"]


def test_killed_in_its_first_measurement_it_leaves_none(stage):
    ctx, run = stage
    with pytest.raises(Killed):
        run("write")
    assert not (pretrain.out_dir(ctx) / "measure.json").exists()
