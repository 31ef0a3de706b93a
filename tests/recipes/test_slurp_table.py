# SPDX-License-Identifier: Apache-2.0
"""SLURP with hypotheses that a user has: forms, ids, and what is not there."""

import json

import pytest
from recipe_tree import load_local
from slurp_tree import TEXTS, UNSET, tables, write_official

from espnet_ext.data.tables import read_table

script = load_local("slurp")


@pytest.fixture
def official(tmp_path):
    """The text part in the layout of its repository."""
    return write_official(tmp_path / "slurp")


@pytest.fixture
def prepare(run_local):
    """Return ``prepare(*argv, code=0, **variables) -> what it printed``."""

    def call(*argv, code=0, **variables):
        return run_local(script, "data", *argv, code=code, **UNSET | variables)

    return call


TABLE_FORMS = {
    "tabs": lambda u, t: f"{u}\t{t}\n",
    "file names": lambda u, t: f"audio/{u}.flac\t{t}\n",
    "json": lambda u, t: json.dumps({"file": f"{u}.flac", "hyp": t}) + "\n",
}


@pytest.fixture
def heard(official):
    """Hypotheses of all recordings, one of them empty."""
    texts = {f"{s}{i}{mic}": t.replace("song", "sun") for s in TEXTS for mic in ("", "-headset")
             for i, t in enumerate(TEXTS[s])}  # fmt: skip
    return {**texts, "devel1": ""}


@pytest.mark.parametrize("form", TABLE_FORMS)
def test_own_hypotheses_in_each_form(tmp_path, prepare, official, heard, form):
    lines = [TABLE_FORMS[form](u, t) for u, t in heard.items()]
    (tmp_path / "hyp.txt").write_text("".join(lines))
    out = prepare("--asr", "table:hyp.txt", SLURP=official)
    manual, asr, label = tables(tmp_path, "valid")
    assert len(manual) == 8 and asr["devel1"] == "" and asr["devel0-headset"] == "what is this sun"
    assert manual["devel0"] == TEXTS["devel"][0] and label["devel3"] == "email query"
    assert "no hypothesis" not in out and not (tmp_path / "data/valid/without_asr.tsv").exists()
    prepare("--asr", "table:hyp.txt", "--recordings", "headset", SLURP=official)
    assert len(tables(tmp_path, "train")[0]) == 4


def test_own_hypotheses_by_sentence_out_of_a_folder(tmp_path, prepare, official):
    (tmp_path / "hyp").mkdir()
    for number, (split, texts) in enumerate(TEXTS.items(), 1):
        rows = [{"slurp_id": 100 * number + i, "text": f"{t} er"} for i, t in enumerate(texts)]
        text = "".join(json.dumps(r) + "\n" for r in rows)
        (tmp_path / f"hyp/{split}.jsonl").write_text(text)
    prepare("--asr", "table:hyp", SLURP=official)
    assert tables(tmp_path, "valid")[1] == {
        f"slurp-{200 + i:06d}": f"{t} er" for i, t in enumerate(TEXTS["devel"])
    }


def test_a_check_reads_and_tells_and_writes_nothing(tmp_path, prepare, official, heard):
    (tmp_path / "hyp.txt").write_text("".join(f"{u}\t{t}\n" for u, t in heard.items()))
    argv = ("--asr", "table:hyp.txt", "--check")
    out = prepare(*argv, SLURP=official)
    assert "valid: 8 utterances with a hypothesis, 1 of them empty; 0 without one" in out
    assert "exact match" in out and "WARNING" not in out and not (tmp_path / "data").exists()
    silent = "".join(f"{u}\t\n" if "devel" in u else f"{u}\t{t}\n" for u, t in heard.items())
    (tmp_path / "hyp.txt").write_text(silent)
    assert "WARNING: valid: 100 % of the hypotheses are empty" in prepare(*argv, SLURP=official)
    (tmp_path / "hyp.txt").write_text("train0\tone\ntrain0\ttwo\n")
    assert "'train0' stands twice" in prepare(*argv, code=3, SLURP=official)


def test_few_missing_hypotheses_are_listed_and_many_refused(tmp_path, prepare, official, heard):
    Sentence = script.slurp_text.Sentence
    rows = [Sentence(str(i), "play", "music", "play", (f"r{i}.flac",)) for i in range(40)]
    table = {f"r{i}": ("play", "hyp.txt") for i in range(1, 40)}
    sets, missing = script.with_hypotheses({"train": rows}, table, "all", script.NAMES)
    assert len(sets["train"]) == 39 and missing["train"] == ["r0"]
    script.tell_missing(tmp_path, "train", missing["train"])
    assert read_table(tmp_path / "without_asr.tsv") == {"r0": "no hypothesis"}
    without = {u: t for u, t in heard.items() if not u.startswith("test")}
    (tmp_path / "hyp.txt").write_text("".join(f"{u}\t{t}\n" for u, t in without.items()))
    out = prepare("--asr", "table:hyp.txt", code=3, SLURP=official)
    assert "8 of 8 utterances of test have no hypothesis" in out and "test0" in out


@pytest.mark.parametrize(
    "line, message",
    [
        ("train0\tagain", "'train0' stands twice"),
        ("train9\thello", "'train9' is no recording"),
        ("train0 hello", "there is no tab"),
        ('{"name": "train0", "text": "x"}', "there is no id or file"),
        ('{"id": "train0"', "not JSON"),
    ],
)
def test_a_bad_line_of_hypotheses_is_named(tmp_path, prepare, official, heard, line, message):
    text = "".join(f"{u}\t{t}\n" for u, t in heard.items())
    (tmp_path / "hyp.txt").write_text(text + line + "\n")
    out = prepare("--asr", "table:hyp.txt", code=3, SLURP=official)
    assert message in out and f"hyp.txt:{len(heard) + 1}" in out and "Traceback" not in out


def test_hypotheses_that_are_not_there(tmp_path, prepare, official):
    (tmp_path / "empty.tsv").write_text("\n")
    assert "there are no hypotheses" in prepare("--asr", "table:empty.tsv", code=3, SLURP=official)
    assert "there are no hypotheses" in prepare("--asr", "table:none.txt", code=3, SLURP=official)
    assert "table:PATH" in prepare("--asr", "table:", code=2, SLURP=official)
