# SPDX-License-Identifier: Apache-2.0
"""--list and --dry-run tell a stranger where a corpus comes from, its terms and its variables."""

from pathlib import Path

import pytest

from espnet_ext.recipe import config, corpus_lines, runner
from espnet_ext.recipe.schema import Corpus

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("egs2/*/*/recipe.yaml"))
CLIPS = {"lrs3": "LRS3", "voxceleb2": "VOXCELEB2", "kinetics600": "KINETICS600"}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("egs2/*/*/recipe.yaml")), ids=lambda p: p.parts[-3]
)
def test_recipes_with_a_corpus_have_its_source_and_terms(path):
    corpus = config.load(path).corpus
    told = "\n".join(corpus_lines.lines(corpus))
    for name in filter(None, (corpus.env, *corpus.more_env)):
        assert f"{name}=/path" in told
        assert "source: " in told and "licence: " in told


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("argv", [["--list"], ["--dry-run", "--stop-stage", "1"]])
def test_the_three_corpora_of_a_chain(name, argv, monkeypatch, capfd):
    monkeypatch.chdir(ROOT / f"egs2/{name}/multistage1")
    assert runner.main(argv) == 0
    out = capfd.readouterr().out
    assert f"paths: {CLIPS[name]}=/path MUSTC=/path LIBRISPEECH=/path ./run.sh" in out
    assert "source: https://" in out and "licence: " in out
    if argv == ["--list"]:
        assert "CC BY-NC-ND 4.0" in out and "openslr.org/12" in out


def test_no_corpus_and_one_that_is_downloaded():
    assert not [*corpus_lines.lines(Corpus())]
    *_, last = corpus_lines.lines(Corpus(name="AN4", env="AN4", download=True))
    assert last == "    paths: AN4=/path ./run.sh; without AN4 it is downloaded"
