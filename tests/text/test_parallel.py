# SPDX-License-Identifier: Apache-2.0
"""The small multilingual sentence encoder: loss, batches, tables, and what it learns."""

import itertools
import math

import numpy as np
import pytest
import torch

from espnet_ext.errors import DataError
from espnet_ext.text import parallel, similarity
from espnet_ext.text.parallel import ParallelArgs, make, read_parallel
from espnet_ext.text.sentence import SentenceEncoder
from espnet_ext.text.sentence_layout import pool
from espnet_ext.text.similarity import Parallel

FRENCH = ("réserver une chambre à {} pour {}", "annuler ma chambre à {} pour {}", "météo à {} {}")
ITALIAN = ("prenotare una camera a {} per {}", "disdire la camera a {} per {}", "tempo a {} {}")
CITIES = (("lyon", "lione"), ("nantes", "nizza"), ("paris", "parigi"), ("rome", "roma"))
DAYS = (("lundi", "lunedì"), ("mardi", "martedì"), ("jeudi", "giovedì"), ("demain", "domani"))
QUICK = ParallelArgs(width=32, heads=2, vocab_size=400, steps=60, batch=24, lr=4e-3)


def rows(dev: bool) -> list[Parallel]:
    """Return 48 meanings in two languages; every fourth is for development."""
    out = []
    for n, (t, c, d) in enumerate(itertools.product(range(3), range(4), range(4))):
        if ((c + d + t) % 4 == 0) == dev:
            for i, (language, patterns) in enumerate((("fr", FRENCH), ("it", ITALIAN))):
                text = patterns[t].format(CITIES[c][i], DAYS[d][i])
                out.append(Parallel(f"m{n}", language, text))
    return out


def write_table(path, found):
    lines = [f"{r.text}\t{r.meaning}\t{r.language}" for r in found]  # columns in any order
    path.write_text("\n".join(["text\tmeaning\tlanguage", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the folder, what was told, and the tables."""
    root, told = tmp_path_factory.mktemp("parallel"), []
    tables = [write_table(root / f"{dev}.tsv", rows(dev)) for dev in (False, True)]
    make(tables[0], root / "encoder", tables[1], QUICK, told.append)
    return root / "encoder", told, tables


def test_translations_that_were_not_trained_on_are_nearest(trained):
    folder, told, _ = trained
    encoder, unseen = SentenceEncoder(folder), rows(dev=True)
    assert encoder.layout.pooling == "mean" and encoder.width == 32
    vectors = encoder([r.text for r in unseen])
    assert similarity.mean(similarity.retrieval(unseen, vectors)) >= 0.9
    assert similarity.mean_cosine(vectors) < 0.4
    assert any("dev: mean cosine" in line and "fr->it" in line for line in told)
    assert np.isfinite(encoder(["un mot inconnu \N{GRINNING FACE}", ""])).all()


def test_the_same_seed_gives_the_same_bytes(trained, tmp_path):
    folder, _, tables = trained
    make(tables[0], tmp_path / "again", tables[1], QUICK, print)
    for name in ("model.safetensors", "tokenizer.json", "training.json", "modules.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_loading_gives_the_embeddings_that_training_saw(tmp_path):
    """A tokenizer that splits the first word otherwise when it is loaded again would show here."""
    texts = [r.text for r in rows(dev=False)]
    model, tokenizer = parallel.train(rows(False), ParallelArgs(**{**vars(QUICK), "steps": 2}))
    parallel.write(tmp_path / "e", model, tokenizer, {})
    with torch.no_grad():
        seen = parallel._embed(model, tokenizer(texts)["input_ids"]).numpy()
    np.testing.assert_allclose(SentenceEncoder(tmp_path / "e")(texts), seen, atol=2e-6)


def test_an_encoder_of_no_use_is_not_written(trained, tmp_path):
    _, _, tables = trained
    (tmp_path / "e").mkdir()
    kept = {"old", "training.json"}  # by the latter an encoder of before is known
    for name in kept:
        (tmp_path / "e" / name).write_text("kept")
    args = ParallelArgs(**{**vars(QUICK), "steps": 1, "lr": 1e-6})
    with pytest.raises(DataError, match=r"collapsed|translation for") as e:
        make(tables[0], tmp_path / "e", tables[1], args, print)
    assert "--steps" in e.value.how
    assert {p.name for p in (tmp_path / "e").iterdir()} == kept
    with pytest.raises(DataError, match=r"36 meanings are in both tables, e\.g\. m1"):
        make(tables[0], tmp_path / "e", tables[0], QUICK, print)


def test_loss_by_loops_and_its_gradient():
    torch.manual_seed(0)
    one, two = (torch.nn.functional.normalize(torch.randn(5, 3), dim=1).double() for _ in "ab")
    total = 0.0
    for i in range(5):
        for a, b in ((one, two), (two, one)):
            scores = [float(a[i] @ b[j]) / 0.07 for j in range(5)]
            total += math.log(sum(map(math.exp, scores))) - scores[i]
    assert float(parallel.info_nce(one, two, 0.07)) == pytest.approx(total / 10)
    one.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: parallel.info_nce(x, two, 0.5), one)
    far = torch.eye(4)
    assert float(parallel.info_nce(far, far, 0.01)) == pytest.approx(0, abs=1e-6)
    alike = torch.ones(4, 1)
    assert float(parallel.info_nce(alike, alike, 0.07)) == pytest.approx(math.log(4))


def test_mean_pooling_leaves_padding_out():
    hidden = torch.arange(12.0).reshape(2, 3, 2)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    out = type("Out", (), {"last_hidden_state": hidden})
    assert pool(out, mask, "mean").tolist() == [[1, 2], [8, 9]]


def test_batches_are_translations_without_a_text_twice():
    found = [*rows(False), Parallel("m99", "fr", "météo à lyon demain"), Parallel("m99", "it", "x")]
    texts, pairs = [r.text for r in found], parallel.translations(found)
    made = list(parallel.batches(texts, pairs, ParallelArgs(steps=30, batch=12)))
    assert made == list(parallel.batches(texts, pairs, ParallelArgs(steps=30, batch=12)))
    assert len(made) == 30
    for batch in made:
        assert all(found[a].meaning == found[b].meaning for a, b in batch)
        assert all(found[a].language != found[b].language for a, b in batch)
        for side in zip(*batch, strict=True):
            assert len({texts[i] for i in side}) == len(side)
    assert {found[i].meaning for b in made for p in b for i in p} == {r.meaning for r in found}


def test_neighbours_share_most_words():
    found = rows(False)
    texts, pairs = [r.text for r in found], parallel.translations(found)
    bags = [{(la, w) for la, at in p.items() for i in at for w in texts[i].split()} for p in pairs]
    for i, near in enumerate(parallel.neighbours(texts, pairs)):
        shared = sorted((len(bags[i] & bags[j]) for j in range(len(bags)) if j != i), reverse=True)
        assert i not in near
        assert [len(bags[i] & bags[j]) for j in near] == shared[: parallel.NEIGHBOURS]


@pytest.mark.parametrize(
    ("line", "words", "number"),
    [
        ("m1\tfr\tje veux <chambre> double >", "has a tag", 3),
        ("m1\tfr", "has 2 columns, the first line 3", 3),
        ("m1\tfr\t \u00a0", "column is empty", 3),
        ("m1\t\tbonjour", "column is empty", 3),
        ("m1\tfr\ta\tb", "4 columns", 3),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, words, number):
    path = tmp_path / "t.tsv"
    path.write_text(f"meaning\tlanguage\ttext\nm0\tfr\tbonjour\n{line}\n", encoding="utf-8")
    with pytest.raises(DataError, match=words) as e:
        read_parallel(path)
    assert str(e.value.where) == f"{path}:{number}"


def test_tables_of_other_forms(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_bytes(
        "\ufeffmeaning\tlanguage\ttext\r\n\r\nm0\tfr\te\u0301te\u0301  ici\r\n".encode()
    )
    assert read_parallel(path) == [Parallel("m0", "fr", "été ici")]
    with pytest.raises(DataError, match="0 meanings have a translation"):
        make(path, tmp_path / "e", None, QUICK, print)
    path.write_text("meaning\ttext\n")
    with pytest.raises(DataError, match="names no column language") as e:
        read_parallel(path)
    assert e.value.where == f"{path}:1"
    path.write_text("meaning\tlanguage\ttext\ttext\nm0\tfr\tone\tother\n")
    with pytest.raises(DataError, match="the column text stands twice"):
        read_parallel(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="not UTF-8"):
        read_parallel(path)


def test_command_line(trained, tmp_path, capsys):
    _, _, tables = trained
    small = ["--width", "32", "--heads", "2", "--vocab-size", "400", "--steps", "60"]
    small += ["--batch", "24", "--lr", "0.004"]
    assert (
        parallel.main([*map(str, (tables[0], tmp_path / "e")), "--dev", str(tables[1]), *small])
        == 0
    )
    assert "nearest text is a translation" in capsys.readouterr().out
    for wrong in (["--steps", "0"], ["--heads", "5"]):
        with pytest.raises(parallel.UsageError):
            parallel.main([str(tables[0]), str(tmp_path / "f"), *wrong])
    with pytest.raises(parallel.UsageError, match="would delete"):
        parallel.main([str(tables[0]), str(tables[0].parent), *small])
    assert tables[0].is_file()
