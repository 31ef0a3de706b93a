# SPDX-License-Identifier: Apache-2.0
import importlib.util
import itertools
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet_ext.align.search import viterbi as module
from espnet_ext.align.search.graph import Graph, make_graph, make_lattice, to_segmentation
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.search.viterbi import transition_score, viterbi
from espnet_ext.errors import SetupError, UsageError

BACKENDS = ["torch", *(["numba"] if importlib.util.find_spec("numba") else [])]
SEEDS = st.integers(0, 2**32 - 1)


def pdf_of(left, phone, right, state):
    return (7 * left + 5 * phone + 3 * right + state) % 11


def random_graph(rng, states, width, ties):
    """Return any graph: not in threes, so that nothing may rely on phones."""
    preds = np.full((states, width), -1, np.int32)
    for s in range(1, states):
        n = rng.integers(0, min(s, width) + 1)
        preds[s, :n] = s - 1 if n == 1 and rng.random() < 0.7 else rng.permutation(s)[:n]
    logp = rng.choice([-1.0, -2.0], (states, width)) if ties else -rng.random((states, width))
    logp = np.where(preds >= 0, logp, -np.inf).astype(np.float32)
    start, final = np.where(rng.random((2, states)) < 0.5, -1.0, -np.inf).astype(np.float32)
    start[0] = 0
    slot = rng.permutation(np.arange(states) % max(1, states - 1)).astype(np.int32)
    unique = np.arange(max(1, states - 1), dtype=np.int32)
    zero = np.zeros(states, np.int32)
    self_logp = -1.0 if ties else float(np.float32(-0.3))
    return Graph(slot, unique, slot, preds, logp, start, final, self_logp, zero, zero, zero, 1)


def emissions_for(rng, graph, frames, ties):
    shape = (frames, len(graph.unique))
    e = rng.integers(-3, 0, shape) if ties else 5 * rng.standard_normal(shape)
    e = np.where(rng.random(shape) < 0.1, -np.inf, e)
    return torch.from_numpy(e.astype(np.float32))


def all_paths(graph, frames):
    nexts = [[s] for s in range(len(graph.pdf))]
    for s, p in np.argwhere(graph.preds >= 0):
        nexts[graph.preds[s, p]].append(int(s))
    paths = [[int(s)] for s in np.flatnonzero(graph.start_logp > -np.inf)]
    for _ in range(frames - 1):
        paths = [[*path, s] for path in paths for s in nexts[path[-1]]]
    return [p for p in paths if graph.final_logp[p[-1]] > -np.inf]


def score_of(graph, e, path):
    """Add up a path in the order of its definition."""
    total = graph.start_logp[path[0]] + graph.final_logp[path[-1]]
    for before, s in itertools.pairwise(path):
        if s == before:
            total += graph.self_logp
        else:
            total += graph.pred_logp[s][graph.preds[s] == before].item()
    return total + sum(e[t, graph.slot[s]].item() for t, s in enumerate(path))


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, ties=st.booleans())
def test_best_of_all_paths(backend, seed, ties):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, int(rng.integers(1, 6)), int(rng.integers(1, 4)), ties)
    e = emissions_for(rng, graph, int(rng.integers(1, 6)), ties)
    ((path, score),) = viterbi([graph], [e], backend=backend)
    paths = all_paths(graph, len(e)) if e.amax(1).isfinite().all() else []
    best = max((score_of(graph, e, p) for p in paths), default=-math.inf)
    if best == -math.inf:
        assert path is None and score == -math.inf
    else:
        assert path.dtype == np.int32 and path.tolist() in paths
        assert score == pytest.approx(best, abs=1e-4)
        assert score_of(graph, e, path) == pytest.approx(best, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, ties=st.booleans())
def test_backends_and_batches_find_the_same_path(seed, ties):
    rng = np.random.default_rng(seed)
    graphs = [random_graph(rng, int(n), int(w), ties) for n, w in rng.integers(1, 20, (6, 2))]
    es = [emissions_for(rng, g, int(rng.integers(0, 30)), ties) for g in graphs]
    together = viterbi(graphs, es, backend="torch")
    for backend in BACKENDS:
        for found, g, e in zip(together, graphs, es, strict=True):
            ((path, score),) = viterbi([g], [e], backend=backend)
            assert np.array_equal(path, found[0]) and score == found[1]


def test_ties_are_broken_by_rule():
    zero = np.zeros(4, np.int32)
    preds = np.array([[-1, -1], [-1, -1], [1, 0], [2, -1]], np.int32)
    logp = np.where(preds >= 0, -1.0, -np.inf).astype(np.float32)
    start = np.array([0, 0, -np.inf, -np.inf], np.float32)
    for final, expected in (
        ([0, 0, 0, 0], [0, 0, 0]),  # of equal ends the first
        ([-np.inf, -np.inf, -np.inf, 0], [1, 2, 3]),  # of equal predecessors the first listed
        ([-np.inf, -np.inf, 0, -np.inf], [1, 2, 2]),  # staying before coming
    ):
        final = np.array(final, np.float32)
        graph = Graph(zero, zero[:1], zero, preds, logp, start, final, -1.0, zero, zero, zero, 1)
        for backend in BACKENDS:
            ((path, _),) = viterbi([graph], [torch.zeros(3, 1)], backend=backend)
            assert path.tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_more_predecessors_than_a_byte_counts(backend):
    n = 300
    preds = np.full((n + 1, n), -1, np.int32)
    preds[n] = np.arange(n)
    logp = np.where(preds >= 0, -1.0, -np.inf).astype(np.float32)
    start = np.where(np.arange(n + 1) < n, 0, -np.inf).astype(np.float32)
    slot = np.arange(n + 1, dtype=np.int32)
    final = np.where(slot == n, 0, -np.inf).astype(np.float32)
    graph = Graph(slot, slot, slot, preds, logp, start, final, -1.0, slot, slot, slot, 2)
    e = torch.full((2, n + 1), -9.0)
    e[0, 290] = 0
    assert viterbi([graph], [e], backend=backend)[0][0].tolist() == [290, 300]


def readings(prons, sil_prob, force):
    """Yield ``(phones, words, log probability)`` of all ways to say a transcript."""
    skip_use = (
        [(True, 0.0)] if force else [(False, math.log(1 - sil_prob)), (True, math.log(sil_prob))]
    )
    gaps = itertools.product(skip_use, repeat=len(prons) + 1)
    for variants, silences in itertools.product(itertools.product(*prons), gaps):
        phones, words = ([0], [-1]) if silences[0][0] else ([], [])
        for w, (ids, _) in enumerate(variants):
            phones, words = [*phones, *ids], [*words, *[w] * len(ids)]
            if silences[w + 1][0]:
                phones, words = [*phones, 0], [*words, -1]
        yield phones, words, sum(p for _, p in variants) + sum(p for _, p in silences)


def score_of_reading(seg, logp, e, unique):
    """Add up a segmentation of a reading of log probability ``logp`` by the model's definition."""
    slots = {int(pdf): i for i, pdf in enumerate(unique)}
    states = 3 * len(seg.phones)
    score = sum(e[t, slots[p]].item() for t, p in enumerate(seg.pdfs(pdf_of).tolist()))
    return score + logp + (len(e) - states) * math.log(0.75) + states * math.log(0.25)


def best_score(ways, e, unique):
    """Return the score of the best segmentation by trying all readings and all durations."""
    best = -math.inf
    for phones, words, logp in ways:
        for inner in itertools.combinations(range(1, len(e)), 3 * len(phones) - 1):
            durations = np.diff([0, *inner, len(e)]).reshape(-1, 3)
            seg = Segmentation(np.array(phones), np.array(words), durations)
            best = max(best, score_of_reading(seg, logp, e, unique))
    return best


WORD = st.lists(
    st.tuples(
        st.lists(st.integers(1, 2), min_size=1, max_size=2).map(tuple),
        st.floats(-2, 0),
    ),
    min_size=1,
    max_size=2,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(WORD, min_size=1, max_size=2),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from(BACKENDS),
    SEEDS,
)
@example([[((1,), 0.0)]] * 2, True, 2, "torch", 709)  # several best paths of one score
def test_transcript_against_all_readings_and_durations(prons, force, extra, backend, seed):
    graph = make_graph(make_lattice(prons, sil_prob=0.4, force_silence=force), pdf_of)
    rng = np.random.default_rng(seed)
    frames = graph.min_frames + extra + (0 if force else 3)
    e = torch.from_numpy(4 * rng.standard_normal((frames, len(graph.unique))))
    ((path, score),) = viterbi([graph], [e], backend=backend)
    ways = list(readings(prons, 0.4, force))
    assert score == pytest.approx(best_score(ways, e, graph.unique), abs=1e-3)
    seg = to_segmentation(graph, path, score)
    assert seg.durations.min() > 0 and seg.durations.sum() == frames
    assert seg.pdfs(pdf_of).tolist() == graph.pdf[path].tolist()
    # Two segmentations may be equally good (a phone twice in a row), so the score is compared.
    said = seg.phones.tolist(), seg.words.tolist()
    own = [p for phones, words, p in ways if (phones, words) == said]
    assert own, "the phones and words found are no reading of the transcript"
    found = max(score_of_reading(seg, p, e, graph.unique) for p in own)
    assert found == pytest.approx(score, abs=1e-3)


def test_variant_and_silence_are_chosen_by_the_sound():
    prons = [[((1,), 0.0), ((2,), 0.0)], [((3,), 0.0)]]
    graph = make_graph(make_lattice(prons), lambda left, phone, right, state: phone)
    for said in ([1, 3], [2, 0, 3], [0, 2, 3, 0]):
        heard = np.repeat(said, 5)
        e = torch.full((len(heard), 4), -20.0)
        e[torch.arange(len(heard)), torch.from_numpy(heard)] = 0
        ((path, loglik),) = viterbi([graph], [e])
        assert to_segmentation(graph, path, loglik).phones.tolist() == said


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be_aligned_does_not_disturb_the_rest(backend):
    graph = make_graph(make_lattice([[((1, 2), 0.0)]]), pdf_of)
    good = torch.randn(9, len(graph.unique), generator=torch.manual_seed(0))
    silent, nan, inf = good.clone(), good.clone(), good.clone()
    silent[4], nan[4, 0], inf[4, 0] = -math.inf, math.nan, math.inf
    blocked = good.clone()
    blocked[0, np.unique(graph.slot[graph.start_logp > -np.inf])] = -math.inf
    es = [good[:5], good[:0], silent, nan, inf, blocked, good, good[:6]]
    found = viterbi([graph] * 8, es, backend=backend)
    assert [p is None for p, _ in found] == [True] * 6 + [False] * 2
    assert all(score == -math.inf for _, score in found[:6])
    assert viterbi([], [], backend=backend) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_long_utterances_lose_no_digits(backend):
    rng = np.random.default_rng(0)
    graph = make_graph(make_lattice([[((1, 2, 3), -0.5), ((2, 3), -1.0)]] * 4), pdf_of)
    e = torch.from_numpy(rng.integers(-9, 0, (3000, len(graph.unique))).astype(np.float32))
    offset = 2.0**16
    (near, a), (far, b) = viterbi([graph] * 2, [e, e - offset], backend=backend)
    assert np.array_equal(near, far) and b == pytest.approx(a - 3000 * offset, abs=1e-6)
    picked = e.numpy()[np.arange(3000), graph.slot[near]]
    assert a == pytest.approx(picked.sum(dtype=np.float64) + transition_score(graph, near))


def test_back_pointers_stay_below_the_limit(monkeypatch):
    rng = np.random.default_rng(1)
    graphs = [random_graph(rng, 10, 3, False) for _ in range(8)]
    es = [emissions_for(rng, g, 20 + i, False) for i, g in enumerate(graphs)]
    whole, sizes = viterbi(graphs, es, backend="torch"), []
    search = module._search_torch

    def spy(graphs, emissions):
        sizes.append([e.shape[0] * len(g.pdf) for g, e in zip(graphs, emissions, strict=True)])
        return search(graphs, emissions)

    monkeypatch.setattr(module, "_search_torch", spy)
    monkeypatch.setattr(module, "MAX_BACK_POINTERS", 520)
    parts = viterbi(graphs, es, backend="torch")
    assert len(sizes) > 3 and all(sum(s) <= 520 for s in sizes) and max(map(len, sizes)) > 1
    for (p, a), (q, b) in zip(whole, parts, strict=True):
        assert np.array_equal(p, q) and a == b


def test_path_that_the_graph_does_not_have():
    graph = make_graph(make_lattice([[((1,), 0.0)]], sil_prob=0.0), pdf_of)
    assert transition_score(graph, np.array([0, 1, 2])) == pytest.approx(3 * math.log(0.25))
    assert transition_score(graph, np.array([0, 2, 2])) == -math.inf
    assert transition_score(graph, np.array([0, 1, 1])) == -math.inf


def test_works_without_numba(monkeypatch):
    graph = make_graph(make_lattice([[((1,), 0.0)]]), pdf_of)
    e = [torch.zeros(5, len(graph.unique))]
    expected = viterbi([graph], e, backend="torch")
    module._numba_search.cache_clear()
    monkeypatch.setitem(sys.modules, "espnet_ext.align.search.viterbi_numba", None)
    try:
        assert np.array_equal(viterbi([graph], e)[0][0], expected[0][0])
        with pytest.raises(SetupError, match="numba"):
            viterbi([graph], e, backend="numba")
    finally:
        module._numba_search.cache_clear()


def test_misuse():
    graph = make_graph(make_lattice([[((1,), 0.0)]]), pdf_of)
    with pytest.raises(ValueError, match="emissions"):
        viterbi([graph], [torch.zeros(5, len(graph.unique) + 1)])
    with pytest.raises(ValueError):
        viterbi([graph], [])
    with pytest.raises(UsageError, match="backend"):
        viterbi([graph], [torch.zeros(5, len(graph.unique))], backend="cuda")
