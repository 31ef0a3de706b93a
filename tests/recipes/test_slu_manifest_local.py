# SPDX-License-Identifier: Apache-2.0
"""The manifest recipe's data script: sets by rule or by language, tags of a list, counts told."""

import numpy as np
import pytest
import soundfile as sf
from recipe_tree import load_local

from espnet_ext.data.tables import read_table

script = load_local("slu_manifest")
HEADER = "id\taudio\tstart_s\tend_s\tspeaker\tlanguage\ttext\ttagged\tset"
ROWS = [
    "a\tx.wav\t\t\ts\tfr\toui\t<yes> oui >\ttrain",
    "b\tx.wav\t\t\ts\tit\tsi\t<yes> si >\ttrain",
    "c\tx.wav\t\t\ts\tfr\tnon\tnon\tdev",
    "d\tx.wav\t\t\ts\tfr\tle 2 mai\t<date> 02/05 >\ttest",
]


@pytest.fixture
def given(tmp_path):
    """A manifest; the last row has a normalised value."""
    folder = tmp_path / "lists"
    folder.mkdir()
    wave = np.random.default_rng(0).integers(-99, 99, 8000).astype(np.int16)
    sf.write(folder / "x.wav", wave, 8000)

    def put(rows):
        (folder / "manifest.tsv").write_text("\n".join([HEADER, *rows]) + "\n")

    put(ROWS[:3])
    return put


def sets(tmp_path):
    return {p.parent.name: sorted(read_table(p)) for p in (tmp_path / "data").glob("*/text")}


def test_sets_by_rule_and_by_language(given, run_local, tmp_path):
    told = run_local(script, "data", MANIFEST="lists", ESPNET_EXT_CALLED_FROM=tmp_path)
    assert sets(tmp_path) == {"train": ["a", "b"], "dev": ["c"]}
    assert "train: 2 utterances" in told and "2 concepts of 1 kinds" in told
    told = run_local(script, "more", "--languages", "fr", MANIFEST=tmp_path / "lists")
    assert "3 utterances read, 2 written, 1 skipped: 1 in no set" in told
    assert (
        (tmp_path / "more/skipped.tsv")
        .read_text()
        .splitlines()[1]
        .endswith("manifest.tsv:3\tin no set\ttrain, it")
    )
    run_local(script, "data", "--set", "train_fr=train:fr", "--set", "both=train:fr,it",
              "--env", "TARIC", TARIC=tmp_path / "lists/manifest.tsv", MANIFEST=None)  # fmt: skip
    got = sets(tmp_path)
    assert (got["train_fr"], got["both"]) == (["a"], ["a", "b"])


def test_corpora_are_joined_and_ids_must_differ(given, run_local, tmp_path):
    (tmp_path / "dev.tsv").write_text(
        "\n".join([HEADER, ROWS[1].replace("b\tx", "e\tlists/x").replace("train", "dev")]) + "\n"
    )
    both = ("--more", "dev.tsv", "--set", "dev=dev:fr,it")
    run_local(script, "data", *both, MANIFEST="lists", ESPNET_EXT_CALLED_FROM=tmp_path)
    assert sets(tmp_path) == {"dev": ["c", "e"]}
    twice = run_local(script, "data", "--more", "lists", MANIFEST="lists", code=3)
    assert "'a' stands twice" in twice and twice.count("manifest.tsv:2") == 2


def test_values_that_are_not_the_words(given, run_local, tmp_path):
    given(ROWS)
    path = tmp_path / "lists"
    assert "is not text: '02/05' and 'le'" in run_local(script, "data", MANIFEST=path, code=3)
    run_local(script, "data", "--values", "other", MANIFEST=path)
    assert read_table(tmp_path / "data/test/plain") == {"d": "le 2 mai"}


def test_speech_without_any_concept_is_refused_before_an_encoder_is_trained(given, run_local):
    given([ROWS[2], ROWS[2].replace("c\t", "e\t").replace("dev", "train")])
    told = run_local(script, "data", "--train-encoder", "train", MANIFEST="lists", code=3)
    assert "no utterance has a concept" in told and "step 1/" not in told


def test_a_sentence_encoder_from_the_texts_alone(given, run_local, tmp_path, monkeypatch):
    monkeypatch.delenv("SENTENCE_ENCODER", raising=False)
    rows = [
        f"t{i}\tx.wav\t\t\ts\tfr\t{w} la {x}\t{w} la <thing> {x} >\ttrain"
        for i, (w, x) in enumerate(
            (w, x)
            for w in ("ferme", "ouvre", "allume")
            for x in ("porte", "lampe", "radio", "nuit")
        )
    ]
    given([*rows, ROWS[2]])
    told = run_local(script, "data", "--train-encoder", "train", "--encoder-steps", 60,
                     MANIFEST="lists")  # fmt: skip
    assert "12 meanings in two or more" in told
    table = (tmp_path / "data/parallel.tsv").read_text().splitlines()[1:]
    assert len(table) == 36 and not any("non" in line.split("\t")[2] for line in table)
    assert (tmp_path / "data/sentence_encoder/model.safetensors").is_file()
    few = run_local(script, "data", "--train-encoder", "dev", MANIFEST="lists", code=3)
    assert "fewer than 8 different texts" in few


def test_translations_come_before_shortened_copies():
    teacher = load_local("slu_teacher")
    row = teacher.SluRow("a", "x", None, 1.0, "s", "fr", "oui", "oui", "train", "yes")
    both = [row, row._replace(language="it", text="sì"), row]
    assert teacher.translations(both) == []  # one pair teaches nothing
    both += [r._replace(meaning="no", text=t) for r, t in zip(both[:2], ("non", "no"), strict=True)]
    assert teacher.translations(both)[:2] == [("yes", "fr", "oui"), ("yes", "it", "sì")]
    assert teacher.translations([row]) == []
    lines = teacher.shortened([row, row._replace(text="a b c d e f")], 0)
    assert [line[0] for line in lines] == ["text0"] * 3 + ["text1"] * 3
    assert all(lines[i][2] == "oui" for i in range(3))  # a copy is never empty


def test_misuse(given, run_local, tmp_path):
    path = tmp_path / "lists"
    assert "MANIFEST is not set" in run_local(script, "data", MANIFEST=None, code=3)
    assert "nothing that exists" in run_local(script, "data", MANIFEST="gone", code=3)
    told = run_local(script, "data", "--languages", "aeb", MANIFEST=path, code=3)
    assert "no language of set" in told and "'aeb'" in told
    both = ("--languages", "fr", "--set", "train")
    assert "exclude each other" in run_local(script, "data", *both, MANIFEST=path, code=2)
    (tmp_path / "symbols").write_text("no\n")
    told = run_local(script, "data", "--symbols", tmp_path / "symbols", MANIFEST=path, code=3)
    assert "<yes> is not in the list of symbols" in told and "manifest.tsv:2" in told
    assert not (tmp_path / "data").exists()
