# SPDX-License-Identifier: Apache-2.0
"""The three corpora of the multi-stage method, prepared by one script, on small trees."""

import re

import pytest
from av_trees import make_kinetics600, make_lrs3, make_voxceleb2
from librispeech_tree import make_librispeech
from must_c_tree import make_must_c
from recipe_tree import load_local

from espnet_ext.data.check import check_dir
from espnet_ext.data.tables import read_table

pytest.importorskip("av")
multistage = load_local("multistage")
CLIPS = {
    "lrs3": ("LRS3", make_lrs3),
    "voxceleb2": ("VOXCELEB2", make_voxceleb2),
    "kinetics600": ("KINETICS600", make_kinetics600),
}
AV, ST = ["av_dev", "av_train"], ["st_dev", "st_test", "st_train"]
ASR = ["dev", "test_clean", "test_other", "train"]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    parent = tmp_path_factory.mktemp("corpora")
    made = {"MUSTC": make_must_c(parent, language="it"), "LIBRISPEECH": make_librispeech(parent)}
    return made | {variable: make(parent) for variable, make in CLIPS.values()}


def prepare(run_local, tmp_path, clips, *argv, code=0, **variables):
    more = [] if clips == "none" else ["--jobs", "1"]
    argv = [tmp_path / "data", "--clips", clips, *more, *argv]
    return run_local(multistage, *argv, code=code, **variables)


@pytest.mark.parametrize("clips", CLIPS)
def test_all_sets_are_made_and_usable(clips, corpora, run_local, tmp_path):
    told = prepare(run_local, tmp_path, clips, "--pair", "en-it", **corpora)
    made = sorted(p.name for p in (tmp_path / "data").iterdir() if p.is_dir())
    assert made == sorted([*AV, *ST, *ASR])
    for name in made:
        found = check_dir(tmp_path / "data" / name, need_text=name not in AV)
        assert [f for f in found if f.level == "error"] == []
    assert len(read_table(tmp_path / "data/train/text")) == 6  # 960 h: three parts
    rows = (tmp_path / "data/skipped.tsv").read_text().splitlines()[1:]
    skipped = [row.split("\t")[0] for row in rows]
    assert skipped.count("st_train") == 3 and {*skipped} & {*AV}
    assert sum(int(n) for n in re.findall(r"(\d+) skipped", told)) == len(skipped)


def test_what_an_experiment_does_not_need_need_not_be_there(corpora, run_local, tmp_path):
    own = {"LIBRISPEECH": corpora["LIBRISPEECH"], "MUSTC": None, "LRS3": None}
    prepare(run_local, tmp_path, "none", "--mid", "none", "--asr-train", "train-clean-100", **own)
    assert sorted(p.name for p in (tmp_path / "data").iterdir() if p.is_dir()) == ASR
    assert len(read_table(tmp_path / "data/train/text")) == 3


@pytest.mark.parametrize(
    ("change", "argv", "code", "says"),
    [
        ({"MUSTC": None}, [], 3, "MUSTC is not set"),
        ({"LRS3": None}, [], 3, "LRS3 is not set"),
        ({}, ["--pair", "en-nl"], 3, "en-nl is not in this copy"),
        ({}, ["--asr-train", "train-clean-10"], 2, "no part 'train-clean-10'"),
        ({}, ["--asr-train", "test-clean"], 2, "test-clean would be trained on and scored"),
    ],
)
def test_everything_is_looked_for_before_anything_is_read(
    change, argv, code, says, corpora, run_local, tmp_path
):
    argv = argv if "--pair" in argv else ["--pair", "en-it", *argv]
    told = prepare(run_local, tmp_path, "lrs3", *argv, code=code, **{**corpora, **change})
    assert says in told and not (tmp_path / "data").exists()
