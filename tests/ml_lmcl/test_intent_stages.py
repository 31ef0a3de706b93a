# SPDX-License-Identifier: Apache-2.0
"""Stages decode and pack of a text recipe, on a tiny model."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
import yaml
from intent_model import TEXTS, write_recipe
from intent_model import pack as pack_model

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import EspnetExtError, UsageError
from espnet_ext.ml_lmcl.classifier import IntentClassifier
from espnet_ext.ml_lmcl.stages import decode, pack
from espnet_ext.recipe import config
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.publish import folder, usage
from espnet_ext.recipe.stages import Context, find

SETS = {"valid": 2, "test": 4, "test_wer10": 4}


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """Return a function that gives the context of a stage, with options of recipe.yaml."""
    monkeypatch.chdir(tmp_path)
    write_recipe(tmp_path)
    for name, count in SETS.items():
        for kind in ("manual", "asr"):
            cut = kind == "asr"
            rows = {f"{name}-{i}": TEXTS[i][: -4 * i] if cut and i else TEXTS[i]
                    for i in range(count)}  # fmt: skip
            (tmp_path / "dump" / name).mkdir(exist_ok=True)
            write_table(tmp_path / "dump" / name / f"text_{kind}", rows)
    Path("conf").mkdir()
    Path("conf/finetune.yaml").write_text("optim: adam\n")

    def context(stage, preset="ml_lmcl", **decode_args):
        sections = {
            "recipe": "toy/ml_lmcl1",
            "name": "x",
            "data": {"train": "train", "valid": "valid", "test": ["test", "test_wer10"]},
            "args": {"ml_lmcl": {"preset": preset}},
            "format": {"args": {"heads": ["scenario", "action"], "normalize": "words"}},
            "finetune": {"config": "conf/finetune.yaml", "model": "valid.acc.best.pth"},
            "decode": {"code": decode.__name__, "args": decode_args},
            "pack": {"code": pack.__name__},
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(sections))
        return Context(config.load(Path("recipe.yaml")), Options(ngpu=0), find(stage))

    return context


def run(stage, ctx):
    plan = stage.plan(ctx)
    assert [p for p in plan.needs if not p.exists()] == []
    stage.run(ctx, plan)
    assert [p for p in plan.makes if not p.exists()] == []
    return plan


def test_decode(recipe, capfd):
    run(decode, recipe("decode"))
    classify = IntentClassifier.from_pretrained("exp/x")
    out = Path("exp/x/decode/asr")
    for name, count in SETS.items():
        texts = read_table(f"dump/{name}/text_asr")
        want = dict(zip(texts, classify(list(texts.values())), strict=True))
        assert read_table(out / name / "prediction") == {u: str(p) for u, p in want.items()}
        rows = [x.split("\t") for x in (out / name / "posterior.tsv").read_text().splitlines()]
        assert [r[:2] for r in rows] == [[u, h] for u in texts for h in ("scenario", "action")]
        for utt, head, p in rows:
            assert float(p) == pytest.approx(want[utt].posteriors[head][0][1], abs=1e-5)
        cost = json.loads((out / name / "decode.json").read_text())
        assert cost.keys() == {"wall_s", "utterances", "per_s", "model_sha256", "doubt"}
        assert cost["utterances"] == count and cost["doubt"] == ""
    said = capfd.readouterr().out
    assert "4 sentences by asr" in said and "a second on cpu" in said


def test_vectors_are_those_of_the_real_test_sets(recipe):
    run(decode, recipe("decode"))
    assert [p.parent.name for p in Path("exp").rglob("vectors.npz")] == ["test"]
    classify = IntentClassifier.from_pretrained("exp/x")
    with np.load("exp/x/decode/asr/test/vectors.npz") as z:
        assert z["utts"].tolist() == [f"test-{i}" for i in range(4)]
        for kind in ("manual", "asr"):
            texts = read_table(f"dump/test/text_{kind}")
            want = classify.represent(list(texts.values()))
            assert z[kind].dtype == np.float32
            np.testing.assert_allclose(z[kind], want, atol=1e-5)
        assert abs(z["manual"] - z["asr"]).max() > 1e-3
    run(decode, recipe("decode", vectors=["valid"]))
    assert [p.parent.name for p in Path("exp").rglob("vectors.npz")] == ["valid"]


def test_all_models_and_manual_text(recipe):
    run(decode, recipe("decode", inference_model="all"))
    assert {p.name for p in Path("exp/x/decode").iterdir()} == {"asr", "clean", "average"}
    run(decode, recipe("decode", input="manual"))
    classify = IntentClassifier.from_pretrained("exp/x")
    texts = read_table("dump/test/text_manual")
    found = read_table("exp/x/decode/asr_manual_text/test/prediction")
    assert list(found.values()) == [str(p) for p in classify(list(texts.values()))]


def test_one_classifier_has_one_inference_model(recipe):
    ctx = recipe("decode", preset="ce_asr", inference_model="all")
    assert decode.models_of(ctx) == ("asr",)
    for args, says in (
        ({"inference_model": "clean"}, "one classifier only"),
        ({"inference_model": "best"}, "cannot be 'best'"),
        ({"input": "audio"}, "cannot be 'audio'"),
        ({"batch_size": 0}, "at least 1"),
        ({"vectors": ["tets"]}, "there is no set 'tets'"),
        ({"modle": 1}, "unknown key"),
    ):
        with pytest.raises(UsageError, match=says):
            decode.plan(recipe("decode", preset="ce_asr", **args))


def test_pack(recipe, capfd, monkeypatch):
    ctx = recipe("pack")
    run(pack, ctx)
    archive = Path("exp/x/toy_ml_lmcl1_x.zip")
    assert f"{archive}: " in capfd.readouterr().out
    said = pack.usage(ctx)
    lines = [x for x in said if x.startswith(("from ", "classify", "print"))]
    Path("typed.py").write_text("\n".join(lines))
    typed = Path("typed.py").resolve()
    monkeypatch.chdir("/")
    runpy.run_path(str(typed))
    label = IntentClassifier.from_pretrained(said[2].split('"')[1])(TEXTS[0]).labels
    assert capfd.readouterr().out.strip() == str(label)


def test_the_published_folder_answers_as_the_model(recipe, tmp_path):
    ctx = recipe("pack")
    run(pack, ctx)
    archive, out = Path("exp/x/toy_ml_lmcl1_x.zip"), tmp_path / "hub"
    (tmp_path / "record.json").write_text("{}")
    folder.write(archive, tmp_path / "record.json", out, "exp/x")
    pack.check(pack.plan(ctx), out)
    told = usage.markdown(pack.usage(ctx), str(archive.resolve()), "me/intents", out)
    assert "espnet-ext decode --model me/intents sentences.txt" in told
    assert 'classify = IntentClassifier.from_pretrained("me/intents")' in told


def test_pack_finds_that_the_archive_is_of_another_model(recipe, tmp_path):
    other = pack_model(write_recipe(tmp_path / "other", seed=4), tmp_path / "other.zip")
    plan = pack.plan(recipe("pack"))
    with pytest.raises(EspnetExtError, match="answers otherwise"):
        pack.check(plan, other)
