# SPDX-License-Identifier: Apache-2.0
"""The search in blocks finds what the whole search finds, and takes little memory."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_viterbi import emissions_for, pdf_of, random_graph

from espnet_ext.align.search import long
from espnet_ext.align.search.graph import make_graph, make_lattice
from espnet_ext.align.search.long import forward_numpy, long_bytes, viterbi_long
from espnet_ext.align.search.viterbi import viterbi


@pytest.fixture(params=["numba", "numpy"])
def backend(request, monkeypatch):
    if request.param == "numpy":
        monkeypatch.setattr(long, "_advance", lambda: forward_numpy)
    else:
        pytest.importorskip("numba")


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("ties", [True, False])
def test_blocks_find_the_path_of_the_whole_search(ties):
    for seed in range(40):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, *(int(n) for n in rng.integers(1, 20, 2)), ties)
        e = emissions_for(rng, graph, int(rng.integers(1, 90)), ties)
        ((path, score),) = viterbi([graph], [e])
        asked = []

        def emit(start, end, e=e, asked=asked):
            asked.append((start, end))
            return e[start:end]

        found, total = viterbi_long(graph, emit, len(e))
        assert (found is None) == (path is None)
        assert total == pytest.approx(score, abs=1e-4)
        if path is not None:
            assert ties or np.array_equal(found, path)
            half = len(asked) // 2
            assert asked[:half] == asked[half:][::-1] and asked[half - 1][1] == len(e)


@pytest.mark.usefixtures("backend")
def test_what_cannot_be_aligned():
    graph = make_graph(make_lattice([[((1, 2), 0.0)]]), pdf_of)
    good = torch.randn(60, len(graph.unique))
    nan, silent = good.clone(), good.clone()
    nan[50, 0], silent[50] = torch.nan, -torch.inf
    for e in (nan, silent, good[:5], good[:0]):
        assert viterbi_long(graph, lambda a, b, e=e: e[a:b], len(e)) == (None, -np.inf)
    assert viterbi_long(graph, lambda a, b: good[a:b], 60)[0] is not None


@given(st.integers(1, 10**6))
def test_blocks_cover_all_frames(frames):
    size = long.block_frames(frames)
    assert (size - 2) ** 2 <= 4 * frames and size >= 1


def test_memory_is_that_of_a_block():
    pytest.importorskip("numba")
    graph = make_graph(make_lattice([[((1, 2), 0.0)]] * 400), lambda *a: a[1])
    frames = 20_000
    whole = frames * len(graph.pdf)
    e = torch.zeros(200, len(graph.unique))
    e[:, 1] = torch.linspace(0, 1, 200)
    long._advance()
    tracemalloc.start()
    path, _ = viterbi_long(graph, lambda a, b: e[:1].expand(b - a, -1), frames)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path is not None and peak < 1.5 * long_bytes(graph, frames) + 2**21 < whole / 8
