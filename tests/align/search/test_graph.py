# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align.search.graph import make_graph, make_lattice, to_segmentation
from espnet_ext.errors import DataError, UsageError


def one(*words):
    """Return prons of words with one certain pronunciation each."""
    return [[(ids, 0.0)] for ids in words]


class Recorder:
    """A tree that ties nothing and remembers what it was asked."""

    def __init__(self):
        self.ids = {}

    def __call__(self, left, phone, right, state):
        return self.ids.setdefault((left, phone, right, state), len(self.ids))

    @property
    def triphones(self):
        return sorted({key[:3] for key in self.ids})


WORDS = st.lists(
    st.lists(
        st.tuples(
            st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple),
            st.sampled_from([math.log(0.5), math.log(0.25), -math.inf]),
        ),
        min_size=1,
        max_size=3,
    ).filter(lambda variants: any(p > -math.inf for _, p in variants)),
    max_size=4,
)


def test_contexts_reach_over_words_and_optional_silence():
    tree = Recorder()
    make_graph(make_lattice(one((1, 2), (4,))), tree)
    expected = [(0, 0, 1), (0, 1, 2), (1, 2, 0), (1, 2, 4), (2, 0, 4), (0, 4, 0), (2, 4, 0)]
    assert tree.triphones == sorted([*expected, (4, 0, 0)])


def test_contexts_with_obligatory_silence_and_without_any():
    tree = Recorder()
    graph = make_graph(make_lattice(one((1,), (2,)), force_silence=True), tree)
    assert tree.triphones == [(0, 0, 1), (0, 1, 0), (0, 2, 0), (1, 0, 2), (2, 0, 0)]
    assert graph.min_frames == 15
    assert graph.phone[::3].tolist() == [0, 1, 0, 2, 0]
    assert np.allclose(graph.pred_logp[1:, 0], math.log(0.25)) and graph.start_logp[0] == 0
    tree = Recorder()
    graph = make_graph(make_lattice(one((1,), (2,)), sil_prob=0.0), tree)
    assert tree.triphones == [(0, 1, 2), (1, 2, 0)] and graph.min_frames == 6


def test_variants_share_the_contexts_of_their_neighbours():
    few = make_graph(make_lattice([[((1, 2), 0.0)], [((3, 1), 0.0)]]), Recorder())
    variants = [((3, 1), -0.7), ((3, 2), -0.7)]
    many = make_graph(make_lattice([[((1, 2), 0.0)], variants]), Recorder())
    count = [(g.word == 0).sum() for g in (few, many)]
    assert count[0] == count[1] == 3 * 3  # (0 1 2), (1 2 0), (1 2 3)


def test_a_tree_without_context_is_not_expanded():
    tree = Recorder()
    lattice = make_lattice([[((1, 2), -0.7), ((3,), -0.7)], [((1,), 0.0)]])
    graph = make_graph(lattice, tree, context=False)
    assert tree.triphones == [(0, p, 0) for p in range(4)]
    assert len(graph.pdf) == 3 * len(lattice.phones) and len(graph.unique) == 12


@given(WORDS, st.sampled_from([0.0, 0.3, 1.0]), st.booleans(), st.booleans())
def test_every_graph_is_well_formed(prons, sil_prob, force, context):
    graph = make_graph(
        make_lattice(prons, sil_prob=sil_prob, force_silence=force), Recorder(), context
    )
    states, used = np.arange(len(graph.pdf)), graph.preds >= 0
    assert (graph.preds < states[:, None]).all()
    assert ((graph.pred_logp > -np.inf) == used).all()
    assert (used[:, :-1] >= used[:, 1:]).all() and used[:, -1].any()
    assert (used.any(1) | (graph.start_logp > -np.inf)).all()  # all reached
    left = set(graph.preds[used].tolist()) | set(np.flatnonzero(graph.final_logp > -np.inf))
    assert left == set(states.tolist())  # none is a dead end
    assert (graph.unique[graph.slot] == graph.pdf).all() and (np.diff(graph.unique) > 0).all()
    # the shortest way, counted here state by state
    steps = np.where(graph.start_logp > -np.inf, 1, 10**6)
    for s in states:
        for p in graph.preds[s][used[s]]:
            steps[s] = min(steps[s], steps[p] + 1)
    assert graph.min_frames == steps[graph.final_logp > -np.inf].min()


@given(WORDS, st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_path_probabilities_add_up(prons, sil_prob, force):
    lattice = make_lattice(prons, sil_prob=sil_prob, force_silence=force)
    mass = np.zeros(len(lattice.phones))
    for o, logp in lattice.start:
        mass[o] += math.exp(logp)
    for o, arcs in enumerate(lattice.arcs):
        for after, logp in arcs:
            assert after > o
            mass[after] += mass[o] * math.exp(logp)
    total = sum(mass[o] * math.exp(logp) for o, logp in lattice.final)
    words = [sum(math.exp(logp) for _, logp in variants) for variants in prons]
    assert total == pytest.approx(math.prod(words))


def test_a_path_is_cut_in_phones_even_when_they_are_equal():
    graph = make_graph(make_lattice(one((1, 1), (1,)), sil_prob=0.0), lambda *_: 7)
    path = np.repeat(np.arange(9), [1, 2, 1, 1, 1, 1, 3, 1, 1]).astype(np.int32)
    seg = to_segmentation(graph, path, -3.5)
    assert seg.phones.tolist() == [1, 1, 1] and seg.words.tolist() == [0, 0, 1]
    assert seg.durations.tolist() == [[1, 2, 1], [1, 1, 1], [3, 1, 1]] and seg.loglik == -3.5


def test_silent_utterance_is_one_silence():
    graph = make_graph(make_lattice([], sil_prob=0.0), Recorder())
    assert graph.phone.tolist() == [0, 0, 0] and graph.word.tolist() == [-1] * 3


@pytest.mark.parametrize("prons", [[[]], [[((), 0.0)]], [[((1,), -math.inf)]]])
def test_words_that_cannot_be_pronounced(prons):
    with pytest.raises(DataError, match="word 0"):
        make_lattice(prons)


@pytest.mark.parametrize("sil_prob", [-0.1, 1.1, math.nan])
def test_impossible_probability(sil_prob):
    with pytest.raises(UsageError, match="probability"):
        make_lattice(one((1,)), sil_prob=sil_prob)
