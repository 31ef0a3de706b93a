# SPDX-License-Identifier: Apache-2.0
"""Triphone statistics, automatic questions and the decision tree."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.tree.grow import Grower
from espnet_ext.align.tree.questions import agglomerate, automatic_questions
from espnet_ext.align.tree.stats import TriphoneStats, log_likelihood
from espnet_ext.align.tree.tree import Tree, build_tree, describe, initial_gmm_stats, leaf_budget
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import STATES

NAMES = ("SIL", "A", "B", "D", "M", "N", "X")  # X never occurs
SIL, A, B, D, M, N, X = range(7)
NASALS = frozenset([M, N])
# Stops and nasals are alike in pairs; A is far away.
MEANS = np.array([[0, 0], [50, 0], [0, 30], [1, 30], [20, -30], [21, -30], [0, 0]], dtype=float)


def utterances(count: int = 30, seed: int = 0) -> list[tuple[Segmentation, np.ndarray]]:
    """Random phone strings; only the last state of A depends on context: a nasal after it."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        phones = np.array([SIL, *rng.integers(A, X, size=40), SIL], dtype=np.int32)
        means = np.repeat(MEANS[phones][:, None], STATES, axis=1)
        before_nasal = (phones[:-1] == A) & np.isin(phones[1:], [M, N])
        means[:-1][before_nasal, 2] += [0, 8]
        durations = rng.integers(1, 5, size=(len(phones), STATES))
        feats = np.repeat(means.reshape(-1, 2), durations.ravel(), axis=0)
        feats = (feats + rng.standard_normal(feats.shape)).astype(np.float32)
        out.append((Segmentation(phones, np.zeros(len(phones), int), durations), feats))
    return out


@pytest.fixture(scope="module")
def stats() -> TriphoneStats:
    return TriphoneStats.collect(utterances())


@pytest.fixture(scope="module")
def questions(stats) -> tuple[frozenset[int], ...]:
    return automatic_questions(stats, len(NAMES))


def random_stats(seed: int, rows: int = 150, phones: int = 6) -> TriphoneStats:
    """Statistics without any structure, so trees grow to their limits."""
    rng = np.random.default_rng(seed)
    contexts = np.array(list(itertools.product(range(phones), range(1, phones), range(phones))))
    keys = np.column_stack([contexts[rng.choice(len(contexts), rows)], rng.integers(0, 3, rows)])
    occ = rng.integers(1, 60, rows).astype(float)
    mean, var = rng.normal(size=(2, rows, 3))
    return TriphoneStats(
        keys.astype(np.int32), occ, occ[:, None] * mean, occ[:, None] * (mean**2 + var**2 + 0.1)
    ).merge()


def grown(stats: TriphoneStats, phones: int = 6, **options) -> Tree:
    return build_tree(stats, automatic_questions(stats, phones), phones, **options)


def test_collect_equals_a_loop_over_frames(monkeypatch):
    monkeypatch.setattr("espnet_ext.align.tree.stats.BATCH_FRAMES", 200)
    data = utterances(4)
    expected: dict[tuple[int, ...], list[np.ndarray]] = {}
    for segmentation, feats in data:
        phones, t = segmentation.phones.tolist(), 0
        for i, phone in enumerate(phones):
            around = (phones[i - 1], phones[i + 1]) if phone else (0, 0)
            for state in range(STATES):
                for _ in range(segmentation.durations[i, state]):
                    key = (around[0], phone, around[1], state)
                    expected.setdefault(key, []).append(feats[t].astype(np.float64))
                    t += 1
    stats = TriphoneStats.collect(iter(data))
    assert {tuple(k) for k in stats.keys.tolist()} == set(expected)
    for key, occ, sx, sxx in zip(stats.keys.tolist(), stats.occ, stats.sx, stats.sxx, strict=True):
        frames = np.array(expected[tuple(key)])
        assert occ == len(frames)
        np.testing.assert_allclose(sx, frames.sum(0))
        np.testing.assert_allclose(sxx, (frames**2).sum(0))


def test_batches_shards_and_their_order_change_nothing(monkeypatch, stats):
    data = utterances()
    monkeypatch.setattr("espnet_ext.align.tree.stats.BATCH_FRAMES", 100)
    shards = [TriphoneStats.collect(data[i::3]) for i in (2, 0, 1)]
    empty = TriphoneStats.collect([])
    for other in (TriphoneStats.collect(data[::-1]), empty.merge(*shards)):
        np.testing.assert_array_equal(other.keys, stats.keys)
        np.testing.assert_array_equal(other.occ, stats.occ)
        np.testing.assert_allclose(other.packed(), stats.packed(), rtol=1e-9, atol=1e-6)


def test_statistics_file_round_trip_and_misuse(tmp_path, stats):
    path = tmp_path / "stats.npz"
    stats.save(path)
    again = TriphoneStats.load(path)
    for name in ("keys", "occ", "sx", "sxx"):
        np.testing.assert_array_equal(getattr(again, name), getattr(stats, name))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match=r"stats\.npz"):
        TriphoneStats.load(path)
    segmentation, feats = utterances(1)[0]
    with pytest.raises(DataError, match="frames"):
        TriphoneStats.collect([(segmentation, feats[:-1])])
    feats[3, 0] = np.nan
    with pytest.raises(DataError, match="finite"):
        TriphoneStats.collect([(segmentation, feats)])
    with pytest.raises(DataError, match="no frames"):
        build_tree(TriphoneStats.collect([]), [], 4, leaves=100)
    with pytest.raises(DataError, match="phone set"):
        build_tree(stats, [], 3, leaves=100)


def test_log_likelihood_is_that_of_the_frames():
    x = np.random.default_rng(0).normal(3, [0.1, 2.0], size=(50, 2))
    packed = np.concatenate([[50], x.sum(0), (x**2).sum(0)])
    floor = np.array([0.5, 0.5])  # the first variance is below, the second above
    variance = np.maximum(x.var(0), floor)
    naive = (-0.5 * np.log(2 * np.pi * variance) - 0.5 * (x - x.mean(0)) ** 2 / variance).sum()
    assert log_likelihood(packed, floor) == pytest.approx(naive)


def test_questions_are_the_clusters_of_sound(questions):
    assert questions[:6] == tuple(frozenset([p]) for p in range(6))  # X has no data
    assert set(questions[6:8]) == {NASALS, frozenset([B, D])}
    assert questions[-1] == frozenset([A, B, D, M, N])
    assert len(questions) == len(set(questions)) == 10


@given(st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_agglomeration_equals_a_naive_search(seed):
    packed = random_stats(seed, rows=16).packed()[:8].reshape(4, 2, -1)
    floor = np.full(3, 0.05)
    left = {i: packed[i] for i in range(4)}
    for join in agglomerate(packed, floor):
        loss = {
            (i, j): sum(
                log_likelihood(left[i][s], floor)
                + log_likelihood(left[j][s], floor)
                - log_likelihood(left[i][s] + left[j][s], floor)
                for s in range(2)
            )
            for i, j in itertools.combinations(sorted(left), 2)
        }
        assert loss[join] == pytest.approx(min(loss.values()))
        left[join[0]] = left[join[0]] + left.pop(join[1])
    assert len(left) == 1


def test_tree_asks_exactly_what_made_the_data(stats, questions):
    tree = build_tree(stats, questions, len(NAMES), leaves=19, min_count=20)
    inner = [node for node in tree.nodes if len(node) == 4]
    assert [(side, questions[q]) for side, q, _, _ in inner] == [(1, NASALS)]
    assert tree.context and tree.num_pdfs == 19
    assert tree.pdf(B, A, M, 2) == tree.pdf(SIL, A, N, 2) != tree.pdf(B, A, D, 2)
    assert tree.pdf(B, A, M, 1) == tree.pdf(B, A, D, 1)
    occ, sx, _ = initial_gmm_stats(tree, stats)
    pdfs = [tree.pdf(B, A, right, 2) for right in (M, D)]
    np.testing.assert_allclose(sx[pdfs] / occ[pdfs, None], [[50, 8], [50, 0]], atol=0.3)
    text = describe(tree, NAMES)
    assert "19 tied states" in text and "A state 2: right in {M N}" in text


def test_best_gain_equals_naive_search():
    stats = random_stats(3)
    questions = automatic_questions(stats, 6)
    member = np.array([[float(p in q) for p in range(6)] for q in questions])
    floor, min_count = stats.variance_floor(0.01), 30
    rows = np.flatnonzero((stats.keys[:, 1] == 2) & (stats.keys[:, 3] == 1))
    gains = {}
    for side, (q, question) in itertools.product((0, 1), enumerate(questions)):
        says_yes = np.array([k[2 * side] in question for k in stats.keys[rows].tolist()])
        parts = [stats.packed()[r].sum(0) for r in (rows[says_yes], rows[~says_yes], rows)]
        if min(parts[0][0], parts[1][0]) >= min_count:
            yes, no, both = (float(log_likelihood(p, floor)) for p in parts)
            gains[side, q] = yes + no - both
    gain, side, question = Grower(stats, member, floor, min_count).best_question(rows)
    assert gain == pytest.approx(max(gains.values())) == gains[side, question]


@given(st.integers(0, 1000), st.integers(0, 120), st.integers(1, 300), st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_tree_keeps_its_rules(seed, leaves, min_count, merge):
    stats = random_stats(seed)  # without silence, and phone 6 of 7 has no data
    tree = grown(stats, 7, leaves=leaves, min_count=min_count, merge=merge)
    own_roots = len(set(tree.roots))
    assert tree.num_pdfs <= max(leaves, own_roots)
    assert tree.silence_pdfs == (0, 1, 2)
    again = Tree.from_json(json.loads(json.dumps(tree.to_json())))
    users = tree.pdf_phone_state()
    for key in itertools.product(range(7), range(7), range(7), range(STATES)):
        pdf = tree.pdf(*key)
        assert 0 <= pdf < tree.num_pdfs and pdf == again.pdf(*key)
        assert (key[1], key[3]) in users[pdf]
        assert key[1] != SIL or pdf == key[3]
    occ = initial_gmm_stats(tree, stats)[0]
    assert (occ > 0).all()  # also of silence, which has no data here
    for pdf, roots in enumerate(users):
        assert len({state for _, state in roots}) == 1
        if not roots & {
            divmod(r, STATES) for r in range(21) if len(tree.nodes[tree.roots[r]]) == 1
        }:
            assert occ[pdf] >= min_count  # made by a split


def test_phones_without_data_share_the_pdfs_of_another(stats, questions):
    tree = build_tree(stats, questions, len(NAMES), leaves=40, min_count=20)
    users = tree.pdf_phone_state()
    for state in range(STATES):
        sharing = {phone for phone, _ in users[tree.pdf(A, X, B, state)]}
        assert len(sharing) == 2 and X in sharing and SIL not in sharing
    mono = Tree.monophone(len(NAMES))
    assert not mono.context and mono.num_pdfs == 21 and mono.pdf(A, X, B, 1) == 3 * X + 1
    occ, sx, _ = initial_gmm_stats(mono, stats)
    assert occ[3 * X] == 1
    np.testing.assert_allclose(sx[3 * X], stats.sx.sum(0) / stats.occ.sum())


def test_merging_undoes_needless_splits():
    """Groups {1, 4} and {2, 3} of left neighbours sound alike, but no question says so."""
    means = {1: 0.0, 4: 0.0, 2: 5.0, 3: 5.0}
    keys = np.array([[left, 5, 1, 0] for left in means], dtype=np.int32)
    occ = np.full(4, 100.0)
    mean = np.array(list(means.values()))[:, None]
    stats = TriphoneStats(keys, occ, 100 * mean, 100 * (mean**2 + 1))
    asks = [frozenset([1]), frozenset([1, 2, 3])]
    pdfs = {}
    for merge in (False, True):
        tree = build_tree(stats, asks, 6, leaves=100, min_count=10, merge=merge)
        pdfs[merge] = [tree.pdf(left, 5, 1, 0) for left in (1, 4, 2, 3)]
    assert len(set(pdfs[False])) == 3
    a, b, c, d = pdfs[True]
    assert a == b != c == d


def test_order_of_rows_and_a_second_run_give_the_same_tree():
    stats = random_stats(5)
    order = np.random.default_rng(1).permutation(len(stats.keys))
    mixed = TriphoneStats(*(getattr(stats, x)[order] for x in ("keys", "occ", "sx", "sxx")))
    tree = grown(stats, leaves=60, min_count=20)
    assert tree.context
    assert tree == grown(mixed, leaves=60, min_count=20) == grown(stats, leaves=60, min_count=20)


def broken(**changes) -> dict[str, object]:
    good = {
        "format": "espnet_ext decision tree 1",
        "num_phones": 2,
        "questions": [[0], [1]],
        "roots": [0, 1, 2, 3, 4, 5],
        "nodes": [[0], [1], [2], [1, 0, 6, 7], [5], [6], [3], [4]],
    }
    Tree.from_json(good)
    return good | changes


@pytest.mark.parametrize(
    "obj",
    [
        [],
        broken(format="2"),
        broken(num_phones=3),
        broken(num_phones="2"),
        broken(questions=[[0], [2]]),
        broken(questions=1),
        broken(roots=[0, 1, 2, 3, 4, 8]),
        broken(roots=[0, 3, 2, 3, 4, 5]),
        broken(nodes=[[0], [1], [2], [1, 2, 6, 7], [5], [6], [3], [4]]),
        broken(nodes=[[0], [1], [2], [2, 0, 6, 7], [5], [6], [3], [4]]),
        broken(nodes=[[0], [1], [2], [1, 0, 3, 7], [5], [6], [3], [4]]),
        broken(nodes=[[0], [1], [2], [1, 0, 6, 6], [5], [6], [3], [4]]),
        broken(nodes=[[0], [1], [2], [1, 0, 6, 7], [5], [8], [3], [4]]),
        broken(nodes=[[0], [1], [2], [1, 0, 6, 7], [5], [6], [3], []]),
        broken(nodes=[[0], [1], [2], [1, 0, 6, 7], [5], [6], [3], [-1]]),
    ],
)
def test_broken_json_is_reported(obj):
    with pytest.raises(DataError):
        Tree.from_json(obj)


def test_tree_file_and_misuse(tmp_path, stats, questions):
    path = tmp_path / "tree.json"
    tree = build_tree(stats, questions, len(NAMES), leaves=30, min_count=20)
    tree.write(path)
    assert Tree.read(path) == tree
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"tree\.json"):
        Tree.read(path)
    for key in ((0, 7, 0, 0), (0, 1, -1, 0), (7, 1, 0, 0), (0, 1, 0, 3)):
        with pytest.raises(DataError, match="no triphone state"):
            tree.pdf(*key)


@pytest.mark.parametrize(
    "hours, budget", [(0.1, (60, 240)), (5.5, (2000, 13200)), (200, (9000, 100_000))]
)
def test_leaf_budget(hours, budget):
    assert leaf_budget(hours * 3600) == budget
