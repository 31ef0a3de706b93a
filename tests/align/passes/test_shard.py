# SPDX-License-Identifier: Apache-2.0
"""Passes and shards on features drawn from a known model, and their failures."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from espnet_ext.align.corpus import Corpus
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import GmmStats
from espnet_ext.align.gmm.train import split, update
from espnet_ext.align.options import from_dict, pick_device
from espnet_ext.align.passes import gmm as gmm_passes
from espnet_ext.align.passes import shard as engine
from espnet_ext.align.passes.gmm import mono_pass, tri_pass
from espnet_ext.align.search import segfile
from espnet_ext.align.session import Session
from espnet_ext.errors import DataError
from espnet_ext.files import write_json
from espnet_ext.lang.phones import STATES
from espnet_ext.lang.pronounce import Pronunciations

DIM, PHONES = 6, ("SIL", "a", "b", "c", "d")
WORDS = {"ab": "a b", "ca": "c a", "dbd": "d b d", "bac": "b a c", "d": "d"}
OPTIONS = {
    "passes": ["mono", "tri"],
    "mono": {"iterations": 14, "realign": list(range(1, 13)), "gaussians": 15, "increase_until": 1},
    "tri": {"iterations": 4, "realign": [2], "leaves": 15, "gaussians": 15},
}


class Sampled:
    """An HMM with one Gaussian per state: its means, and utterances drawn from it."""

    def __init__(self, count=50, seed=0):
        rng = np.random.default_rng(seed)
        self.means = 4 * rng.standard_normal((len(PHONES) * STATES, DIM))
        self.means[:, 0] = 8 + rng.standard_normal(len(self.means))
        self.means[:STATES, 0] = -8  # the "energy", by which the flat start finds speech
        self.words, self.features, self.truth = {}, {}, {}
        for n in range(count):
            words = list(rng.choice(list(WORDS), 5))
            names = ["SIL", *" ".join(WORDS[w] for w in words).split(), "SIL"]
            ids = np.array([PHONES.index(p) for p in names])
            states = (ids[:, None] * STATES + np.arange(STATES)).ravel()
            states = np.repeat(states, rng.geometric(0.25, len(states)))
            noise = rng.standard_normal((len(states), DIM))
            utt = f"u{n:03d}"
            self.words[utt], self.truth[utt] = words, states
            self.features[utt] = torch.tensor(self.means[states] + noise, dtype=torch.float32)

    def frontend(self, job):
        store = SimpleNamespace(
            frames=lambda u: len(self.features[u]),
            read=lambda u, cmvn=True: self.features[u].numpy(),
        )
        return SimpleNamespace(store=store, read=self.features.__getitem__)


class FakeCorpus(Corpus):
    store = property(lambda self: self.sampled.frontend({}).store)


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Return a function that makes a session on sampled features in two shards."""

    def make(sampled, **options):
        monkeypatch.setattr(engine, "frontend", sampled.frontend)
        utts = sorted(sampled.words, key=lambda u: len(sampled.features[u]))
        for i in range(2):
            row = {"utts": utts[i::2], "words": [sampled.words[u] for u in utts[i::2]]}
            write_json(tmp_path / "shards" / f"{i}.json", row)
        words = {w: [(tuple(p.split()), 0.0)] for w, p in WORDS.items()}
        Pronunciations(words, {}, PHONES).save(tmp_path / "pronunciations.json")
        corpus = FakeCorpus(tmp_path, 2, 0, len(utts), "key", [])
        corpus.sampled = sampled
        o = from_dict({**OPTIONS, **options})
        return Session(tmp_path, corpus, o, map, lambda line: None, key="key")

    return make


def found(session, name):
    return segfile.load(session.folder(name) / "segs/0.npz") | segfile.load(
        session.folder(name) / "segs/1.npz"
    )


def test_a_sampled_hmm_is_recovered_from_a_flat_start(drawn):
    sampled = Sampled()
    session = drawn(sampled)
    model = mono_pass(session, None, None)
    tri_pass(session, model, None)
    gmm = Gmm.load(model.gmm)
    assert gmm.num_gauss == len(sampled.means)
    assert np.abs(gmm.means.numpy() - sampled.means).max() < 0.35
    assert abs(float(gmm.variances.mean()) - 1) < 0.05
    for name in ("mono", "tri"):
        segs = found(session, name)
        right = sum(int((s.frame_phones() == sampled.truth[u] // 3).sum()) for u, s in segs.items())
        assert right / sum(s.frames for s in segs.values()) > 0.99, name


def test_what_is_kept_of_a_small_corpus_changes_no_bit_of_the_training(drawn, monkeypatch):
    compile_graph, graphs = engine.graph_of, []

    def trained(limit):
        monkeypatch.setattr(gmm_passes, "KEEP_FRAMES", limit)
        session = drawn(Sampled(20))
        tri_pass(session, mono_pass(session, None, None), None)
        folders = [session.folder(name) for name in ("mono", "tri")]
        result = [(f / name).read_bytes() for f in folders for name in ("gmm.npz", "segs/0.npz")]
        for folder in folders:
            shutil.rmtree(folder)
        return result, len(graphs)

    monkeypatch.setattr(engine, "graph_of", lambda *a: graphs.append(a) or compile_graph(*a))
    kept_files, compiled = trained(10**6)
    assert compiled == 2 * 20  # once for each tree
    fresh_files, more = trained(-1)
    assert kept_files == fresh_files and more > 4 * compiled


def test_em_at_a_fixed_alignment_never_lowers_the_likelihood(drawn, tmp_path):
    session = drawn(Sampled(20), mono={**OPTIONS["mono"], "iterations": 2, "realign": [1]})
    model = mono_pass(session, None, None)
    gmm = Gmm.load(model.gmm)
    gmm = split(gmm, 40, torch.full((gmm.num_pdfs,), 500.0), seed=1)
    curve = []
    for _ in range(6):
        gmm.save(tmp_path / "gmm.npz")
        job = {"segs": str(session.folder("mono") / "segs"), "tree": model.tree}
        results, _ = session.run(
            engine.accumulate_shard, **job, gmm=str(tmp_path / "gmm.npz"), stats=str(tmp_path / "s")
        )
        stats = GmmStats.load(results[0]["stats"]) + GmmStats.load(results[1]["stats"])
        curve.append(stats.loglik / stats.frames)
        gmm = update(gmm, stats, min_occ=0)
    assert np.diff(curve).min() > -1e-5 and curve[-1] > curve[0] + 0.05


def test_batches_do_not_change_alignments(drawn, monkeypatch):
    session = drawn(Sampled(12), passes=["mono"])
    model = mono_pass(session, None, None)
    before = found(session, "mono")
    monkeypatch.setattr(engine, "BATCH_FRAMES", 1)
    job = {"gmm": model.gmm, "tree": model.tree, "segs_out": str(session.folder("one"))}
    session.run(engine.align_shard, **job)
    for i in range(2):
        for utt, seg in segfile.load(session.folder("one") / f"{i}.npz").items():
            assert seg.durations.tolist() == before[utt].durations.tolist()
            assert seg.loglik == before[utt].loglik


def test_features_that_are_not_finite_stop_an_update_by_name(drawn):
    sampled = Sampled(12)
    session = drawn(sampled, passes=["mono"])
    model = mono_pass(session, None, None)
    sampled.features["u002"][3, 1] = float("inf")
    job = {"gmm": model.gmm, "tree": model.tree, "segs": str(session.folder("mono") / "segs")}
    with pytest.raises(DataError, match="not finite") as e:
        session.run(engine.accumulate_shard, **job, stats=str(session.folder("s")))
    assert e.value.where == "utterance u002"


def test_the_device_is_picked_where_the_work_runs(drawn, monkeypatch):
    session = drawn(Sampled(4), passes=["mono"])
    sent = []
    session.map_fn = lambda fn, jobs: sent.extend(jobs) or []
    session.run(engine.align_shard, device="auto")
    assert sent and {job["device"] for job in sent} == {"auto"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    here = []
    session.run(lambda job: here.append(pick_device(job["device"])), device="auto")
    assert set(here) == {"cuda"} and len(here) == session.corpus.shards


def test_long_utterances_are_searched_in_blocks(drawn, monkeypatch):
    session = drawn(Sampled(12), passes=["mono"])
    model = mono_pass(session, None, None)
    before = found(session, "mono")
    monkeypatch.setattr(engine, "LONG_BYTES", 0)
    job = {"gmm": model.gmm, "tree": model.tree, "segs_out": str(session.folder("blocks"))}
    results, _ = session.run(engine.align_shard, **job)
    assert sum(r["aligned"] for r in results) == len(before) == 12
    for i in range(2):
        for utt, seg in segfile.load(session.folder("blocks") / f"{i}.npz").items():
            assert seg.durations.tolist() == before[utt].durations.tolist()
            assert seg.loglik == pytest.approx(before[utt].loglik, rel=1e-5)


def test_utterances_that_cannot_be_aligned_are_named_and_the_rest_goes_on(drawn, monkeypatch):
    sampled = Sampled(12)
    session = drawn(sampled, passes=["mono"])
    model = mono_pass(session, None, None)
    sampled.features["u001"] = sampled.features["u001"][:5]
    sampled.features["u002"][3, 1] = float("nan")
    longest = max(sampled.features, key=lambda u: len(sampled.features[u]))
    job = {"gmm": model.gmm, "tree": model.tree, "segs_out": str(session.folder("x"))}
    graphs = {u: engine.graph_of(sampled.words[u], {"work": str(session.work), "sil_prob": 0.5},
                                 engine.load_tree(model.tree)) for u in sampled.words}  # fmt: skip
    need = {u: engine.long_bytes(graphs[u], len(x)) for u, x in sampled.features.items()}
    longest = max(need, key=need.get)
    monkeypatch.setattr(engine, "LONG_BYTES", 0)  # all are searched in blocks
    monkeypatch.setattr(engine, "SEARCH_BYTES", need[longest] - 1)
    results, _ = session.run(engine.align_shard, **job)
    failed = {u: (reason, why) for r in results for u, reason, why in r["failed"]}
    assert {u: r for u, (r, _) in failed.items()} == {
        "u001": "too short", "u002": "no alignment", longest: "too long",
    }  # fmt: skip
    assert "5 frames" in failed["u001"][1] and "cut it into segments" in failed[longest][1]
    assert sum(r["aligned"] for r in results) == 9


def test_segmentations_come_back_from_their_file_as_they_were(drawn, tmp_path):
    session = drawn(Sampled(4), passes=["mono"])
    mono_pass(session, None, None)
    segs = {f"ü {u}": s for u, s in found(session, "mono").items()}
    segfile.save(tmp_path / "x.npz", segs)
    back = segfile.load(tmp_path / "x.npz")
    assert list(back) == list(segs)
    for a, b in zip(back.values(), segs.values(), strict=True):
        assert a.loglik == b.loglik and json.dumps(a.durations.tolist()) == json.dumps(
            b.durations.tolist()
        )
    segfile.save(tmp_path / "none.npz", {})
    assert segfile.load(tmp_path / "none.npz") == {}
