# SPDX-License-Identifier: Apache-2.0
"""What stage decode writes is what the metrics read: concepts, words, retention."""

import json
from pathlib import Path

from dual_recipe import context

from espnet_ext.dual_task.stages import decode
from espnet_ext.recipe import environment
from espnet_ext.recipe.steps import score
from espnet_ext.scoring.record import load_record

METRICS = [
    *("concept", "concept_value", "wer_plain", "cer_plain", "retrieval", "retrieval_other"),
    *("cosine", "before_retrieval", "before_retrieval_other", "before_cosine"),
]
OUT = Path("exp/base/decode/greedy_ctc/valid")


def test_every_metric_finds_its_tables(dual_recipe, monkeypatch, committed):
    monkeypatch.chdir(dual_recipe)
    monkeypatch.setattr(environment, "versions", lambda: {"python": "3"})
    for phase in ("pretrain", "finetune"):
        cost = {"train_wall_s": 1.0, "peak_rss_mb": 1.0, "peak_gpu_mb": 0.0, "params": 5,
                "params_trained": 5, "epochs": 1, "updates": 3, "task": "dual"}  # fmt: skip
        for file, content in (("phase", cost), ("commits", []), ("identity", {})):
            Path(f"exp/base/{phase}/{file}.json").write_text(json.dumps(content))
    ctx = context("decode", score={"metrics": METRICS})
    decode.run(ctx, decode.plan(ctx))
    ctx = context("score", score={"metrics": METRICS})
    plan = score.plan(ctx)
    assert [p for p in plan.needs if not p.exists()] == []
    score.run(ctx, plan)
    found = load_record("results/base.json").sets["valid"]["greedy_ctc"].metrics
    assert found.keys() == {*METRICS}
    cosines = [float(x.split()[1]) for x in (OUT / "cosine").read_text().splitlines()]
    assert abs(found["cosine"].value - 100 * sum(cosines) / len(cosines)) < 1e-3
    assert {"concepts.tsv", "ref.concept.trn"} <= {p.name for p in (OUT / "slu").iterdir()}
    page = Path("RESULTS.md").read_text()
    assert "## CER (concepts) on valid" in page and "## Before and after the final" in page
