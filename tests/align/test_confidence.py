# SPDX-License-Identifier: Apache-2.0
"""Confidence in words: wrong ones are found, in transcripts that the training never saw."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from espnet_ext.align.confidence import Confidence, learn, spoil, spreads
from espnet_ext.align.corpus import prepare
from espnet_ext.align.evaluate.check import doubtful
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.options import from_dict
from espnet_ext.align.passes.confidence import phone_evidence, phones_of, representatives
from espnet_ext.align.search.segmentation import Segmentation
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
    found = phone_evidence(gmm, x, seg, tree, some, phones_of(tree))
    assert found[0] == pytest.approx(0, abs=1e-4)
    distances = [24 - 12, 24 - 16, 24 - 20]  # the nearest pdf of phone 2 is at 24
    assert found[1] == pytest.approx(-np.mean(np.square(distances)) / 2, rel=1e-4)


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
    return seg, evidence


def test_what_is_learnt_tells_wrong_words(tmp_path):
    rng = np.random.default_rng(0)
    right = [artificial(rng, None) for _ in range(60)]
    mean, spread = spreads(iter(right), 5)
    assert np.all(np.diff(mean[1:]) < 0)
    places = {f"u{n}": int(rng.integers(6)) for n in range(60)}
    spoilt = [(u, *artificial(rng, at)) for u, at in places.items()]
    known = learn(places, iter(spoilt), mean, spread)
    known.save(tmp_path)
    assert Confidence.load(tmp_path) == known
    found = np.array([known.words(*artificial(rng, 2)) for _ in range(50)])
    assert found.shape == (50, 6) and (found[:, 2] < 0.5).mean() > 0.9
    assert (np.delete(found, 2, 1) < 0.5).mean() < 0.03
    assert learn(places, iter(spoilt[:5]), mean, spread) is None
    (tmp_path / "confidence.json").write_text("{")
    with pytest.raises(DataError, match="train again"):
        Confidence.load(tmp_path)


def test_one_word_of_each_utterance_is_spoilt(few, spoken, tmp_path):
    options = from_dict({"lexicon": str(spoken / "lexicon.txt")})
    corpus = prepare(few(12), tmp_path / "work", options, map, print)
    places = spoil(corpus, tmp_path / "spoilt", 1)
    assert places == spoil(corpus, tmp_path / "spoilt", 1)
    spoilt = replace(corpus, work=tmp_path / "spoilt")
    pron, count = corpus.pronunciations, 0
    for i in range(corpus.shards):
        was = dict(zip(*(corpus.shard(i)[k] for k in ("utts", "words")), strict=True))
        now = spoilt.shard(i)
        for utt, words in zip(now["utts"], now["words"], strict=True):
            differ = [n for n, (a, b) in enumerate(zip(was[utt], words, strict=True)) if a != b]
            assert differ == [places[utt]] and pron.variants(words[differ[0]])
            count += 1
    assert count == len(places) > 0.9 * corpus.utterances


def test_wrong_transcripts_are_on_the_list(spoken, tmp_path, capsys):
    out, data = tmp_path / "out", tmp_path / "test"
    options = ["passes=[mono]", "mono.iterations=8", "mono.realign=[1,2,3,5]"]
    argv = ["train", spoken / "train", out, "--lexicon", spoken / "lexicon.txt", "--nj", "1"]
    argv += ["--no-textgrid", "--set", "mono.gaussians=300"]
    for option in options:
        argv += ["--set", option]
    assert main(["align", *map(str, argv)]) == 0
    assert "confidence of words: learnt from" in capsys.readouterr().out
    texts = read_table(spoken / "test/text")
    vocabulary = sorted({w for t in texts.values() for w in t.split()})
    rng, places = np.random.default_rng(3), {}
    for utt in list(texts)[::2]:
        words = texts[utt].split()
        places[utt] = int(rng.integers(len(words)))
        others = [w for w in vocabulary if w != words[places[utt]]]
        words[places[utt]] = others[int(rng.integers(len(others)))]
        texts[utt] = " ".join(words)
    write_table(data / "text", texts)
    for table in ("wav.scp", "utt2spk"):
        write_table(data / table, read_table(spoken / "test" / table))
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
    listed = (a.path / "check.tsv").read_text().splitlines()
    assert len(listed) == 1 + len(found) and f"utterances to check: {len(found)}" in said
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
