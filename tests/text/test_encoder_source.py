# SPDX-License-Identifier: Apache-2.0
"""Where the text encoder comes from, and what is known of its folder."""

import pytest

from espnet_ext.errors import DataError
from espnet_ext.text.source import RECORD, encoder_source, model_name
from espnet_ext.text.tokenizer import read_about


def test_a_relative_path_is_meant_from_where_the_recipe_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ESPNET_EXT_CALLED_FROM", str(tmp_path / "home"))
    (tmp_path / "home/bert").mkdir(parents=True)
    for given, meant in (
        ("bert", str(tmp_path / "home/bert")),  # a folder that is there
        ("./elsewhere", str(tmp_path / "home/elsewhere")),
        ("roberta-base", "roberta-base"),  # else a name
        ("none", ""),
        ("", ""),
    ):
        monkeypatch.setenv("TEXT_ENCODER", given)
        assert encoder_source() == meant


@pytest.mark.parametrize(
    ("folder", "card", "name"),
    [
        ("minilm/model", "---\ntags: [x]\n---\n\n# all-MiniLM-L6-v2\nText\n", "all-MiniLM-L6-v2"),
        ("x/model", "# FacebookAI/roberta-base\n", "roberta-base"),
        ("my-bert/model", "# Model card of a model\n", "my-bert"),  # a sentence is no name
        ("my-bert", None, "my-bert"),
        ("models--sentence-transformers--LaBSE/snapshots/0a1b2c", None, "LaBSE"),
    ],
)
def test_an_encoder_has_the_name_of_its_card_or_folder(tmp_path, folder, card, name):
    path = tmp_path / folder
    path.mkdir(parents=True)
    if card:
        (path / "README.md").write_text(card)
    assert model_name(str(path)) == name


def test_a_name_of_the_hub_is_without_its_owner():
    assert model_name("FacebookAI/roberta-base") == "roberta-base" and model_name("") == ""


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"settings": null}'])
def test_a_broken_record_is_as_none(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEXT_ENCODER", raising=False)
    assert encoder_source() == ""
    RECORD.parent.mkdir()
    RECORD.write_text(content)
    assert encoder_source() == ""


@pytest.mark.parametrize(
    "content", [None, "", "[]", '{"special_ids": 3}', '{"source": "", "x": 1}']
)
def test_a_folder_without_a_usable_description_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "about.json").write_text(content)
    with pytest.raises(DataError, match="no usable text encoder") as e:
        read_about(tmp_path)
    assert e.value.where == tmp_path / "about.json"
