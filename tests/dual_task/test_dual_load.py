# SPDX-License-Identifier: Apache-2.0
"""Loading: folder, phase, archive elsewhere; what is damaged, foreign or hostile is refused."""

import os
import pickle
import shutil
import socket
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from dual_recipe import context
from warm import run_stock

from espnet_ext.dual_task.load import find_model, load_model, located
from espnet_ext.dual_task.stages import pack
from espnet_ext.dual_task.understand import SpeechUnderstander
from espnet_ext.errors import DataError
from espnet_ext.espnet import checkpoint
from espnet_ext.recipe.publish import folder

ROOT = Path(__file__).parents[2]
NOISE = [0.1 * np.random.default_rng(i).standard_normal(n).astype(np.float32)
         for i, n in enumerate((16000, 9000, 24000))]  # fmt: skip


@pytest.fixture(scope="module")
def packed(dual_recipe, tmp_path_factory):
    """Archives of both experiments, apart from the recipe."""
    out = tmp_path_factory.mktemp("packed")
    here = os.getcwd()
    os.chdir(dual_recipe)
    try:
        for name in ("base", "stock"):
            ctx = context("pack", name)
            plan = pack.plan(ctx)
            assert [p for p in plan.needs if not p.exists()] == []
            pack.run(ctx, plan)
            shutil.copy(plan.makes[0], out / f"{name}.zip")
    finally:
        os.chdir(here)
    return out


def same(one, two):
    for a, b in zip(one, two, strict=True):
        assert (a.tagged, a.concepts) == (b.tagged, b.concepts)
        np.testing.assert_array_equal(a.embedding, b.embedding)


def rewrite(source: Path, out: Path, change: dict) -> Path:
    """Copy an archive with members replaced, added, or (None) left out; keys are endings."""
    with zipfile.ZipFile(source) as z:
        content = {name: z.read(name) for name in z.namelist()}
    for ending, data in change.items():
        name = next((n for n in content if n.endswith(ending)), ending)
        content[name] = data(content[name]) if callable(data) else data
    with zipfile.ZipFile(out, "w") as z:
        for name, data in content.items():
            if data is not None:
                z.writestr(name, data)
    return out


def test_folder_phase_and_archive_answer_alike(dual_recipe, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # far from the recipe
    here = SpeechUnderstander.from_pretrained(dual_recipe / "exp/base")(NOISE)
    assert all(x.tagged and x.embedding.shape == (6,) for x in here)
    same(here, SpeechUnderstander.from_pretrained(dual_recipe / "exp/base/finetune")(NOISE))
    same(here, SpeechUnderstander.from_pretrained(packed / "base.zip")(NOISE))
    with zipfile.ZipFile(packed / "base.zip") as z:
        z.extractall(tmp_path / "hub")
    same(here, SpeechUnderstander.from_pretrained(tmp_path / "hub")(NOISE))
    assert not SpeechUnderstander.from_pretrained(dual_recipe / "exp/base/pretrain").hears


def test_the_published_folder_answers_as_the_model(dual_recipe, packed, tmp_path, monkeypatch):
    monkeypatch.chdir(dual_recipe)
    (tmp_path / "record.json").write_text("{}")
    folder.write(packed / "base.zip", tmp_path / "record.json", tmp_path / "hub", "exp/base")
    pack.check(pack.plan(context("pack", "base")), tmp_path / "hub")
    monkeypatch.chdir(tmp_path)
    assert SpeechUnderstander.from_pretrained("hub", retrieval=True).sentences is not None


def test_the_archive_needs_nothing_of_the_training(dual_recipe, packed, tmp_path, monkeypatch):
    """Another folder, no network, no recipe; the small sentence encoder has come along."""
    shutil.copy(packed / "base.zip", tmp_path / "m.zip")
    here = SpeechUnderstander.from_pretrained(dual_recipe / "exp/base", retrieval=True)
    texts = ["ab", "le mans", "roma"]
    (tmp_path / "tmp").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", "tmp")
    monkeypatch.setattr(socket, "socket", None)
    there = SpeechUnderstander.from_pretrained("m.zip", retrieval=True)
    same(here(NOISE), there(NOISE))
    ranked = there.retrieve(NOISE, texts, 3)
    assert ranked == here.retrieve(NOISE, texts, 3) and len(ranked[0]) == 3
    assert not list((tmp_path / "tmp").iterdir())


def test_stock_espnet_reads_the_model_without_slu_layers(packed, tmp_path):
    """In a process that has no espnet_ext, the text is ours."""
    shutil.copy(packed / "stock.zip", tmp_path / "m.zip")
    np.savez(tmp_path / "x.npz", *NOISE)
    code = (
        "import numpy as np\n"
        "from espnet2.bin.asr_inference import Speech2Text\n"
        "asr = Speech2Text.from_pretrained('m.zip', ctc_weight=1.0, beam_size=1)\n"
        "for x in np.load('x.npz').values(): print('said', asr(x)[0][0])\n"
    )
    lines = [x for x in run_stock(code, tmp_path).splitlines() if x.startswith("said ")]
    stock = [" ".join(x.removeprefix("said ").split()) for x in lines]
    ours = SpeechUnderstander.from_pretrained(packed / "stock.zip")
    assert stock == [ours([x])[0].tagged for x in NOISE]  # stock takes no batches
    assert len(set("".join(stock))) > 3


def test_stock_espnet_refuses_the_model_with_a_bi_lstm(packed, tmp_path, monkeypatch):
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    from espnet2.bin.asr_inference import Speech2Text

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="--model dual_task"):
        Speech2Text.from_pretrained(str(packed / "base.zip"), ctc_weight=1.0, beam_size=1)


def without(prefix):
    def change(data):
        import io

        state = torch.load(io.BytesIO(data), weights_only=True)
        out = io.BytesIO()
        torch.save({k: v for k, v in state.items() if not k.startswith(prefix)}, out)
        return out.getvalue()

    return change


def other_config(**values):
    def change(data):
        found = yaml.safe_load(data)
        dual = {k: v for k, v in values.items() if k in found["dual_task"]}
        rest = {k: v for k, v in values.items() if k not in dual}
        found["dual_task"] |= dual
        return yaml.safe_dump(found | rest).encode()

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"../x": b""}, "not safe"),
        ({"/abs": b""}, "not safe"),
        ({"meta.yaml": None}, "holds no trained model"),
        (
            {"meta.yaml": b"kind: ml_lmcl intent classifier\n"},
            "holds no trained model",
        ),
        ({"config.yaml": b"a: 1\n"}, "none of these methods: dual_task"),
        ({"config.yaml": b"dual_task: {blstm_layers: 1}\n"}, "lacks what the training read"),
        ({"config.yaml": other_config(encoder="none such")}, "cannot be built"),
        ({"epoch.pth": b"junk"}, "cannot be loaded"),
        ({"epoch.pth": pickle.dumps(print, protocol=2)}, "cannot be loaded"),
        ({"epoch.pth": without("slu.")}, "does not fit"),
        ({"epoch.pth": without("pooling.")}, "does not fit"),
        ({"config.yaml": other_config(blstm_layers=2)}, "does not fit"),
    ],
)
def test_a_wrong_archive_is_refused(packed, tmp_path, change, says):
    with pytest.raises(DataError, match=says):
        SpeechUnderstander.from_pretrained(rewrite(packed / "base.zip", tmp_path / "x.zip", change))


def test_another_sentence_encoder_is_refused(packed, tmp_path, dual_recipe):
    from tiny_text import make_bert

    make_bert(tmp_path / "other", width=6, seed=1)
    with pytest.raises(DataError, match="another sentence encoder") as e:
        SpeechUnderstander.from_pretrained(packed / "base.zip", sentence_encoder=tmp_path / "other")
    assert "--sentence-encoder" in e.value.how
    copied = shutil.copytree(dual_recipe / "data/sentence_encoder", tmp_path / "copied")
    SpeechUnderstander.from_pretrained(packed / "base.zip", sentence_encoder=copied)


def test_which_checkpoint_of_a_folder(dual_recipe, tmp_path):
    folder = dual_recipe / "exp/base/finetune"
    with located(dual_recipe / "exp/base") as files:
        assert (files.model.parent, files.base) == (folder, dual_recipe)
        assert files.about == dual_recipe / "dump/sentences/about.json"
    recipe = tmp_path / "exp/x/finetune"
    recipe.mkdir(parents=True)
    for name in ("valid.loss.best.pth", "valid.loss.ave.pth", "mine.pth"):
        (recipe / name).touch()
    values = {"best_model_criterion": [["valid", "loss", "min"]]}
    assert find_model(recipe / "config.yaml", values).name == "valid.loss.ave.pth"
    (tmp_path / "recipe.yaml").write_text("finetune: {model: mine.pth}\n")
    assert find_model(recipe / "config.yaml", values).name == "mine.pth"
    (recipe / "mine.pth").unlink()
    (recipe / "valid.loss.ave.pth").unlink()
    (recipe / "valid.loss.best.pth").unlink()
    with pytest.raises(DataError, match=r"no checkpoint mine.pth or valid.loss.ave.pth"):
        find_model(recipe / "config.yaml", values)


def test_statistics_of_features_are_found_from_anywhere(tmp_path, monkeypatch):
    folder, stats = tmp_path / "r/exp/x/finetune", "exp/x/stats/feats_stats.npz"
    folder.mkdir(parents=True)
    config = {"dual_task": {}, "normalize_conf": {"stats_file": stats, "norm_means": True},
              "best_model_criterion": [["valid", "acc", "max"]]}  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "valid.acc.best.pth").touch()
    with pytest.raises(DataError, match="statistics"), located(folder):
        pass
    (tmp_path / "r" / stats).parent.mkdir()
    (tmp_path / "r" / stats).touch()
    with located(folder.parent) as files:
        found = yaml.safe_load(files.config.read_text())["normalize_conf"]
        assert found == {"stats_file": str(tmp_path / "r" / stats), "norm_means": True}
    assert not files.config.exists()
    monkeypatch.chdir(tmp_path / "r")
    with located("exp/x") as files:
        assert files.config == Path("exp/x/finetune/config.yaml")


def test_what_is_no_model(dual_recipe, tmp_path):
    for path, says in (("none", "no such model"), (".", "no trained model")):
        with pytest.raises(DataError, match=says), located(tmp_path / path):
            pass
    (tmp_path / "config.yaml").write_text("token_type: char\n")
    with pytest.raises(DataError, match="not trained by dual_task"), located(tmp_path):
        pass
    bad = tmp_path / "x.pth"
    torch.save([1], bad)
    with pytest.raises(DataError, match="holds no parameters"):
        load_model(dual_recipe / "exp/base/finetune/config.yaml", bad)
    torch.save({**checkpoint.load(dual_recipe / "exp/base/finetune/valid.loss.best.pth"),
                "more": torch.zeros(1)}, bad)  # fmt: skip
    with pytest.raises(DataError, match="does not fit"):
        load_model(dual_recipe / "exp/base/finetune/config.yaml", bad)
