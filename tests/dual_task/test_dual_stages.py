# SPDX-License-Identifier: Apache-2.0
"""Stages decode and pack: what they write, count, say and refuse."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from dual_recipe import FRENCH, MODEL, context

from espnet_ext.data.tables import read_table
from espnet_ext.dual_task.stages import decode, pack, retention
from espnet_ext.dual_task.understand import SpeechUnderstander
from espnet_ext.errors import DataError, EspnetExtError, UsageError
from espnet_ext.espnet import checkpoint
from espnet_ext.files import sha256_file
from espnet_ext.scoring import metrics
from espnet_ext.scoring.score import score_files

OUT = Path("exp/base/decode/greedy_ctc/valid")


@pytest.fixture
def recipe(dual_recipe, monkeypatch):
    monkeypatch.chdir(dual_recipe)
    return dual_recipe


def run(stage, ctx):
    plan = stage.plan(ctx)
    assert [p for p in plan.needs if not p.exists()] == []
    stage.run(ctx, plan)
    assert [p for p in plan.makes if not p.exists()] == []
    return plan


def test_what_decoding_writes(recipe, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(decode, "say", said.append)
    wavs = read_table("dump/valid/wav.scp")
    Path("dump/valid/dropped.tsv").write_text("utt\treason\tdetail\nvalid99\tnot finite\t1\n")
    lost = {"plain": "ab", "meaning": "m1", "utt2lang": "fr", "text": "<stop> > ab"}
    for file, value in lost.items():
        with open(f"data/valid/{file}", "a") as f:
            f.write(f"valid99 {value}\n")
    run(decode, context("decode"))
    texts = read_table(OUT / "text")
    assert texts.keys() == {*wavs, "valid99"} and texts["valid99"] == ""
    assert texts["valid00"]
    rows = [json.loads(x) for x in (OUT / "concepts.jsonl").read_text().splitlines()]
    assert {r["id"]: r["text"] for r in rows} == {u: texts[u] for u in wavs}
    assert any(r["concepts"] for r in rows)
    utts = (OUT / "embeddings.utts").read_text().split()
    vectors = np.load(OUT / "embeddings.npy")
    assert utts == sorted(wavs) and vectors.shape == (4, 6)
    about = json.loads((OUT / "decode.json").read_text())
    model = Path("exp/base/finetune") / MODEL
    assert about["model_sha256"] == sha256_file(model) and about["empty"] == 1
    assert about["before_sha256"] == sha256_file(Path("exp/base/pretrain") / MODEL)
    for prefix in ("", "before_"):
        for name in ("retrieved", "retrieved_other"):
            found = read_table(OUT / f"{prefix}{name}")
            assert found.keys() == texts.keys() and found["valid99"] == "-"
            assert set(found.values()) <= {"m0", "m1", "m2", "m3", "-"}
        cosines = {u: float(c) for u, c in read_table(OUT / f"{prefix}cosine").items()}
        assert cosines["valid99"] == 0 and all(-1 <= c <= 1 for c in cosines.values())
    assert read_table(OUT / "cosine") != read_table(OUT / "before_cosine")
    names = ["concept", "wer_plain", "retrieval", "retrieval_other", "cosine", "before_retrieval",
             "before_retrieval_other", "before_cosine"]  # fmt: skip
    scored = score_files(metrics.load(names), Path("data/valid"), OUT)
    assert scored["utterances"] == 5 and [*scored["metrics"]] == names
    meanings = read_table("data/valid/meaning")
    hits = sum(meanings[u] == m for u, m in read_table(OUT / "retrieved").items())
    assert scored["metrics"]["retrieval"]["value"] == 100 * hits / 5
    assert "5 utterances, real time factor" in said[0]
    assert "retrieval" in said[1] and said[2].strip().startswith("valid: before: retrieval")


def test_tables_are_those_of_the_vectors_by_hand(recipe):
    run(decode, context("decode"))
    utts = (OUT / "embeddings.utts").read_text().split()
    vectors = dict(zip(utts, np.load(OUT / "embeddings.npy"), strict=True))
    cosines = {u: float(c) for u, c in read_table(OUT / "cosine").items()}
    store = retention.SentenceStore("dump/sentences")
    plain, languages = read_table("data/valid/plain"), read_table("data/valid/utt2lang")
    for utt, x in vectors.items():
        x = x / np.linalg.norm(x)
        assert cosines[utt] == pytest.approx(x @ store[plain[utt]], abs=1e-5)
        own = FRENCH if languages[utt] == "fr" else ("doppia", "roma", "camera", "le")
        best = int(np.argmax([x @ store[t] for t in own]))
        assert read_table(OUT / "retrieved")[utt] == f"m{best}"


def test_without_candidates_the_sentences_of_the_set_are_retrieved(recipe):
    args = {"candidates": "none.tsv", "before": "none"}
    ctx = context("decode", decode={"code": decode.__name__, "args": args})
    plan = run(decode, ctx)
    assert not [p for p in (*plan.needs, *plan.makes) if "before" in str(p) or "pretrain" in str(p)]
    assert not (OUT / "before_cosine").exists()
    assert set(read_table(OUT / "retrieved").values()) <= {"m0", "m1", "m2", "m3", "-"}


def test_a_set_without_meanings_and_languages(recipe, tmp_path):
    for file in ("meaning", "utt2lang"):
        Path(f"data/valid/{file}").rename(tmp_path / file)
    try:
        args = {"candidates": "none.tsv", "before": "none"}
        run(decode, context("decode", decode={"code": decode.__name__, "args": args}))
        assert set(read_table(OUT / "retrieved").values()) <= {*FRENCH, "-"}
        assert not (OUT / "retrieved_other").exists()
    finally:
        for file in ("meaning", "utt2lang"):
            (tmp_path / file).rename(f"data/valid/{file}")


def test_the_model_before_is_what_the_last_phase_starts_from(recipe):
    assert decode.model_before(context("decode")) == Path("exp/base/pretrain") / MODEL
    finetune = yaml.safe_load(Path("recipe.yaml").read_text())["finetune"]
    other = context(
        "decode", finetune={**finetune, "init": ["exp/y_s1/finetune/a.pth:encoder:encoder"]}
    )
    assert decode.model_before(other) == Path("exp/y_s1/finetune/a.pth")
    assert decode.model_before(context("decode", finetune={**finetune, "init": []})) is None


def test_what_decoding_depends_on(recipe, tmp_path):
    ctx = context("decode")
    inputs = {str(p) for p in decode.plan(ctx).inputs}
    assert inputs >= {"data/candidates.tsv", "data/valid/meaning", "dump/sentences/about.json",
                      "data/valid/plain", f"exp/base/pretrain/{MODEL}"}  # fmt: skip
    off = context("decode", decode={"code": decode.__name__, "args": {"retrieval": False}})
    plan = run(decode, off)
    assert "data/candidates.tsv" not in {str(p) for p in plan.inputs}
    assert not (OUT / "retrieved").exists() and (OUT / "embeddings.npy").exists()
    # Weights that no training here has made are no model that could be measured before.
    (tmp_path / "encoder.pth").touch()
    finetune = yaml.safe_load(Path("recipe.yaml").read_text())["finetune"]
    finetune["init"] = [f"{tmp_path}/encoder.pth:encoder:encoder"]
    assert decode.model_before(context("decode", finetune=finetune)) is None


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"args": {"befor": "none"}}, "did you mean 'before'"),
        ({"args": {"before": "pretrain"}}, "before' must be one of auto, none"),
        ({"args": {"retrieval": "yes"}}, "retrieval"),
        ({"method": "beam"}, "greedy search"),
    ],
)
def test_misuse(recipe, section, says):
    with pytest.raises(UsageError, match=says):
        decode.plan(context("decode", decode={"code": decode.__name__, **section}))


def test_a_sentence_without_a_vector_is_named(recipe):
    before = Path("data/candidates.tsv").read_text()
    try:
        Path("data/candidates.tsv").write_text(f"{before}\nm9\tfr\tune autre\n")
        with pytest.raises(DataError, match="'une autre'"):
            run(decode, context("decode"))
    finally:
        Path("data/candidates.tsv").write_text(before)


def test_pack_says_which_of_the_two_it_is(recipe, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(pack, "say", said.append)
    for name, words in (("base", "stock ESPnet refuses it"), ("stock", "stock ESPnet loads it")):
        ctx = context("pack", name)
        plan = run(pack, ctx)
        assert words in said[-1]
        lines = "\n".join(pack.usage(ctx))
        assert "SpeechUnderstander.from_pretrained" in lines
        assert ("Speech2Text.from_pretrained" in lines) is (name == "stock")
        with zipfile.ZipFile(plan.makes[0]) as z:
            names = set(z.namelist())
            assert names >= {"dump/sentences/about.json", "data/sentence_encoder/config.json"}
            assert not [n for n in names if n.endswith(("vectors.npy", "texts.jsonl"))]
            content = b"".join(z.read(n) for n in names if n.endswith((".yaml", ".json")))
        assert str(recipe).encode() not in content


def test_a_large_sentence_encoder_stays_behind(recipe):
    section = {"code": pack.__name__, "args": {"sentence_encoder_mb": 0}}
    plan = run(pack, context("pack", pack=section))
    with zipfile.ZipFile(plan.makes[0]) as z:
        assert not [n for n in z.namelist() if "sentence_encoder" in n]
    from_elsewhere = plan.makes[0].rename(recipe.parent / "m.zip")
    with pytest.raises(EspnetExtError) as e:
        SpeechUnderstander.from_pretrained(from_elsewhere, sentence_encoder=recipe / "data/nothing")
    assert "--sentence-encoder" in e.value.how


def test_a_model_that_stock_would_load_in_part_is_not_packed(recipe, tmp_path):
    """It cannot come of a training here; a configuration that was changed by hand can."""
    config = yaml.safe_load(Path("exp/base/finetune/config.yaml").read_text())
    changed = tmp_path / "config.yaml"
    changed.write_text(yaml.safe_dump({**config, "model": "espnet"}))
    with pytest.raises(EspnetExtError, match=r"without 10 tensors, e\.g\. slu"):
        pack.check_stock(changed, Path("exp/base/finetune") / MODEL)
    config, model = Path("exp/stock/finetune/config.yaml"), Path("exp/stock/finetune") / MODEL
    assert pack.check_stock(config, model)
    lost = {k: v for k, v in checkpoint.load(model).items() if k != "ctc.ctc_lo.bias"}
    checkpoint.atomic_save(lost, tmp_path / "m.pth")
    with pytest.raises(EspnetExtError, match=r"missing: ctc\.ctc_lo\.bias"):
        pack.check_stock(config, tmp_path / "m.pth")
