# SPDX-License-Identifier: Apache-2.0
"""The aligner against kaldi-hmm-gmm, a C++ version of Kaldi's GMM-HMMs: same model, same graphs.

A check for developers, skipped where kaldi-hmm-gmm is not installed; nothing else needs it. To
run it, install these versions, no others, beside the aligner or in a folder of their own:

    pip install --no-deps --target FOLDER kaldi-hmm-gmm==1.1.4 kaldifst==1.7.17 kaldi-native-fbank
    PYTHONPATH=FOLDER python -m pytest tests/align/test_oracle.py
"""

import numpy as np
import pytest
import torch

from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import accumulate
from espnet_ext.align.options import from_dict
from espnet_ext.align.passes.shard import frontend, graph_of, labels, load_tree
from espnet_ext.align.run import train_aligner
from espnet_ext.align.search.segfile import load
from espnet_ext.align.search.viterbi import transition_score, viterbi

UTTS = 12
EXACT_BEAM = 1e6  # the aligner has no beam
SHORT = {
    "passes": ["mono", "tri"],
    "mono": {"iterations": 6, "realign": [1, 3], "increase_until": 4, "gaussians": 250},
    "tri": {"iterations": 5, "realign": [], "increase_until": 4, "leaves": 160, "gaussians": 400,
            "min_count": 20.0},
}  # fmt: skip


@pytest.fixture(scope="module")
def align_khg(load_benchmark):
    align_khg = load_benchmark("align_khg")
    if why := align_khg.problem():
        pytest.skip(why)
    return align_khg


@pytest.fixture(scope="module")
def case(align_khg, spoken, tmp_path_factory):
    """Model, the same in kaldi-hmm-gmm, and (features, graph, segmentation) of utterances."""
    work = tmp_path_factory.mktemp("oracle")
    o = from_dict({**SHORT, "lexicon": str(spoken / "lexicon.txt")})
    s = train_aligner(spoken / "test", work, o, map, lambda line: None)
    model = s.models["tri"]
    tree, gmm = load_tree(model.tree), Gmm.load(model.gmm)
    assert gmm.num_gauss > 1.5 * gmm.num_pdfs > 200
    job = {"work": str(work), "deltas": (o.delta_order, o.delta_window), "shard": 0,
           "sil_prob": o.sil_prob}  # fmt: skip
    front, segs, shard = frontend(job), load(work / "tri/segs/0.npz"), s.corpus.shard(0)
    words = dict(zip(shard["utts"], shard["words"], strict=True))
    utts = [(u, front.read(u), graph_of(words[u], job, tree), segs[u]) for u in list(segs)[:UTTS]]
    return tree, gmm, align_khg.Khg(gmm), utts


def test_likelihoods(case):
    _, gmm, khg, utts = case
    for _, x, graph, _ in utts[:3]:
        ours = gmm.loglik(x, torch.from_numpy(graph.unique), how="sum")
        theirs = khg.loglik(x.numpy(), graph.unique)
        # Far from a floored variance float32 has few digits left, in either of them.
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-3)
        near = theirs > -100
        assert near.any(1).mean() > 0.9
        np.testing.assert_allclose(ours.numpy()[near], theirs[near], rtol=1e-5, atol=1e-4)


def test_paths(case):
    _, gmm, khg, utts = case
    emissions = [gmm.loglik(x, torch.from_numpy(g.unique), how="sum") for _, x, g, _ in utts]
    found = viterbi([g for _, _, g, _ in utts], emissions)
    for (utt, x, graph, _), e, (path, score) in zip(utts, emissions, found, strict=True):
        theirs, their_score = khg.align(x.numpy(), khg.fst(graph), EXACT_BEAM)
        assert abs(score - their_score) <= 1e-4 * len(x), utt
        # Another path may only be one of equal score.
        e = e.double().numpy()
        total = transition_score(graph, theirs) + e[np.arange(len(x)), graph.slot[theirs]].sum()
        assert np.array_equal(path, theirs) or abs(total - score) <= 1e-4, utt


def test_statistics(case):
    tree, gmm, khg, utts = case
    x = torch.cat([x for _, x, _, _ in utts])
    pdfs = labels([(utt, seg) for utt, _, _, seg in utts], tree)
    ours, theirs = accumulate(gmm, x, pdfs), khg.stats(x.numpy(), pdfs.numpy())
    assert abs(ours.loglik - theirs.loglik) <= 1e-4 * len(x)
    for name in ("occ", "sx", "sxx"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-3, atol=0.02)


def test_words_of_kaldis_own_training(align_khg, load_benchmark, spoken):
    pytest.importorskip("kaldi_native_fbank", reason="kaldi-native-fbank is not installed")
    KaldiMono = load_benchmark("align_kaldi").KaldiMono
    peers = load_benchmark("align_peers")
    model = KaldiMono(spoken / "train", str(spoken / "lexicon.txt"))
    assert model.model.num_gauss > 3 * model.model.num_pdfs  # they were split
    found = model.align(spoken / "train")
    assert len(found) == len((spoken / "train/text").read_text(encoding="utf-8").splitlines())
    true = peers.true_words(spoken)
    ms = peers.differences(found, true)
    assert len(ms) == sum(len(true[u]) for u in found)
    assert np.median(np.abs(ms)) < 25 and np.abs(ms.mean(0)).max() < 20
