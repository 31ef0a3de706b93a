# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings on disk: reuse, another encoder, damage, kills, hostile texts, workers."""

import json
import pickle
import unicodedata
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from tiny_text import make_bert

from espnet_ext.errors import DataError
from espnet_ext.text import sentence_store, similarity
from espnet_ext.text.sentence import SentenceEncoder
from espnet_ext.text.sentence_store import SentenceStore, build_store
from espnet_ext.text.similarity import Parallel

TEXTS = ["je voudrais une chambre", "vorrei una camera", "à le mans", "je voudrais une chambre"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("store") / "labse")


@pytest.fixture
def encoder(bert):
    """The encoder; ``asked`` are the texts that it was asked for."""

    class Counting(SentenceEncoder):
        asked: ClassVar = []

        def __call__(self, texts, progress=None):
            self.asked.extend(texts)
            return super().__call__(texts, progress)

    Counting.asked = []
    return Counting(bert, "mean")


def test_one_row_a_distinct_text_found_by_its_text(tmp_path, encoder):
    report = build_store(tmp_path / "s", TEXTS, encoder)
    assert (report.texts, report.computed) == (3, 3)
    store = SentenceStore(tmp_path / "s", width=16, fingerprint=encoder.fingerprint)
    assert len(store) == 3 and store.width == 16 and list(store.texts()) == TEXTS[:3]
    for text, vector in zip(TEXTS, encoder(TEXTS), strict=True):
        np.testing.assert_allclose(store[text], vector, atol=2e-6)
        assert text in store and store[text].dtype == np.float32
    about = json.loads((tmp_path / "s/about.json").read_text())
    assert about["source"].endswith("/labse") and not about["source"].startswith("/")
    with pytest.raises(ValueError, match="read-only"):
        store.vectors[0, 0] = 1
    store[TEXTS[0]][0] = 5  # a copy
    assert store[TEXTS[0]][0] != 5


def test_only_new_texts_are_computed_until_the_encoder_is_another(tmp_path, encoder):
    build_store(tmp_path / "s", TEXTS, encoder)
    first = {t: SentenceStore(tmp_path / "s")[t] for t in TEXTS}
    encoder.asked.clear()
    about = (tmp_path / "s/about.json").read_bytes()
    report = build_store(tmp_path / "s", ["quanto costa", *TEXTS[1:]], encoder)
    assert (tmp_path / "s/about.json").read_bytes() == about  # a training need not start again
    assert encoder.asked == ["quanto costa"] and (report.texts, report.computed) == (4, 1)
    store = SentenceStore(tmp_path / "s")
    assert all(np.array_equal(store[t], v) for t, v in first.items())
    other = make_bert(tmp_path / "other", seed=1)
    report = build_store(tmp_path / "s", TEXTS, SentenceEncoder(other, "mean"))
    assert report.computed == 3  # not one of the old rows
    assert not np.allclose(SentenceStore(tmp_path / "s")[TEXTS[0]], first[TEXTS[0]])
    assert build_store(tmp_path / "s", TEXTS, SentenceEncoder(other, "cls")).computed == 3


def test_hostile_texts_are_found_again(tmp_path, encoder):
    hostile = [
        "",
        "a\tb",
        "été",
        "\u2028",
        "un  deux ",
        '"\\n"',
        "\N{GRINNING FACE}",
        "مرحبا",
        "x y",
    ]
    build_store(tmp_path / "s", hostile, encoder)
    store = SentenceStore(tmp_path / "s")
    assert all(t in store for t in hostile)
    nfd = unicodedata.normalize("NFD", "été")
    assert nfd != "été" and np.array_equal(store[nfd], store["été"])
    assert np.array_equal(store["a b"], store["a\tb"])
    assert np.array_equal(store["<empty>"], store[""])
    assert "xy" not in store and "X y" not in store


def test_what_is_missing_or_does_not_fit_is_named(tmp_path, encoder):
    with pytest.raises(DataError, match="no usable sentence embeddings") as e:
        SentenceStore(tmp_path / "s")
    assert e.value.how == "./run.sh --stage format"
    build_store(tmp_path / "s", TEXTS, encoder)
    with pytest.raises(DataError, match="of the text 'prego'") as e:
        SentenceStore(tmp_path / "s")["prego"]
    assert "./run.sh --stage format" in e.value.how
    with pytest.raises(DataError, match="have 16 values, the model needs 768"):
        SentenceStore(tmp_path / "s", width=768)
    with pytest.raises(DataError, match="of another encoder"):
        SentenceStore(tmp_path / "s", fingerprint="abc")
    with pytest.raises(DataError, match="no text to embed"):
        build_store(tmp_path / "t", [], encoder)


@pytest.mark.parametrize("name", ["vectors.npy", "texts.jsonl", "about.json"])
@pytest.mark.parametrize("how", ["gone", "short", "garbage"])
def test_a_damaged_store_is_refused_and_made_again(tmp_path, encoder, name, how):
    build_store(tmp_path / "s", TEXTS, encoder)
    path = tmp_path / "s" / name
    content = path.read_bytes()
    path.write_bytes(content[:-20] if how == "short" else b"\x93\xff\n")
    if how == "gone":
        path.unlink()
    with pytest.raises(DataError) as e:
        SentenceStore(tmp_path / "s")
    assert Path(e.value.where).name == name
    assert build_store(tmp_path / "s", TEXTS, encoder).computed == 3
    SentenceStore(tmp_path / "s")


@pytest.mark.parametrize("at", ["save", "write_json"])
def test_a_kill_in_the_middle_keeps_the_old_store(tmp_path, encoder, monkeypatch, at):
    build_store(tmp_path / "s", TEXTS, encoder)
    before = {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()}

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(*((np, at) if at == "save" else (sentence_store, at)), killed)
    with pytest.raises(KeyboardInterrupt):
        build_store(tmp_path / "s", ["quanto costa"], encoder)
    assert {p.name: p.read_bytes() for p in (tmp_path / "s").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["s"]


def test_a_copy_for_a_worker_maps_the_file_and_does_not_carry_it(tmp_path, encoder):
    build_store(tmp_path / "s", [f"roma {i}" for i in range(2000)], encoder)
    store = SentenceStore(tmp_path / "s")
    sent = pickle.dumps(store)
    assert len(sent) < 2000 * 16 * 4 // 2 + 2000 * 24  # keys, not vectors
    copy = pickle.loads(sent)
    assert isinstance(copy.vectors, np.memmap)
    assert np.array_equal(copy["roma 1999"], store["roma 1999"])


def test_a_collapsed_encoder_is_warned_of(tmp_path):
    class Alike:
        fingerprint, source = "x", "a/b"
        layout = type("Layout", (), {"name": "mean"})

        def __call__(self, texts, progress=None):
            made = np.tile(np.array([[1.0, 0, 0]], np.float32), (len(texts), 1))
            made[:, 1] = 0.1 * np.arange(len(texts)) / len(texts)
            return made / np.linalg.norm(made, axis=1, keepdims=True)

    report = build_store(tmp_path / "s", TEXTS, Alike())
    assert report.cosine > 0.99 and any("alike" in line for line in report.lines())


def test_mean_cosine_and_retrieval_by_loops():
    rng = np.random.default_rng(3)
    rows = [Parallel(f"m{i % 6}", "fr" if i < 6 else "it", f"text {i}") for i in range(12)]
    rows.append(Parallel("m0", "it", "text 7"))  # one text of two meanings
    vectors = rng.standard_normal((12, 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = np.vstack([vectors, vectors[7]])
    pairs = [vectors[i] @ vectors[j] for i in range(13) for j in range(13) if i != j]
    assert similarity.mean_cosine(vectors) == pytest.approx(np.mean(pairs))
    found = similarity.retrieval(rows, vectors)
    for one, two in (("fr", "it"), ("it", "fr")):
        hits = []
        for q, row in enumerate(rows):
            if row.language != one:
                continue
            there = [i for i, r in enumerate(rows) if r.language == two]
            best = max(there, key=lambda i: vectors[q] @ vectors[i])
            same = {r.meaning for r in rows if r.language == two and r.text == rows[best].text}
            hits.append(row.meaning in same)
        assert found[one, two] == pytest.approx(np.mean(hits))
    assert similarity.retrieval(rows[:6], vectors) == {}
    alike = similarity.retrieval(rows, np.ones((13, 4)))
    assert similarity.mean(alike) <= 0.34  # a collapsed encoder hits no more than by chance
