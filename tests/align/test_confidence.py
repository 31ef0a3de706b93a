# SPDX-License-Identifier: Apache-2.0
"""Confidence in words: wrong ones are found, in transcripts that the training never saw."""

import contextlib
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from espnet_ext.align import missing
from espnet_ext.align.confidence import Confidence, learn, usual
from espnet_ext.align.corpus import prepare
from espnet_ext.align.evaluate.check import doubtful
from espnet_ext.align.evaluate.check import missing as missing_places
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.options import from_dict
from espnet_ext.align.passes.confidence import phone_evidence, phones_of, representatives
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.spoil import spoil
from espnet_ext.align.tree.tree import Tree
from espnet_ext.cli import main
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError


def test_evidence_is_zero_where_the_phone_fits_best_and_falls_with_the_distance():
    means = torch.arange(9.0).repeat_interleave(1)[:, None] * 4  # pdf k lies at 4 k
    gmm = Gmm(torch.arange(10), torch.ones(9), means, torch.ones(9, 1))
    tree = Tree.monophone(3)
    seg = Segmentation(np.array([1, 2]), np.array([0, 1]), np.array([[1, 1, 2], [1, 1, 1]]))
    x = torch.tensor([12.0, 16, 20, 20, 12, 16, 20])[:, None]  # phone 1 right, phone 2 is phone 1
    some = representatives(tree, np.ones(9, int))
    assert some.tolist() == list(range(9))
    found = phone_evidence(gmm, x, seg, tree, some, phones_of(tree), 2)
    assert found[0] == pytest.approx([0, 0], abs=1e-4)
    distances = [24 - 12, 24 - 16, 24 - 20]  # the nearest pdf of phone 2 is at 24
    worst = np.mean(np.square(distances[:2])), -np.mean(np.square(distances)) / 2
    assert found[1] == pytest.approx([worst[1], -worst[0] / 2], rel=1e-4)


def test_few_pdfs_stand_for_a_large_tree():
    nodes = ((0,), (1,), (2,), (0, 0, 4, 5), (3,), (4,), (5,), (6,))
    tree = Tree(2, (frozenset([1]),), (0, 1, 2, 3, 6, 7), nodes)
    sizes = np.array([5, 5, 5, 10, 3000, 5, 5])
    assert representatives(tree, sizes).tolist() == [0, 1, 2, 4, 5, 6]  # the larger one of two


def artificial(rng, wrong):
    """Return an utterance of 6 words of 3 phones, one of them a poor fit."""
    phones = rng.integers(1, 5, 18)
    seg = Segmentation(phones, np.repeat(np.arange(6), 3), rng.integers(1, 5, (18, 3)))
    evidence = -phones - rng.exponential(1, 18)  # each phone has its own level
    evidence[seg.words == wrong] -= 8
    return seg, np.stack([evidence, 2 * evidence], 1)


def test_what_is_learnt_tells_wrong_words(tmp_path):
    rng = np.random.default_rng(0)
    right = [artificial(rng, None) for _ in range(60)]
    known = usual(iter(right), 5)
    assert np.all(np.diff(known.mean[0, 1:]) < 0)
    np.testing.assert_allclose(known.worst, 2 * known.mean)
    places = {f"u{n}": int(rng.integers(6)) for n in range(60)}
    spoilt = [(u, *artificial(rng, at)) for u, at in places.items()]
    sure = learn(places, iter(spoilt), known)
    sure.save(tmp_path)
    assert Confidence.load(tmp_path) == sure
    found = np.array([sure.words(*artificial(rng, 2)) for _ in range(50)])
    assert found.shape == (50, 6) and (found[:, 2] < 0.5).mean() > 0.9
    assert (np.delete(found, 2, 1) < 0.5).mean() < 0.03
    assert learn(places, iter(spoilt[:5]), known) is None
    (tmp_path / "confidence.json").write_text("{")
    with pytest.raises(DataError, match="train again"):
        Confidence.load(tmp_path)


def lacking(rng, place):
    """Return an utterance of 6 words of 3 phones with silences, and something said at a place."""
    phones, words = rng.integers(1, 5, 18).reshape(6, 3), np.arange(6).repeat(3).reshape(6, 3)
    rows = [(0, -1)]
    for own in zip(phones, words, strict=True):
        rows += [*zip(*own, strict=True), (0, -1)]
    ids, of = np.array(rows).T
    evidence = -ids - rng.exponential(1, len(ids))
    seg = Segmentation(ids, of, rng.integers(1, 5, (len(ids), 3)))
    worst = 2 * evidence
    if place is not None:
        worst[4 * place] -= 20  # the silence there
    return seg, np.stack([evidence, worst], 1)


def test_what_is_learnt_tells_where_something_was_said():
    rng = np.random.default_rng(0)
    right = [(f"r{n}", *lacking(rng, None)) for n in range(60)]
    known = usual((row[1:] for row in right), 5)
    places = {f"u{n}": int(rng.integers(7)) for n in range(60)}
    spoilt = [(u, *lacking(rng, at)) for u, at in places.items()]
    found = missing.Missing(**missing.learn(places, iter(spoilt), iter(right), known))
    for place in (0, 3, 6):
        p = np.array([found.places(*lacking(rng, place)) for _ in range(50)])
        assert p.shape == (50, 7) and (p[:, place] > 0.5).mean() > 0.9
        assert (np.delete(p, place, 1) > 0.5).mean() < 0.01
    assert missing.learn(places, iter(spoilt[:5]), iter(right), known) is None


@pytest.mark.parametrize("leave_out", [False, True])
def test_one_word_of_each_utterance_is_spoilt(few, spoken, tmp_path, leave_out):
    options = from_dict({"lexicon": str(spoken / "lexicon.txt")})
    corpus = prepare(few(12), tmp_path / "work", options, map, print)
    places = spoil(corpus, tmp_path / "spoilt", 1, leave_out=leave_out)
    assert places == spoil(corpus, tmp_path / "spoilt", 1, leave_out=leave_out)
    spoilt = replace(corpus, work=tmp_path / "spoilt")
    pron, count = corpus.pronunciations, 0
    for i in range(corpus.shards):
        was = dict(zip(*(corpus.shard(i)[k] for k in ("utts", "words")), strict=True))
        now = spoilt.shard(i)
        for utt, words in zip(now["utts"], now["words"], strict=True):
            count += 1
            if leave_out:
                assert was[utt][: places[utt]] + was[utt][places[utt] + 1 :] == words
                continue
            differ = [n for n, (a, b) in enumerate(zip(was[utt], words, strict=True)) if a != b]
            assert differ == [places[utt]] and pron.variants(words[differ[0]])
    assert count == len(places) > 0.9 * corpus.utterances


@pytest.fixture(scope="module")
def trained(spoken, tmp_path_factory):
    """A model of monophones that has learnt what is doubtful, and what the training printed."""
    out, said = tmp_path_factory.mktemp("trained"), io.StringIO()
    options = ["passes=[mono]", "mono.iterations=8", "mono.realign=[1,2,3,5]"]
    argv = ["train", spoken / "train", out, "--lexicon", spoken / "lexicon.txt", "--nj", "1"]
    argv += ["--no-textgrid", "--set", "mono.gaussians=300"]
    for option in options:
        argv += ["--set", option]
    with contextlib.redirect_stdout(said):
        assert main(["align", *map(str, argv)]) == 0
    return out, said.getvalue()


def changed(spoken, data, texts):
    """Write the test set with other transcripts."""
    write_table(data / "text", texts)
    for table in ("wav.scp", "utt2spk"):
        write_table(data / table, read_table(spoken / "test" / table))


def test_left_out_words_are_on_the_list(trained, spoken, tmp_path):
    out, said = trained
    assert re.search(r"confidence of words: learnt from \d+ wrong and \d+ missing ones", said)
    texts, rng, places = read_table(spoken / "test/text"), np.random.default_rng(3), {}
    for utt in list(texts)[::2]:
        words = texts[utt].split()
        places[utt] = int(rng.integers(len(words)))
        del words[places[utt]]
        texts[utt] = " ".join(words)
    changed(spoken, tmp_path / "test", texts)
    argv = ["apply", out, tmp_path / "test", tmp_path / "ali", "--nj", "1"]
    assert main(["align", *map(str, argv)]) == 0
    a = AlignmentDir(tmp_path / "ali/alignment")
    found = missing_places(a)
    # 24 utterances, 12 of them without a word.
    assert len(found.keys() & places.keys()) >= 6 and len(found.keys() - places.keys()) <= 2
    rows = [line.split("\t") for line in (a.path / "missing.tsv").read_text().splitlines()[1:]]
    right = [u for u, *_, said in rows if u in places and said == told(texts[u], places[u])]
    assert len(right) > 0.7 * len(found.keys() & places.keys())
    for utt, start_s, end_s, probability, _ in rows:
        assert 0 <= float(start_s) <= float(end_s) <= a.phones[utt][-1].end_s + 1e-6
        assert 0.5 < float(probability) <= 1
    listed = (a.path / "check.tsv").read_text()
    assert all(f"\n{utt}\t" in listed for utt in found)
    argv = ["plot", tmp_path / "ali", tmp_path / "p", "--data", tmp_path / "test", "--worst", "2"]
    assert main(["align", *map(str, argv)]) == 0
    assert re.search(
        r"<br>no word \S+ \S+ .*at \d+\.\d\d s", (tmp_path / "p/index.html").read_text()
    )


def told(text, place):
    """Return how the place in a transcript is called."""
    words = text.split()
    near = words[max(0, place - 1) : place + 1]
    if len(near) == 2:
        return f"no word between {near[0]} and {near[1]}"
    return f"no word {'before' if place == 0 else 'after'} {near[0]}"


def test_wrong_transcripts_are_on_the_list(trained, spoken, tmp_path, capsys):
    out, data = trained[0], tmp_path / "test"
    texts = read_table(spoken / "test/text")
    vocabulary = sorted({w for t in texts.values() for w in t.split()})
    rng, places = np.random.default_rng(3), {}
    for utt in list(texts)[::2]:
        words = texts[utt].split()
        places[utt] = int(rng.integers(len(words)))
        others = [w for w in vocabulary if w != words[places[utt]]]
        words[places[utt]] = others[int(rng.integers(len(others)))]
        texts[utt] = " ".join(words)
    changed(spoken, data, texts)
    assert main(["align", "apply", str(out), str(data), str(tmp_path / "ali"), "--nj", "1"]) == 0
    said = capsys.readouterr().out
    a = AlignmentDir(tmp_path / "ali/alignment")
    found = doubtful(a)
    # 24 utterances, 12 of them wrong: most wrong ones are listed, most right ones are not.
    assert len(found.keys() & places.keys()) >= 9 and len(found.keys() - places.keys()) <= 4
    hits = [a.words[u].index(found[u][0]) == places[u] for u in found.keys() & places.keys()]
    assert np.mean(hits) > 0.7
    assert main(["align", "plot", str(tmp_path / "ali"), str(tmp_path / "p"), "--data", str(data),
                 "--worst", "3"]) == 0  # fmt: skip
    page, (first, *_) = (tmp_path / "p/index.html").read_text(), found
    assert page.count("<img") == 3 and page.index(f"<h2>{first}</h2>") < page.index("<img")
    assert (tmp_path / f"p/{first}.png").read_bytes().startswith(b"\x89PNG")
    either = found.keys() | missing_places(a).keys()
    assert len(either - places.keys()) <= 4
    listed = (a.path / "check.tsv").read_text().splitlines()
    assert len(listed) == 1 + len(either) and f"utterances to check: {len(either)}" in said
    sure = dict(line.split("\t") for line in (a.path / "confidence.tsv").read_text().splitlines())
    assert sure.keys() == {"utt", *a.utts} and all(float(sure[u]) < 0.5 for u in found)
    rows = [line.split("\t") for line in (a.path / "words.tsv").read_text().splitlines()]
    lexicon = read_table_of_variants(spoken / "lexicon.txt")
    assert rows[0] == ["utt", "start_s", "end_s", "word", "confidence", "phones"]
    assert len(rows) - 1 == sum(len(texts[u].split()) for u in a.utts)
    assert all(phones in lexicon[word] for _, _, _, word, _, phones in rows[1:])


def read_table_of_variants(path):
    found = {}
    for line in path.read_text().splitlines():
        word, phones = line.split(None, 1)
        found.setdefault(word, set()).add(phones)
    return found
