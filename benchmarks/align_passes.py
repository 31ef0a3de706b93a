# SPDX-License-Identifier: Apache-2.0
"""The passes that ``align_throughput.py`` times, on data of several scales and one model.

The data grow by repeating every utterance under another name and speaker. Models are trained
briefly on the first scale, then split until each tied state has as many Gaussians as Kaldi's models
for 200 hours have: what a pass costs depends on these, not on how good they are.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import align_khg
import numpy as np
import torch

from espnet_ext.align.corpus import Corpus, feature_options, prepare
from espnet_ext.align.features.frontend import save_transform
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import accumulate
from espnet_ext.align.gmm.train import pdf_occ, split, update
from espnet_ext.align.hybrid.files import NETWORKS
from espnet_ext.align.hybrid.train import train
from espnet_ext.align.options import AlignOptions
from espnet_ext.align.passes import gmm as passes
from espnet_ext.align.passes.hybrid import (
    fbank_options,
    hybrid_shard,
    label_shard,
    labelled_frames,
)
from espnet_ext.align.passes.lda_mllt_sat import fmllr_shard, lda_shard, mllt_shard
from espnet_ext.align.passes.shard import (
    BATCH_FRAMES,
    align_shard,
    frontend,
    graph_of,
    labels,
    load_tree,
    tree_shard,
    utterances,
)
from espnet_ext.align.run import train_aligner
from espnet_ext.align.search.segfile import load as load_segs
from espnet_ext.align.search.viterbi import viterbi
from espnet_ext.align.session import Model, Session
from espnet_ext.align.tree.questions import automatic_questions
from espnet_ext.align.tree.stats import TriphoneStats
from espnet_ext.align.tree.tree import build_tree
from espnet_ext.data.tables import read_table, write_table

COMPONENTS = 12  # Gaussians for each tied state
KALDI_BEAMS = (10.0, 40.0)  # of its alignment scripts; the aligner has no beam
SHORT = {"iterations": 3, "increase_until": 3, "leaves": 400, "gaussians": 600, "min_count": 20.0,
         "realign": []}  # fmt: skip
TRAINING = {
    "passes": ["mono", "tri", "lda_mllt"],
    "mono": {"iterations": 5, "realign": [1, 3], "increase_until": 4, "gaussians": 300},
    "tri": SHORT,
    "lda_mllt": {**SHORT, "transforms": []},
}
FIXED, REALIGNED = "iteration, same alignment", "iteration with realignment"
KHG = f" ({align_khg.NAME})"
EXACT_BEAM = 1000.0
Watch = Callable[[str], Any]  # a context manager that adds its time to a name


@dataclass
class Case:
    """Data of one scale, prepared and aligned, and models trained on the smallest."""

    scale: int
    data: Path
    corpus: Corpus
    options: AlignOptions
    models: dict[str, Model]
    khg: align_khg.Khg | None

    def session(self, map_fn: Any = map, device: str = "cpu") -> Session:
        """Return a session without a voice."""
        o = replace(self.options, device=device)
        return Session(self.corpus.work, self.corpus, o, map_fn, lambda line: None)

    def state(self, name: str) -> passes.State:
        """Return a pass in which one more iteration can be made."""
        model, folder = self.models[name], self.corpus.work / name
        job = {"gmm": model.gmm, "tree": model.tree, "segs": str(folder / "segs")}
        return passes.State(name, folder, Gmm.load(model.gmm), job)


def repeat_data(data: Path, out: Path, scale: int) -> Path:
    """Write a folder with ``scale`` copies of each utterance, each by a speaker of its own."""
    speakers = read_table(data / "utt2spk") if (data / "utt2spk").exists() else {}
    names = ("wav.scp", "text")
    if (data / "segments").exists():
        out.mkdir(parents=True)
        shutil.copy(data / "wav.scp", out / "wav.scp")
        names = ("segments", "text")
    tables = {name: read_table(data / name) for name in names}
    speakers = {u: speakers.get(u, u) for u in tables[names[0]]}
    for name, table in {**tables, "utt2spk": speakers}.items():
        tail = (lambda i: f"-{i}") if name == "utt2spk" else (lambda i: "")
        copies = {f"{u}-{i}": v + tail(i) for i in range(scale) for u, v in table.items()}
        write_table(out / name, dict(sorted(copies.items())))
    return out


def grow(gmm_file: str) -> None:
    """Split a trained model until its states have COMPONENTS Gaussians each on average."""
    gmm = Gmm.load(gmm_file)
    even = torch.ones(gmm.num_pdfs)
    split(gmm, COMPONENTS * gmm.num_pdfs, even, power=0.0, min_count=0.0, perturb=0.2).save(
        gmm_file
    )


def make_cases(data: Path, root: Path, o: AlignOptions, scales: list[int]) -> list[Case]:
    """Train on the first scale, then prepare and align all of them."""
    first = repeat_data(data, root / "data.first", scales[0])
    trained = train_aligner(first, root / "first", o, map, lambda line: None).models
    for name in ("mono", "tri", "lda_mllt"):
        grow(trained[name].gmm)
    why = align_khg.problem()
    print(f"{align_khg.NAME}: {why or 'measured beside'}")
    khg = None if why else align_khg.Khg(Gmm.load(trained["tri"].gmm))
    cases = []
    for scale in scales:
        own, work = repeat_data(data, root / f"data.{scale}", scale), root / f"work.{scale}"
        corpus = prepare(own, work, o, map, lambda line: None)
        FeatureStore.build(work / "fbank", own, fbank_options(o))
        case = Case(scale, own, corpus, o, trained, khg)
        for name in ("mono", "tri"):
            model = trained[name]
            case.session().run(
                align_shard,
                gmm=model.gmm,
                tree=model.tree,
                segs_out=str(work / name / "segs"),
            )
        cases.append(case)
    states = Gmm.load(trained["tri"].gmm)
    print(f"{len(load_tree(trained['mono'].tree).roots)} monophone states, "
          f"{states.num_pdfs} tied states, {states.num_gauss} Gaussians")  # fmt: skip
    return cases


def time_parts(c: Case, watch: Watch, device: str = "cpu") -> None:
    """Time the parts of an alignment and of the statistics by the triphone model."""
    gmm = Gmm.load(c.models["tri"].gmm).to(device)
    tree, base = load_tree(c.models["tri"].tree), {"work": str(c.corpus.work)}
    o = c.options
    base |= {"deltas": (o.delta_order, o.delta_window), "sil_prob": o.sil_prob}
    for shard in range(c.corpus.shards):
        job = {**base, "shard": shard}
        front, items = frontend(job), list(utterances(job))
        segs = load_segs(c.corpus.work / "tri/segs" / f"{shard}.npz")
        items = [(u, w) for u, w in items if u in segs]
        while items:
            ends = np.cumsum([segs[u].frames for u, _ in items])
            size = max(1, int(np.searchsorted(ends, BATCH_FRAMES)))
            batch, items = items[:size], items[size:]
            with watch("features read, with deltas"):
                xs = [front.read(u) for u, _ in batch]
            with watch("graphs"):
                graphs = [graph_of(words, job, tree) for _, words in batch]
            pdfs = labels([(u, segs[u]) for u, _ in batch], tree)
            _time_search(c, watch, gmm, [x.to(device) for x in xs], graphs, pdfs.to(device))


def _time_search(c: Case, watch: Watch, gmm: Gmm, xs: list, graphs: list, pdfs: Any) -> None:
    unique = [torch.from_numpy(g.unique) for g in graphs]
    scores = {}
    for how, name in (("max", "best Gaussian"), ("sum", "all Gaussians")):
        with watch(f"emissions, {name}"), watch(f"align, {name}"):
            scores[how] = [gmm.loglik(x, u, how) for x, u in zip(xs, unique, strict=True)]
        with watch(f"Viterbi, default, {name}"), watch(f"align, {name}"):
            viterbi(graphs, scores[how])
    with watch("Viterbi, torch"):
        viterbi(graphs, scores["max"], backend="torch")
    joined = torch.cat(xs)
    with watch("accumulate"):
        accumulate(gmm, joined, pdfs)
    if c.khg is None or gmm.device.type != "cpu":
        return
    arrays, k = [x.numpy() for x in xs], c.khg
    with watch("graphs to FSTs" + KHG):
        fsts = [k.fst(g) for g in graphs]
    for beams in (KALDI_BEAMS, (EXACT_BEAM, 0.0)):
        with watch(f"align, beam {beams[0]:.0f}" + KHG):
            for x, fst in zip(arrays, fsts, strict=True):
                k.align(x, fst, *beams)
    with watch("accumulate" + KHG):
        k.accumulate(joined.numpy(), pdfs.numpy())


def time_iterations(c: Case, watch: Watch, map_fn: Any = map, device: str = "cpu") -> None:
    """Time whole EM iterations as a training makes them, files included."""
    s = c.session(map_fn, device)
    for name in ("mono", "tri"):
        state = c.state(name)
        for title in (FIXED, REALIGNED):
            with watch(f"{name} {title}"):
                if title == REALIGNED:
                    passes.align(s, state, 1)
                stats, _ = passes.accumulate(s, state)
                occ, target = pdf_occ(state.gmm, stats), state.gmm.num_gauss
                split(update(state.gmm, stats), target, occ).save(state.folder / "next.npz")


def time_statistics(c: Case, watch: Watch) -> None:
    """Time the passes that only a CPU does: features, tree, LDA, MLLT, fMLLR."""
    s, model, work = c.session(), c.models["lda_mllt"], c.corpus.work
    segs, tree = str(work / "tri/segs"), c.models["tri"].tree
    with watch("features (MFCC)"):
        FeatureStore.build(work / "again", c.data, feature_options(c.options))
    shutil.rmtree(work / "again")
    with watch("tree"):
        results, _ = s.run(tree_shard, segs=segs, stats=str(work / "tree"))
        parts = [TriphoneStats.load(Path(r["stats"])) for r in results if r["stats"]]
        total, phones = parts[0].merge(*parts[1:]), len(c.corpus.pronunciations.phone_set())
        questions = automatic_questions(total, phones)
        build_tree(total, questions, phones, leaves=SHORT["leaves"], min_count=SHORT["min_count"])
    splice = c.options.lda_mllt.splice
    save_transform(work / "lda.npz", np.eye(c.corpus.store.dim * (2 * splice + 1)), splice)
    with watch("LDA statistics"):
        s.run(lda_shard, tree=tree, segs=segs, transform=str(work / "lda.npz"),
              stats=str(work / "lda"))  # fmt: skip
    common = {"tree": model.tree, "gmm": model.gmm, "segs": segs, "transform": model.transform}
    with watch("MLLT statistics"):
        s.run(mllt_shard, **common, stats=str(work / "mllt"))
    with watch("fMLLR of all speakers"):
        s.run(fmllr_shard, **common, fmllr_out=str(work / "fmllr"))


def time_hybrid(c: Case, watch: Watch, device: str = "cpu") -> None:
    """Time one epoch of each network (held-out frames included) and a realignment by it."""
    work, tree, s = c.corpus.work, c.models["tri"].tree, c.session()
    store, labels = FeatureStore.open(work / "fbank"), work / "labels"
    with watch("labels of the networks"):
        shards, _ = s.run(label_shard, segs=str(work / "tri/segs"), tree=tree, labels=str(labels))
    data = labelled_frames(store, labels, shards)
    for name in NETWORKS:
        o = replace(c.options.hybrid, network=name, epochs=1, epoch_frames=0, device=device)
        with watch(f"{name} epoch"):
            network, _ = train(data, o, 1, lambda line: None)
        network.save(work / "hybrid.npz")
        with watch(f"{name} realignment"):
            s.run(
                hybrid_shard, network=str(work / "hybrid.npz"), tree=tree,
                segs_out=str(work / "hybrid"), prior_scale=o.prior_scale, device=device,
            )  # fmt: skip
