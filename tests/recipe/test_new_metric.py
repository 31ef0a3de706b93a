# SPDX-License-Identifier: Apache-2.0
"""A metric of one file and a line of recipe.yaml: scored, recorded, shown, compared and swept."""

import json
from pathlib import Path

import pytest
import yaml

from espnet_ext.data.tables import write_table
from espnet_ext.recipe import config, environment, experiments, runner, sweep, sweep_results
from espnet_ext.recipe.options import Options, parse
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import Context, find
from espnet_ext.recipe.steps import score
from espnet_ext.scoring.metrics import find as find_metric
from espnet_ext.scoring.record import load_record

# Not a share of two counts, and higher is better: nothing of a word error rate.
F1 = '''
"""F1 of the words found, whatever their order."""

from collections import Counter

import numpy as np

from espnet_ext.scoring.metrics import Metric


def count(ref, hyp):
    ref, hyp = Counter(ref.split()), Counter(hyp.split())
    hit = (ref & hyp).total()
    return hit, hyp.total() - hit, ref.total() - hit


METRIC = Metric(
    name="f1",
    title="Word F1",
    better="higher",
    counts=("hit", "extra", "lost"),
    score=lambda refs, hyps: np.array([count(r, h) for r, h in zip(refs, hyps, strict=True)]),
    value=lambda t: 200 * t[..., 0] / (2 * t[..., 0] + t[..., 1] + t[..., 2]),
    columns={"Lost (%)": ("lost", "hit")},
    note="Words found, whatever their order.",
)
'''
REFS = {f"u{i:02d}": f"a{i} b{i} c{i} d{i}" for i in range(40)}
PHASE = {"train_wall_s": 9.0, "peak_rss_mb": 1.0, "peak_gpu_mb": 0.0, "params": 5,
         "params_trained": 5, "epochs": 1, "updates": 7, "task": "asr"}  # fmt: skip


@pytest.fixture
def recipe(folder, monkeypatch, committed):
    monkeypatch.setattr(environment, "versions", lambda: {"python": "3"})
    sections = {"finetune": {"config": "train.yaml", "model": "m.pth"}, "decode": {}}
    folder.recipe(**sections, score={"metrics": ["wer", "local.f1:METRIC"]},
                  results={"planned": {"system": "good", "against": "base"}})  # fmt: skip
    folder.write("train.yaml", "max_epoch: 1\n")
    folder.write("local/f1.py", F1)
    for name in ("dev", "test"):
        write_table(Path("data") / name / "text", REFS)
    return folder


def run(*argv):
    """Take the place of the stages before the score stage: seed and system decide the errors."""
    opts = parse(list(argv), {*Recipe.__dataclass_fields__})
    made = config.load(Path("recipe.yaml"), opts.overrides)
    ctx = Context(made, Options(ngpu=0, argv=list(argv)), find("score"))
    phase = Path("exp") / made.name / "finetune"
    phase.mkdir(parents=True)
    (phase / "m.pth").write_text(made.name)
    for file, content in (("phase", PHASE), ("commits", []), ("identity", {"x": 1})):
        (phase / f"{file}.json").write_text(json.dumps(content))
    wrong = made.finetune.args.get("wrong", 20) + made.seed
    hyps = {u: "a0 b0" if i < wrong else t for i, (u, t) in enumerate(REFS.items())}
    for name in ("dev", "test"):
        out = Path("exp") / made.name / "decode/greedy_ctc" / name
        write_table(out / "text", hyps)
        (out / "decode.json").write_text(json.dumps({"wall_s": 1.0, "audio_s": 4.0, "rtf": 0.25}))
    plan = score.plan(ctx)
    assert Path("local/f1.py") in plan.inputs  # scores follow the metric's file
    score.run(ctx, plan)
    return ctx


def test_it_is_scored_recorded_shown_and_compared(recipe):
    for seed in ("1", "2", "3"):
        run("--name", f"base_s{seed}", "--group", "base", "--seed", seed)
        ctx = run("--name", f"good_s{seed}", "--group", "good", "--seed", seed,
                  "--finetune.args.wrong", "5")  # fmt: skip
    assert "Word F1 " in score.summary(ctx)[0] and "WER " in score.summary(ctx)[0]
    metric = find_metric("local.f1:METRIC")
    record = load_record("results/good_s3.json")
    counted = record.counted("test", "greedy_ctc", metric)
    assert counted.counts.shape == (40, 3) and counted.counts.sum() > 0
    hit, extra, lost = counted.counts.sum(axis=0)
    expected = 200 * hit / (2 * hit + extra + lost)
    assert record.sets["test"]["greedy_ctc"].value(metric) == pytest.approx(expected)
    page = Path("RESULTS.md").read_text()
    rows = [x for x in page.splitlines() if x.startswith("| test | Word F1 | base | good |")]
    row, by_seed = rows
    # Down by 34 points, which is worse here.
    assert row.endswith("| worse |") and "| 53.61 | 87.57 | -33.96 |" in row
    assert "| -33.50 | -33.96 | -34.43 |" in by_seed
    assert "### Word F1 on test" in page and "Words found, whatever their order." in page


def test_it_is_swept(recipe, monkeypatch):
    drawn, lines = [], []
    monkeypatch.setattr(experiments, "build_all", lambda *args: None)  # the option is made up
    monkeypatch.setattr(runner, "main", lambda argv: run(*argv) and 0)
    monkeypatch.setattr(sweep_results, "plot_sweep", lambda *a: drawn.append(a))
    monkeypatch.setattr(sweep_results, "say", lines.append)
    grid = {"name": "wrong", "key": "finetune.args.wrong", "values": [5, 20], "seeds": [1, 2]}
    for metric in ("f1", "local.f1:METRIC"):
        grid |= {"metric": metric, "name": metric.replace(":", "-")}
        recipe.write("grid.yaml", yaml.safe_dump(grid))
        assert sweep.main(["grid.yaml"]) == 0
        points, _, y_label, _ = drawn.pop()
        assert points[0].mean > points[1].mean > 0
        assert "Word F1 (%) on dev" in " ".join(y_label.split())
        assert all(p.low < p.mean < p.high for p in points)
    assert any("Word F1 (%)" in line for line in lines)
