# SPDX-License-Identifier: Apache-2.0
"""Stage 9 scores what the present model decoded, and only that, by every metric that is named."""

import json
import os

import pytest
import yaml

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.files import sha256_file
from espnet_ext.recipe import config, environment
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context, find
from espnet_ext.recipe.steps import score
from espnet_ext.scoring.record import load_record

REFS = {"u1": "one two", "u2": "three"}
COST = {"train_wall_s": 9.0, "peak_rss_mb": 1.0, "peak_gpu_mb": 0.0, "params": 5,
        "params_trained": 5, "epochs": 1, "updates": 7, "task": "asr"}  # fmt: skip
MODEL = "exp/base/finetune/m.pth"


@pytest.fixture
def ctx(tmp_path, monkeypatch, committed):
    """A recipe's folder with a trained model, decoded greedily."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "versions", lambda: {"python": "3"})
    monkeypatch.setattr(environment, "describe_device", lambda: "the scoring machine")
    recipe = {
        "recipe": "toy/asr1",
        "finetune": {"config": "train.yaml", "model": "m.pth"},
        "decode": {},
        "score": {"metrics": ["wer", "cer"]},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "train.yaml").write_text("max_epoch: 1\n")
    for name in ("dev", "test"):
        write_table(tmp_path / "data" / name / "text", REFS)
    train(tmp_path, "weights")
    decode(tmp_path, "greedy_ctc")
    return load(tmp_path)


def load(root, *overrides):
    recipe = config.load(root / "recipe.yaml", overrides)
    return Context(recipe, Options(ngpu=0), find("score"))


def train(root, weights, **cost):
    phase = (root / MODEL).parent
    phase.mkdir(parents=True, exist_ok=True)
    (root / MODEL).write_text(weights)
    for file, content in (("phase", {**COST, **cost}), ("commits", []), ("identity", {"x": 1})):
        (phase / f"{file}.json").write_text(json.dumps(content))


def decode(root, method, hyps=REFS, digest=True):
    for name in ("dev", "test"):
        out = root / "exp/base/decode" / method / name
        write_table(out / "text", hyps)
        cost = {"wall_s": 0.5, "audio_s": 2.0, "rtf": 0.25}
        if digest:
            cost["model_sha256"] = sha256_file(root / MODEL)
        (out / "decode.json").write_text(json.dumps(cost))


def run(ctx):
    score.run(ctx, score.plan(ctx))
    return load_record("results/base.json")


def test_every_metric_is_recorded_and_said(ctx, tmp_path):
    decode(tmp_path, "greedy_ctc", {**REFS, "u1": "one"})
    record = run(ctx)
    assert [*record.sets["test"]["greedy_ctc"].metrics] == ["cer", "wer"]
    assert score.summary(ctx)[1].startswith("test: ")
    assert all("WER 33.33 %" in line for line in score.summary(ctx))
    assert "| 33.33" in (tmp_path / "RESULTS.md").read_text()


def test_another_method_counts_as_long_as_the_model_is_the_same(ctx, tmp_path):
    decode(tmp_path, "beam")
    assert run(ctx).sets["test"].keys() == {"greedy_ctc", "beam"}
    train(tmp_path, "trained for longer", epochs=2)
    decode(tmp_path, "greedy_ctc")
    assert run(ctx).sets["test"].keys() == {"greedy_ctc"}


@pytest.mark.parametrize("digest", [True, False])
def test_hypotheses_of_an_older_model_are_refused(ctx, tmp_path, digest):
    decode(tmp_path, "greedy_ctc", digest=digest)
    train(tmp_path, "another model")
    os.utime(tmp_path / MODEL, (4e9, 4e9))
    with pytest.raises(DataError, match="another model") as err:
        run(ctx)
    assert err.value.how == "./run.sh --stage decode"


@pytest.mark.parametrize("key", ["max_epoch", "keep_nbest_models"])
def test_a_training_of_other_length_is_another_configuration(ctx, tmp_path, key):
    other = load(tmp_path, (f"finetune.args.{key}", "3"))
    assert score.plan(ctx).settings != score.plan(other).settings
    assert run(ctx).config_sha256 != run(other).config_sha256


def test_the_device_is_that_of_the_training(ctx, tmp_path):
    assert run(ctx).device == "the scoring machine"  # an older training did not tell
    train(tmp_path, "weights", devices=["1 x H100", "1 x A100"])
    assert run(ctx).device == "1 x H100; 1 x A100"


def test_metrics_that_do_not_exist_are_found_in_the_plan(tmp_path, ctx):
    for metrics in ("[wor]", "[]", "[wer, wer]", "[nowhere:x]"):
        with pytest.raises(UsageError, match=r"score\.metrics"):
            score.plan(load(tmp_path, ("score.metrics", metrics)))


SLU = ("concept", "concept_value", "wer_plain", "cer_plain")


def test_tagged_text_is_scored_by_every_rule_and_its_files_are_written(
    ctx, tmp_path, monkeypatch, capfd
):
    pytest.importorskip("matplotlib")
    for name in ("dev", "test"):
        write_table(tmp_path / "data" / name / "text", {"u1": "<a> x > <b> y >", "u2": "oui"})
    decode(tmp_path, "greedy_ctc", {"u1": "<a> x > <b> z >", "u2": "<a> oui >"})
    ctx = load(tmp_path, ("score.metrics", f"[{', '.join(SLU)}]"))
    record = run(ctx)
    scored = record.sets["test"]["greedy_ctc"].metrics
    assert {name: scored[name].value for name in SLU[:2]} == {"concept": 50, "concept_value": 100}
    page = (tmp_path / "RESULTS.md").read_text()
    assert "## CER (concepts) on test" in page
    assert "| SpeechBrain | skip |" in page and "| ChER |" in page
    assert "## CVER on dev by other rules" in page
    out = tmp_path / "exp/base/decode/greedy_ctc/test/slu"
    assert {"concepts.tsv", "confusion.png", "ref.concept.trn"} <= {p.name for p in out.iterdir()}

    def no_matplotlib(path, *args, **kwargs):
        raise SetupError("drawing needs matplotlib", path, "pip install it")

    monkeypatch.setattr("espnet_ext.scoring.intent_plots.new_figure", no_matplotlib)
    run(ctx)
    assert "no picture for CER (concepts)" in capfd.readouterr().out
    assert not (out / "confusion.png").exists() and (out / "errors.txt").exists()


def test_a_set_without_concepts_is_scored_and_shown(ctx, tmp_path):
    """Rules but SpeechBrain's have no denominator then: all that was found is wrong."""
    write_table(tmp_path / "data/dev/text", {"u1": "oui", "u2": "non"})
    decode(tmp_path, "greedy_ctc", {"u1": "oui", "u2": "non"})
    write_table(tmp_path / "exp/base/decode/greedy_ctc/dev/text", {"u1": "<a> oui >", "u2": "non"})
    record = run(load(tmp_path, ("score.metrics", "[concept]")))
    values = {name: s["greedy_ctc"].metrics["concept"].value for name, s in record.sets.items()}
    assert values == {"dev": 100.0, "test": 0.0}
    page = (tmp_path / "RESULTS.md").read_text()
    assert "| base | 100.00 | 50.00 | – | – | 50.00 | – |" in page
