# SPDX-License-Identifier: Apache-2.0
"""Stage 2 on sets with faults, and what it keeps, counts and normalises."""

import re
from pathlib import Path

import pytest
import yaml

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.ml_lmcl.stages import format as stage
from espnet_ext.recipe import config, options
from espnet_ext.recipe.stages import Context
from espnet_ext.text.tokenizer import EMPTY

TRAIN = [("a", "Hello there, World", "hello World", "greet ask"),
         ("b", "play JAZZ", "", "music play"),
         ("c", "it's ten o'clock", "its ten clock", "time ask")]  # fmt: skip
VALID = [("d", "hello", "hello", "greet play"), ("e", "", "uh", "time ask")]


def write(name, rows):
    folder = Path("data", name)
    folder.mkdir(parents=True, exist_ok=True)
    for column, file in enumerate(stage.FILES, 1):
        (folder / file).write_text("".join(f"{r[0]} {r[column]}".rstrip() + "\n" for r in rows))


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two sets in the current folder; return ``run(**format.args)``, which returns what is told."""
    told: list[str] = []
    monkeypatch.setattr(stage, "say", told.append)
    monkeypatch.chdir(tmp_path)
    write("train", TRAIN)
    write("valid", VALID)

    def run(**args):
        recipe = {
            "data": {"valid": "valid", "test": ["valid"], "files": list(stage.FILES)},
            "format": {"args": {"heads": ["topic", "act"], **args}},
        }
        Path("recipe.yaml").write_text(yaml.safe_dump(recipe))
        ctx = Context(config.load(Path("recipe.yaml")), options.parse([], set()))
        plan = stage.plan(ctx)
        stage.run(ctx, plan)
        assert all(p.exists() for p in plan.makes)
        return "\n".join(told)

    return run


def test_word_errors_of_a_hand_made_example(corpus):
    """a: "there," deleted and "world" right; b: both deleted; c: "it's", "o'clock" wrong."""
    out = corpus()
    assert read_table("dump/train/asr_errors") == {"a": "1 3", "b": "2 2", "c": "2 3"}
    assert read_table("dump/valid/asr_errors") == {"d": "0 1", "e": "1 0"}  # an insertion
    assert "train: 3 utterances, WER of the ASR text 62.5 %" in out  # 5 of 8 words
    assert "valid: 2 utterances, WER of the ASR text 100.0 %" in out


def test_texts_in_two_styles_are_told(corpus):
    rows = [("a", "Turn it on, please.", "turn it on please"), ("b", "Stop!", "stop"),
            ("c", "Good night.", "good light")]  # fmt: skip
    write("train", [(*row, old[3]) for row, old in zip(rows, TRAIN, strict=True)])
    how = "word errors are of case or punctuation: --format.args.normalize words"
    train, valid = corpus().splitlines()
    assert f"; 5 of 6 {how}" in train and how not in valid
    assert corpus(normalize="words").count(how) == 1  # that of before


@pytest.mark.parametrize(
    ("wer_text", "edits"), [("none", [3, 2, 2]), ("lower", [1, 2, 2]), ("words", [1, 2, 2])]
)
def test_the_rule_of_word_errors_leaves_the_texts_alone(corpus, wer_text, edits):
    write("train", [("a", "Hello World", "hello world there", "greet ask"), *TRAIN[1:]])
    before = Path("data/train/text_manual").read_text()
    corpus(wer_text=wer_text)
    errors = [int(v.split()[0]) for v in read_table("dump/train/asr_errors").values()]
    assert errors == edits
    assert Path("dump/train/text_manual").read_text() == before


@pytest.mark.parametrize(
    ("mode", "manual", "errors"),
    [
        ("none", "Hello there, World", "1 3"),
        ("lower", "hello there, world", "1 3"),
        ("words", "hello there world", "1 3"),
    ],
)
def test_normalisation_reaches_both_texts(corpus, mode, manual, errors):
    corpus(normalize=mode)
    texts = read_table("dump/train/text_manual")
    assert texts["a"] == manual and read_table("dump/train/asr_errors")["a"] == errors
    asr = read_table("dump/train/text_asr")["a"]
    assert asr == ("hello World" if mode == "none" else "hello world")


def test_text_that_normalisation_empties_is_kept_and_counted(corpus):
    write("valid", [("d", "hello", "...", "greet play"), *VALID[1:]])
    assert "1 empty ASR texts (kept), 1 empty manual texts (kept)" in corpus(normalize="words")
    assert read_table("dump/valid/text_asr") == {"d": EMPTY, "e": "uh"}


def test_empty_texts_are_kept_and_counted(corpus):
    assert "1 empty ASR texts (kept)" in corpus()
    assert read_table("dump/train/text_asr")["b"] == EMPTY
    assert read_table("dump/valid/text_manual") == {"d": "hello", "e": EMPTY}
    for name in ("train", "valid"):
        for file in stage.FILES:
            assert (
                read_table(f"dump/{name}/{file}").keys() == read_table(f"data/{name}/{file}").keys()
            )


def test_labels_are_those_of_the_training_set_in_byte_order(corpus):
    write("train", [*TRAIN, ("f", "x", "x", "Zoo ask")])
    corpus()
    assert Path("dump/labels/topic.txt").read_text() == "Zoo\ngreet\nmusic\ntime\n"
    assert Path("dump/labels/act.txt").read_text() == "ask\nplay\n"
    assert Path("dump/labels/heads.txt").read_text() == "topic\nact\n"


@pytest.mark.parametrize("file", stage.FILES)
@pytest.mark.parametrize("name", ["train", "valid"])
def test_tables_of_different_utterances_are_refused(corpus, file, name):
    path = Path("data", name, file)
    lines = path.read_text().splitlines(keepends=True)
    for left, lost in ((lines[:-1], lines[-1]), ([*lines, "zz y y\n"], "zz ")):
        path.write_text("".join(left))
        with pytest.raises(DataError, match=f"'{lost.split()[0]}' is in one of them only") as e:
            corpus()
        assert str(path) in str(e.value)


def test_an_unseen_label_is_named_with_its_line(corpus):
    write("valid", [*VALID, ("f", "x", "y", "sport ask"), ("g", "x", "y", "time sing")])
    with pytest.raises(DataError, match=r"'f' has topic 'sport'.*and 1 more") as e:
        corpus()
    assert re.search(r"data/valid/label:3\b", str(e.value)) and "wrong" in e.value.how


def test_utterances_with_an_unseen_label_may_stay(corpus):
    write("valid", [*VALID, ("f", "x", "y", "sport ask")])
    out = corpus(unseen_labels="wrong")
    assert read_table("dump/valid/label")["f"] == "sport ask"
    assert len(read_table("dump/valid/text_asr")) == 3
    assert "sport" not in Path("dump/labels/topic.txt").read_text()
    assert "valid: 3 utterances" in out and "1 with an unseen label" in out


@pytest.mark.parametrize(("label", "count"), [("greet", 1), ("", 0), ("greet ask now", 3)])
@pytest.mark.parametrize("name", ["train", "valid"])
def test_lines_need_a_label_for_each_head(corpus, name, label, count):
    write(name, [*(TRAIN if name == "train" else VALID)[:1], ("x", "hello", "hello", label)])
    with pytest.raises(DataError, match=f"'x' has {count} labels for 2 heads") as e:
        corpus()
    assert str(e.value.where) == f"data/{name}/label:2"


def test_a_head_with_one_label_has_nothing_to_learn(corpus):
    write("train", [r for r in TRAIN if r[3].endswith("ask")])
    with pytest.raises(DataError, match="'act' has one label only"):
        corpus()


def test_a_set_that_fails_leaves_the_one_before_whole(corpus):
    corpus()
    before = Path("dump/valid/label").read_bytes()
    write("valid", [("d", "hello", "hello", "sport play")])
    with pytest.raises(DataError):
        corpus()
    assert Path("dump/valid/label").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"normalize": "word"}, "did you mean 'words'"),
        ({"wer_text": "lowr"}, "did you mean 'lower'"),
        ({"unseen_labels": "keep"}, "error, wrong"),
        ({"heads": ["topic", "topic"]}, "name of its own"),
        ({"heads": []}, "name of its own"),
        ({"head": ["topic"]}, "did you mean 'heads'"),
    ],
)
def test_impossible_settings_are_named(corpus, args, words):
    with pytest.raises(UsageError, match=words):
        corpus(**args)
