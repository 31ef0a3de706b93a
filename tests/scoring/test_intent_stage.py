# SPDX-License-Identifier: Apache-2.0
"""Stage 9 of a text recipe on predictions made by hand."""

import json
import os
import sys

import numpy as np
import pytest
import yaml

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file
from espnet_ext.ml_lmcl.stages import score
from espnet_ext.recipe import config, environment
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context, find
from espnet_ext.scoring import metrics
from espnet_ext.scoring.record import load_record

ACCURACY = metrics.find("accuracy")
HEADS = ("scenario", "action")
LABELS = {"u1": "email query", "u2": "email send", "u3": "play music", "u4": "play query"}
FOUND = {**LABELS, "u2": "email query", "u3": "email query"}
ASR_ERRORS = {"u1": "0 4", "u2": "2 4", "u3": "4 4", "u4": "1 4"}
STAGES = "espnet_ext.ml_lmcl.stages"
COST = {"train_wall_s": 9.0, "peak_rss_mb": 1.0, "peak_gpu_mb": 0.0, "params": 5,
        "params_trained": 5, "epochs": 1, "updates": 7, "task": "t"}  # fmt: skip


@pytest.fixture
def ctx(tmp_path, monkeypatch, committed):
    """A recipe's folder, decoded by the ASR model, and its context."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment, "versions", lambda: {"python": "3"})
    monkeypatch.setattr(environment, "describe_device", lambda: "a CPU")
    recipe = {
        "recipe": "slurp/ml_lmcl1",
        "data": {"valid": "valid", "test": ["test"]},
        "format": {"code": f"{STAGES}.format", "args": {"heads": [*HEADS]}},
        "finetune": {
            "task": "espnet_ext.ml_lmcl.task:ClassifyTask",
            "config": "finetune.yaml",
            "model": "m.pth",
        },
        "decode": {"code": f"{STAGES}.decode", "args": {"inference_model": "asr"}},
        "score": {"code": f"{STAGES}.score"},
        "results": {"planned": {"system": "base", "against": "other"}},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "finetune.yaml").write_text("max_epoch: 1\n")
    for name in ("valid", "test"):
        write_table(tmp_path / "data" / name / "label", LABELS)
        for kind in ("text_manual", "text_asr"):
            write_table(tmp_path / "data" / name / kind, {u: f"{kind} of {u}" for u in LABELS})
        write_table(tmp_path / "dump" / name / "asr_errors", ASR_ERRORS)
    (tmp_path / "dump/labels").mkdir()
    for i, head in enumerate(HEADS):
        names = sorted({v.split()[i] for v in LABELS.values()})
        (tmp_path / f"dump/labels/{head}.txt").write_text("\n".join(names) + "\n")
    phase = tmp_path / "exp/base/finetune"
    phase.mkdir(parents=True)
    (phase / "m.pth").touch()
    for file, content in (("phase", COST), ("commits", []), ("identity", {"x": 1})):
        (phase / f"{file}.json").write_text(json.dumps(content))
    decode(tmp_path, "asr", FOUND)
    return Context(config.load(tmp_path / "recipe.yaml"), Options(ngpu=0), find("score"))


def decode(root, method, found, sets=("valid", "test")):
    for name in sets:
        out = root / "exp/base/decode" / method / name
        write_table(out / "prediction", found)
        cost = {"wall_s": 0.5, "utterances": len(found), "per_s": 8.0}
        (out / "decode.json").write_text(json.dumps(cost))


def run(ctx):
    score.run(ctx, score.plan(ctx))
    return load_record("results/base.json")


def test_the_record_the_page_and_the_summary_agree(ctx, tmp_path):
    record = run(ctx)
    decoded = record.sets["test"]["asr"]
    assert decoded.value(ACCURACY) == 50.0
    assert decoded.counts(ACCURACY)[:, 0].tolist() == [1, 0, 0, 1]
    assert [(h.head, h.correct) for h in decoded.intent.heads] == [("scenario", 3), ("action", 2)]
    assert decoded.intent.input_wer.exact_rate == pytest.approx(700 / 16)
    assert decoded.ref_sha256 == sha256_file(tmp_path / "data/test/label")
    assert decoded.input_sha256 == sha256_file(tmp_path / "data/test/text_asr")
    assert (record.budget, record.phases["finetune"].updates) == ({"updates": 7}, 7)
    assert "| base | 1 | 50.00 |" in (tmp_path / "RESULTS.md").read_text()
    (line,) = (x for x in score.summary(ctx) if x.startswith("test:"))
    assert "accuracy 50.00 %" in line and "4 utterances" in line and "WER 43.8 %" in line
    assert all(path.exists() for path in score.plan(ctx).makes)


def test_the_stage_needs_what_it_reads_and_a_second_run_changes_nothing(ctx, tmp_path):
    run(ctx)
    before = (tmp_path / "results/base.json").read_bytes()
    needs = score.plan(ctx).needs
    assert all(path.exists() for path in needs)
    for path in ("data/test/label", "exp/base/decode/asr/test/prediction", "dump/test/asr_errors"):
        assert (tmp_path / path).relative_to(tmp_path) in needs
    run(ctx)
    assert (tmp_path / "results/base.json").read_bytes() == before


def test_labels_are_those_of_the_corpus_not_of_dump(ctx, tmp_path):
    write_table(tmp_path / "dump/test/label", FOUND)  # as if preparation had eased the test
    assert run(ctx).sets["test"]["asr"].value(ACCURACY) == 50.0


def test_other_inference_models_at_hand_count_unless_they_are_older(ctx, tmp_path):
    decode(tmp_path, "clean", LABELS, ["test"])
    decode(tmp_path, "asr_manual_text", LABELS, ["test"])
    sets = run(ctx).sets
    assert {k: sorted(v) for k, v in sets.items()} == {
        "valid": ["asr"],
        "test": ["asr", "asr_manual_text", "clean"],
    }
    manual = sets["test"]["asr_manual_text"]
    assert (manual.value(ACCURACY), manual.intent.input_wer.errors) == (100.0, 0)
    assert manual.input_sha256 == sha256_file(tmp_path / "data/test/text_manual")
    stale = tmp_path / "exp/base/decode/clean/test/prediction"
    os.utime(stale, (1, 1))  # from before the model was trained
    assert "clean" not in run(ctx).sets["test"]


def test_the_text_encoder_is_told(ctx, tmp_path):
    about = tmp_path / "dump/text_encoder/about.json"
    about.parent.mkdir()
    about.write_text('{"source": "", "vocab_size": 50, "pad_id": 1}')
    assert run(ctx).encoder == {"source": "own, random weights", "sub-words": 50}
    assert "- text encoder: own, random weights" in (tmp_path / "RESULTS.md").read_text()


def test_wrong_utterances_are_listed_for_a_person(ctx, tmp_path):
    run(ctx)
    lines = (tmp_path / "exp/base/decode/asr/test/errors.tsv").read_text().splitlines()
    assert lines[1] == "u2\temail send\temail query\ttext_manual of u2\ttext_asr of u2"
    assert len(lines) == 3


def test_pictures_of_test_sets_are_drawn_with_labels_that_training_lacks(ctx, tmp_path):
    pytest.importorskip("matplotlib")
    write_table(tmp_path / "data/test/label", {**LABELS, "u1": "news query"})
    rng = np.random.default_rng(0)
    arrays = {k: rng.normal(size=(4, 3)).astype(np.float32) for k in ("manual", "asr")}
    out = tmp_path / "exp/base/decode/asr/test"
    np.savez_compressed(out / "vectors.npz", utts=np.array([*LABELS]), **arrays)
    run(ctx)
    assert sorted(p.name for p in (tmp_path / "exp/base/images").iterdir()) == [
        "confusion_test_asr_action.png",
        "confusion_test_asr_scenario.png",
        "pairs_test_asr.png",
    ]


def test_without_matplotlib_the_scores_stand(ctx, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(ctx).sets["test"]["asr"].value(ACCURACY) == 50.0
    assert not (tmp_path / "exp/base/images").exists()


@pytest.mark.parametrize(
    ("path", "rows", "words"),
    [
        ("exp/base/decode/asr/test/prediction", {"u1": "email query"}, "u2"),
        ("exp/base/decode/asr/test/prediction", {**FOUND, "u1": "email"}, "u1"),
        ("dump/test/asr_errors", {**ASR_ERRORS, "u4": "one 4"}, "asr_errors:4"),
        ("dump/test/asr_errors", {"u1": "0 4"}, "count of ASR errors"),
    ],
)
def test_what_does_not_fit_names_the_utterance_or_line(ctx, tmp_path, path, rows, words):
    write_table(tmp_path / path, rows)
    with pytest.raises(DataError, match=words):
        run(ctx)
    assert not (tmp_path / "results").exists()
