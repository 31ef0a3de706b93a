# SPDX-License-Identifier: Apache-2.0
"""The recipe that new ones start from runs as it is on any corpus listed in TSV files."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_ext.data.tables import read_table
from espnet_ext.recipe import config

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "egs2/TEMPLATE/asr1"
WORDS = ("one", "two", "three", "four")


@pytest.fixture
def manifest(tmp_path):
    """Lists of short noises at 8 kHz in a folder with a space; paths are from that folder."""
    folder = tmp_path / "my lists"
    (folder / "audio").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("dev", 2), ("test", 2)):
        lines = []
        for i in range(count):
            soundfile.write(folder / f"audio/{name}{i}.wav", 0.1 * rng.standard_normal(8000), 8000)
            text = " ".join(rng.choice(WORDS, 2))
            lines.append(f"{name}{i}\taudio/{name}{i}.wav\t{text}\tspk{i % 2}\n")
        (folder / f"{name}.tsv").write_text("".join(lines))
    return folder


@pytest.fixture
def recipe(new_recipe):
    """The template as the recipe of a new corpus."""
    return new_recipe("mycorpus/asr1")


def test_data_and_tokens_are_made_from_the_lists(recipe, manifest):
    out = recipe.run("--stop-stage", "4", "--nj", "1", env={"MYCORPUS": str(manifest)})
    assert re.findall(r"^stage (\d+)/10 \w+: done", out, re.M) == ["1", "2", "4"]
    assert {
        s: len(read_table(recipe.path / f"dump/{s}/text")) for s in ("train", "dev", "test")
    } == {
        "train": 6,
        "dev": 2,
        "test": 2,
    }
    data = recipe.path / "data/train"
    assert read_table(data / "wav.scp")["spk1-train3"] == str(manifest / "audio/train3.wav")
    assert read_table(data / "spk2utt")["spk0"] == "spk0-train0 spk0-train2 spk0-train4"
    resampled = read_table(recipe.path / "dump/train/wav.scp")["spk1-train3"]
    assert soundfile.info(recipe.path / resampled).samplerate == 16000
    tokens = (recipe.path / "dump/tokens_char/tokens.txt").read_text().split("\n")
    assert tokens[:2] == ["<blank>", "<unk>"] and "<space>" in tokens and tokens[-2] == "<sos/eos>"
    again = recipe.run("--stop-stage", "4", "--nj", "1", env={"MYCORPUS": str(manifest)})
    assert again.count("up to date") == 3


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda p: p.write_text(p.read_text() + "x\taudio/dev0.wav\tone\n"), r"dev\.tsv:3"),
        (lambda p: p.write_text(2 * p.read_text()), "'spk0-dev0' stands twice"),
        (lambda p: p.write_text(p.read_text().replace("dev1.wav", "none.wav")), r"none\.wav"),
        (Path.unlink, r"dev\.tsv is missing"),
    ],
)
def test_what_is_wrong_in_the_lists_is_told(recipe, manifest, break_it, message):
    break_it(manifest / "dev.tsv")
    out = recipe.run("--stop-stage", "1", code=3, env={"MYCORPUS": str(manifest)})
    assert re.search(message, out) and "Traceback" not in out
    assert not (recipe.path / "data").exists()


def test_without_the_corpus_it_says_which_variable_is_wanted(recipe):
    out = recipe.run("--stop-stage", "1", code=3, env={"MYCORPUS": ""})
    assert "MYCORPUS" in out


def test_the_template_shows_every_section_and_what_to_edit():
    text = (TEMPLATE / "recipe.yaml").read_text()
    sections = {f for f in config.Recipe.__dataclass_fields__}
    shown = set(re.findall(r"^(?:# )?(\w+):", text, re.M))
    assert sections == shown & sections
    assert text.count("EDIT") > 5
    config.load(TEMPLATE / "recipe.yaml")


def test_what_is_commented_out_is_valid_too(tmp_path):
    text = (TEMPLATE / "recipe.yaml").read_text()
    path, other = (tmp_path / f"{x}/asr1/recipe.yaml" for x in ("new", "an4"))
    for folder in (path.parent, other.parent):
        folder.mkdir(parents=True)
    other.write_text("title: another\n")
    path.write_text(re.sub(r"^(\s*)# (\w+:)", r"\1\2", text, flags=re.M))
    recipe = config.load(path)
    assert recipe.midtrain.init == recipe.finetune.init == ["pretrain:encoder:encoder"]
    assert recipe.finetune.args == {"max_epoch": 30} and recipe.format.ctc_stride == 4
    assert yaml.safe_load(text)["tokens"] == {"type": "char"}
