# SPDX-License-Identifier: Apache-2.0
"""Stage 4: an encoder of our own, one of a folder, folders with faults, and $TEXT_ENCODER."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.ml_lmcl.stages import encoder as stage
from espnet_ext.recipe import config, options, records
from espnet_ext.recipe.stages import Context, find
from espnet_ext.text.encoder import build_masked_lm
from espnet_ext.text.folder import EncoderArgs, random_encoder
from espnet_ext.text.source import encoder_source
from espnet_ext.text.tokenizer import TextTokenizer, read_about

TEXTS = ["show me flights from boston to denver", "is it raining in dallas", "<empty>"] * 4
SMALL = {"vocab_size": 300, "hidden_size": 16, "max_tokens": 24}
FILES = ("config.json", "tokenizer.json", "model.safetensors", "about.json")


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's folder with texts, as the current one; return ``run(text_encoder, **args)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ESPNET_EXT_CALLED_FROM", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = Path("dump/train")
    folder.mkdir(parents=True)
    for kind in ("manual", "asr"):
        lines = [f"u{i:02d} {text}\n" for i, text in enumerate(TEXTS)]
        (folder / f"text_{kind}").write_text("".join(lines))
    told: list[str] = []
    monkeypatch.setattr(stage, "say", told.append)

    def run(text_encoder=None, **args):
        """Run the stage; None leaves the variable unset. Return what is told."""
        if text_encoder is None:
            monkeypatch.delenv("TEXT_ENCODER", raising=False)
        else:
            monkeypatch.setenv("TEXT_ENCODER", str(text_encoder))
        sections = {
            "data": {"valid": "train", "test": ["train"], "files": ["text_manual", "text_asr"]},
            "tokens": {"code": stage.__name__, "args": {**SMALL, **args}},
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(sections))
        ctx = Context(config.load(Path("recipe.yaml")), options.parse([], set()))
        plan = stage.plan(ctx)
        now = records.current(plan)
        run.why = records.why_run(ctx, find("tokens"), plan, now)
        stage.run(ctx, plan)
        records.write(ctx, find("tokens"), plan, now, 0.0)
        return told[-1]

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A RoBERTa of three layers as one is downloaded: without about.json."""
    out = tmp_path_factory.mktemp("encoder") / "roberta"
    args = EncoderArgs(layers=3, **SMALL)
    model, tokenizer = random_encoder(args, TEXTS)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out


@pytest.fixture
def broken(folder, tmp_path):
    """A copy of the folder to break."""
    return Path(shutil.copytree(folder, tmp_path / "broken"))


def written():
    return {name: (stage.FOLDER / name).read_bytes() for name in FILES}


def test_an_encoder_of_our_own_is_the_same_bytes_for_the_same_seed_and_text(recipe):
    told = recipe("none")
    assert "of our own" in told and "2 layers" in told and "TEXT_ENCODER" in told
    first = written()
    recipe("none")
    assert written() == first
    recipe("none", seed=2)
    other = written()
    assert {n for n in FILES if other[n] != first[n]} == {"model.safetensors"}
    Path("dump/train/text_asr").write_text("u00 " + "wake me up at seven " * 9 + "\n")
    recipe("none")
    assert written()["tokenizer.json"] != first["tokenizer.json"]


def test_an_encoder_of_our_own_cuts_and_knows_its_special_sub_words(recipe):
    recipe("none")
    about = read_about(stage.FOLDER)
    assert (about.source, about.pad_id, about.mask_id, about.max_tokens) == ("", 1, 4, 24)
    tokenizer = TextTokenizer(stage.FOLDER, 64)
    assert tokenizer("<empty>").tolist() == tokenizer("").tolist() == [0, 2]
    assert len(tokenizer("boston " * 99)) == 24
    assert set(about.special_ids) == {0, 1, 2, 3, 4} and not set(tokenizer("boston")[1:-1]) & {0, 1}


def test_a_local_folder_is_copied_whole(recipe, folder):
    told = recipe(folder)
    assert "pre-trained" in told and "3 layers" in told
    ours, theirs = (build_masked_lm(f, True)[0].state_dict() for f in (stage.FOLDER, folder))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    about = read_about(stage.FOLDER)
    assert about.source == "/".join(folder.parts[-2:])  # no path of this machine
    assert (about.name, about.layers, about.layers_of) == ("roberta", 3, 3)


def test_a_masked_lm_head_that_the_folder_lacks_is_told(recipe, folder, broken):
    from safetensors.torch import load_file, save_file

    assert "masked-LM head" not in recipe(folder) and not read_about(stage.FOLDER).random_head
    path = broken / "model.safetensors"
    body = {k: v for k, v in load_file(path).items() if not k.startswith("lm_head")}
    save_file(body, path, metadata={"format": "pt"})
    told = recipe(broken)
    assert told.count("no masked-LM head") == 1 and read_about(stage.FOLDER).random_head
    recipe(broken, keep_layers=1)  # upper layers left out are no missing head, nor the other way
    assert read_about(stage.FOLDER).random_head
    recipe(folder, keep_layers=1)
    assert not read_about(stage.FOLDER).random_head


def test_the_lowest_layers_of_a_folder_are_kept(recipe, folder):
    assert "1 of 3 layers" in recipe(folder, keep_layers=1)
    assert (about := read_about(stage.FOLDER)).layers == 1 and about.layers_of == 3
    ours, theirs = (build_masked_lm(f, True)[0].state_dict() for f in (stage.FOLDER, folder))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert {k for k in ours if ".layer." in k} == {k for k in theirs if ".layer.0." in k}
    assert theirs.keys() - ours.keys() == {k for k in theirs if ".layer.1" in k or ".layer.2" in k}
    assert "3 layers" in recipe(folder, keep_layers=9)


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json or vocab.json or vocab.txt"),
        ("model.safetensors", "no model.safetensors"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused(recipe, broken, gone, words):
    (broken / gone).unlink()
    with pytest.raises(DataError, match=words) as e:
        recipe(broken)
    assert e.value.where == broken and "pickle" not in str(e.value)
    assert not stage.FOLDER.exists()


def test_weights_in_a_pickle_are_not_read(recipe, broken):
    (broken / "model.safetensors").rename(broken / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"no model\.safetensors") as e:
        recipe(broken)
    assert "save them as safetensors first" in e.value.how


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "rebarto"}', '{"hidden_size": 16}'])
def test_a_broken_configuration_names_the_folder(recipe, broken, content):
    (broken / "config.json").write_text(content)
    with pytest.raises(DataError, match="transformers cannot load it") as e:
        recipe(broken)
    assert str(e.value.where) == str(broken)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_broken_file_names_the_folder(recipe, broken, name):
    (broken / name).write_bytes(b"\0" * 20)
    with pytest.raises(DataError, match="cannot load it") as e:
        recipe(broken)
    assert str(e.value.where) == str(broken)


def test_a_model_without_a_known_head_is_refused_before_it_is_trained(recipe, broken):
    from transformers import ElectraConfig, ElectraForMaskedLM

    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ElectraForMaskedLM(ElectraConfig(**shape, vocab_size=300)).save_pretrained(broken)
    with pytest.raises(DataError, match="no masked-LM head"):
        recipe(broken)


def test_a_tokenizer_without_mask_is_refused(recipe, broken):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (path := broken / name).exists():
            known = json.loads(path.read_text())
            known.pop("mask_token", None)
            path.write_text(json.dumps({**known, "tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(DataError, match="no mask sub-word"):
        recipe(broken)


def test_an_unknown_name_without_network_tells_of_the_local_folder(recipe, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="'nobody/no-such-encoder' is not available") as e:
        recipe("nobody/no-such-encoder")
    assert e.value.exit_code == 3
    assert "TEXT_ENCODER=/path/to/folder" in e.value.how and "TEXT_ENCODER=none" in e.value.how


@pytest.mark.parametrize(("own", "seen"), [(None, "0"), ("1", "1")])
def test_a_name_is_asked_for_on_the_network(recipe, monkeypatch, own, seen):
    """transformers takes the variable once, when it is imported: it must stand before."""

    def stop():
        assert os.environ["HF_HUB_OFFLINE"] == seen
        raise InterruptedError

    monkeypatch.setenv("HF_HUB_OFFLINE", own or "")
    if own is None:
        monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("espnet_ext.text.encoder.quiet", stop)
    with pytest.raises(InterruptedError):
        recipe("nobody/no-such-encoder")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"keep_layers": 0}, "keep_layers is 0"),
        ({"layers": -1}, "layers is -1"),
        ({"heads": 3}, "no multiple of heads 3"),
        ({"keep_layer": 2}, "did you mean 'keep_layers'"),
    ],
)
def test_impossible_settings_are_named(recipe, args, words):
    with pytest.raises(UsageError, match=words):
        recipe("none", **args)


def test_unset_means_the_same_as_before_and_none_goes_back(recipe, folder, monkeypatch):
    recipe()
    assert recipe.why == "first run" and encoder_source() == ""
    recipe(folder)
    assert recipe.why.startswith("changed: ") and "settings" not in recipe.why
    recipe()
    assert recipe.why == "" and encoder_source() == str(folder)
    assert read_about(stage.FOLDER).source.endswith("/roberta")
    assert "of our own" in recipe("none") and "source" in recipe.why
    recipe()
    assert recipe.why == "" and encoder_source() == ""


@pytest.mark.parametrize(
    ("given", "args", "freeze", "stage1", "words"),
    [
        (False, {"layers": 2}, 3, "none", "3 layers of an encoder that has 2"),
        (True, {}, 4, "none", "4 layers of an encoder that has 3"),
        (True, {"keep_layers": 2}, 3, "none", "3 layers of an encoder that has 2"),
        (True, {}, 3, "contrastive", "all 3 layers are frozen: stage 1 has nothing to train"),
        (True, {}, 3, "none", ""),
        (True, {}, 2, "contrastive", ""),
    ],
)
def test_too_many_frozen_layers_are_told_by_the_plan(
    recipe, folder, monkeypatch, given, args, freeze, stage1, words
):
    """Before any stage has run: the encoder of stage 4 is not there yet."""
    recipe()
    monkeypatch.setenv("TEXT_ENCODER", str(folder) if given else "none")
    raw = yaml.safe_load(Path("recipe.yaml").read_text())
    raw["args"] = {"ml_lmcl": {"freeze_layers": freeze}}
    if stage1 == "none":
        raw["args"]["ml_lmcl"] |= {"stage1": "none"}
    raw["tokens"]["args"] |= args
    Path("empty.yaml").write_text("max_epoch: 1\n")
    for phase, task in (("midtrain", "ContrastiveTask"), ("finetune", "ClassifyTask")):
        raw[phase] = {"task": f"espnet_ext.ml_lmcl.task:{task}", "config": "empty.yaml"}
    Path("recipe.yaml").write_text(yaml.safe_dump(raw))
    ctx = Context(config.load(Path("recipe.yaml")), options.parse([], set()))
    if not words:
        stage.plan(ctx)
        return
    with pytest.raises(UsageError, match=words) as e:
        stage.plan(ctx)
    assert e.value.where == "ml_lmcl.freeze_layers"
