# SPDX-License-Identifier: Apache-2.0
"""Kaldi's monophone training (steps/train_mono.sh) and alignment, by kaldi-hmm-gmm.

For ``align_peers.py``; install it as :mod:`align_khg` says, and kaldi-native-fbank for features.
Schedule, beams, topology, phones by position in the word and features are those of Kaldi's script;
its C++ does the search and the estimation, Python only counts. There is no dither, and words are
pronounced by the lexicon that the other systems get. The bindings cannot build a tree of triphones.
Where Gaussians are split they draw random numbers without a seed of ours: medians of one corpus
differ by some 0.7 ms between runs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from align_khg import ALL_FLAGS, diag_gmm

from espnet_ext.align.corpus import pronounce_texts, read_texts
from espnet_ext.align.options import AlignOptions
from espnet_ext.data.tables import read_table

Words = list[tuple[str, float, float]]  # name, start_s, end_s
SIL = 1
SHIFT_S = 0.01
ITERATIONS, INCREASE_UNTIL, GAUSSIANS = 40, 30, 1000
REALIGN = frozenset((*range(1, 11), 12, 14, 16, 18, 20, 23, 26, 29, 32, 35, 38))
FIRST_BEAM, BEAM, RETRY_BEAM = 6.0, 10.0, 40.0
ACOUSTIC_SCALE, SELF_LOOP_SCALE, SIL_PROB = 0.1, 0.1, 0.5
POWER, MIN_SPLIT, PERTURB = 0.25, 20.0, 0.01
FLAT_START_OCCUPANCY = 3.0

# Three states from left to right; silence has five, of which three in the middle may follow each
# other in any order.
_THREE = [(s, [(s, 0.75), (s + 1, 0.25)]) for s in range(3)]
_FIVE = [
    (0, [(0, 0.25), (1, 0.25), (2, 0.25), (3, 0.25)]),
    *((s, [(1, 0.25), (2, 0.25), (3, 0.25), (4, 0.25)]) for s in (1, 2, 3)),
    (4, [(4, 0.75), (5, 0.25)]),
]


def topology(phones: int) -> str:
    """Return Kaldi's text of the topology of phones 1 (silence) to ``phones``."""
    entries = []
    for ids, states in (([SIL], _FIVE), (range(SIL + 1, phones + 1), _THREE)):
        rows = "\n".join(
            f"<State> {s} <PdfClass> {s} "
            + " ".join(f"<Transition> {to} {p}" for to, p in arcs)
            + " </State>"
            for s, arcs in states
        )
        names = " ".join(map(str, ids))
        entries.append(
            f"<TopologyEntry>\n<ForPhones>\n{names}\n</ForPhones>\n{rows}\n"
            f"<State> {len(states)} </State>\n</TopologyEntry>"
        )
    return "<Topology>\n" + "\n".join(entries) + "\n</Topology>\n"


class Lang:
    """Phones by position in the word, and words with their pronunciations.

    Args:
        words: Each word with its variants, phone names.
    """

    def __init__(self, words: dict[str, list[tuple[str, ...]]]):
        names = sorted({p for variants in words.values() for v in variants for p in v})
        self.phones = [SIL] + [SIL + 1 + i for i in range(4 * len(names))]
        self._first = {p: SIL + 1 + 4 * i for i, p in enumerate(names)}  # _B, _E, _I, _S
        self.classes = [[SIL], *([f, f + 1, f + 2, f + 3] for f in self._first.values())]
        self.ids = {w: i for i, w in enumerate(sorted(words), start=1)}
        self.variants = {w: [self._placed(v) for v in vs] for w, vs in words.items()}

    def _placed(self, variant: tuple[str, ...]) -> list[int]:
        first = [self._first[p] for p in variant]
        if len(first) == 1:
            return [first[0] + 3]
        return [first[0], *(f + 2 for f in first[1:-1]), first[-1] + 1]

    def begins(self, phone: int) -> bool:
        """Whether a word begins with this phone."""
        return phone > SIL and (phone - SIL - 1) % 4 in (0, 3)

    def fst(self, kaldifst: Any) -> Any:
        """Return L.fst: words with silence between them or not."""
        fst, arc = kaldifst.StdVectorFst(), kaldifst.StdArc
        start, loop, silence = (fst.add_state() for _ in range(3))
        fst.start = start
        without, with_sil = -np.log(1 - SIL_PROB), -np.log(SIL_PROB)
        fst.add_arc(start, arc(0, 0, without, loop))
        fst.add_arc(start, arc(SIL, 0, with_sil, loop))
        fst.add_arc(silence, arc(SIL, 0, 0.0, loop))
        for word, variants in self.variants.items():
            for phones in variants:
                at, label = loop, self.ids[word]
                for phone in phones[:-1]:
                    fst.add_arc(at, arc(phone, label, 0.0, to := fst.add_state()))
                    at, label = to, 0
                fst.add_arc(at, arc(phones[-1], label, without, loop))
                fst.add_arc(at, arc(phones[-1], label, with_sil, silence))
        fst.set_final(loop, 0.0)
        kaldifst.arcsort(fst, sort_type="olabel")
        return fst


def features(data: Path) -> dict[str, np.ndarray]:
    """Return 13 MFCCs with deltas of second order, mean-normalised by speaker: ``(T, 39)``."""
    import kaldi_native_fbank as knf

    speakers = read_table(data / "utt2spk")
    found = {u: _mfcc(knf, path) for u, path in read_table(data / "wav.scp").items()}
    sums: dict[str, list[np.ndarray]] = {}
    for utt, x in found.items():
        sums.setdefault(speakers[utt], []).append(x)
    means = {s: np.concatenate(xs).mean(0) for s, xs in sums.items()}
    options = knf.DeltaOptions()
    return {
        u: np.ascontiguousarray(knf.compute_deltas(options, x - means[speakers[u]]), np.float32)
        for u, x in found.items()
    }


def _mfcc(knf: Any, path: str) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    options = knf.MfccOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = rate, 0.0
    options.use_energy = False
    front = knf.OnlineMfcc(options)
    front.accept_waveform(rate, samples.astype(np.float32).tolist())
    front.input_finished()
    return np.stack([front.get_frame(t) for t in range(front.num_frames_ready)])


class KaldiMono:
    """A monophone model.

    Args:
        train: Kaldi-style folder to learn from.
        lexicon: Dictionary of its words and of those that are to be aligned.
        more: Further folders, whose words are to be known.
    """

    def __init__(self, train: Path, lexicon: str, *more: Path):
        import kaldi_hmm_gmm  # before kaldifst, which it shares libraries with
        import kaldifst

        self.khg, self.kaldifst = kaldi_hmm_gmm, kaldifst
        self.lang = _lang(lexicon, train, *more)
        topo = kaldi_hmm_gmm.HmmTopology()
        topo.read(topology(len(self.lang.phones)))
        tree = kaldi_hmm_gmm.monophone_context_dependency_shared(
            self.lang.classes, topo.get_phone_to_num_pdf_classes()
        )
        self.transitions = kaldi_hmm_gmm.TransitionModel(tree, topo)
        no_scales = kaldi_hmm_gmm.TrainingGraphCompilerOptions(0.0, 0.0, True)
        parts = tree, self.lang.fst(kaldifst), [], no_scales
        self.compiler = kaldi_hmm_gmm.TrainingGraphCompiler(self.transitions, *parts)
        self._kept = parts  # the compiler only points to them
        ids = range(1, self.transitions.num_transition_ids + 1)
        self.pdf = [0, *(self.transitions.transition_id_to_pdf(t) for t in ids)]
        self.phone = [0, *(self.transitions.transition_id_to_phone(t) for t in ids)]
        self.ends = [False, *(self.transitions.is_final(t) for t in ids)]
        self.loops = [False, *(self.transitions.is_self_loop(t) for t in ids)]
        feats = features(train)
        self.model = self._flat(list(feats.values()))
        self._train(feats, self.graphs(train))

    def graphs(self, data: Path) -> dict[str, Any]:
        """Return the graph of each utterance, without transition probabilities."""
        ids = self.lang.ids
        return {
            u: self.compiler.compile_graph_from_text([ids[w] for w in words])
            for u, words in read_texts(data).items()
        }

    def _flat(self, feats: list[np.ndarray]) -> Any:
        """One Gaussian a state, the same for all."""
        some = np.concatenate(feats[:10])
        gmm = diag_gmm(self.khg, np.ones(1), some.mean(0)[None], some.var(0)[None])
        model = self.khg.AmDiagGmm()
        model.init(gmm, self.transitions.num_pdfs)
        return model

    def _train(self, feats: dict[str, np.ndarray], graphs: dict[str, Any]) -> None:
        paths = {u: self._equal(graphs[u], len(x)) for u, x in feats.items()}
        total = self.model.num_gauss
        self._estimate(feats, paths, total, FLAT_START_OCCUPANCY)
        step, beam = (GAUSSIANS - total) // INCREASE_UNTIL, FIRST_BEAM
        for i in range(1, ITERATIONS):
            if i in REALIGN:
                paths = {u: self.path(x, graphs[u], beam) for u, x in feats.items()}
            self._estimate(feats, paths, total)
            total, beam = total + step * (i <= INCREASE_UNTIL), BEAM

    def _equal(self, graph: Any, frames: int) -> list[int]:
        """A path of states of equal length; empty where the utterance is too short."""
        done, fst = self.kaldifst.equal_align(
            ifst=graph, length=frames, rand_seed=3, num_retries=10
        )
        return self.kaldifst.get_linear_symbol_sequence(fst)[1] if done else []

    def path(self, x: np.ndarray, graph: Any, beam: float = BEAM) -> list[int]:
        """Return the transition ids ``(T,)`` of the best path, [] if there is none."""
        fst = graph.copy()
        self.khg.add_transition_probs(
            trans_model=self.transitions, disambig_syms=[], transition_scale=1.0,
            self_loop_scale=SELF_LOOP_SCALE, fst=fst,
        )  # fmt: skip
        scores = self.khg.DecodableAmDiagGmmScaled(self.model, self.transitions, x, ACOUSTIC_SCALE)
        config = self.khg.AlignConfig(beam=beam, retry_beam=RETRY_BEAM)
        done, *_, path, _ = self.khg.align_utterance_wrapper(
            config, "utt", ACOUSTIC_SCALE, fst, scores, 0, 0, 0, 0.0, 0
        )
        return path if done else []

    def _estimate(
        self, feats: dict[str, np.ndarray], paths: dict[str, list[int]], total: int,
        occupancy: float = 10.0,
    ) -> None:  # fmt: skip
        """Maximum likelihood by ``paths``, then up to ``total`` Gaussians."""
        stats, counts = self.khg.AccumAmDiagGmm(), self.transitions.init_stats()
        stats.init(self.model, ALL_FLAGS)
        add, model, pdf = stats.accumulate_for_gmm, self.model, self.pdf
        for utt, path in paths.items():
            for frame, transition in zip(feats[utt], path):  # noqa: B905 -- [] where it failed
                add(model, frame, pdf[transition], 1.0)
            counts += np.bincount(np.array(path, int), minlength=len(counts))
        self.transitions.mle_update(counts, self.khg.MleTransitionUpdateConfig())
        options = self.khg.MleDiagGmmOptions(min_gaussian_occupancy=occupancy)
        shares = [np.sum(stats.get_acc(k).occupancy) for k in range(model.num_pdfs)]
        self.khg.mle_am_diag_gmm_update(options, stats, ALL_FLAGS, model)
        if total > model.num_gauss:
            model.split_by_count(np.array(shares, np.float32), total, PERTURB, POWER, MIN_SPLIT)

    def align(self, data: Path) -> dict[str, Words]:
        """Return the words of each utterance that can be aligned, in Kaldi's times."""
        graphs, texts, out = self.graphs(data), read_texts(data), {}
        for utt, x in features(data).items():
            if path := self.path(x, graphs[utt]):
                out[utt] = self._words(path, texts[utt])
        return out

    def _words(self, path: list[int], words: list[str]) -> Words:
        """Cut a path at the ends of phones: at a final transition and its self-loops."""
        spans, start, ended = [], 0, False
        for t, transition in enumerate(path):
            if not self.loops[transition]:  # self-loops follow the transition they belong to
                ended = self.ends[transition]
            if ended and (t + 1 == len(path) or not self.loops[path[t + 1]]):
                phone = self.phone[transition]
                if self.lang.begins(phone):
                    spans.append([start, t + 1])
                elif phone != SIL:
                    spans[-1][1] = t + 1
                start = t + 1
        return [(w, SHIFT_S * a, SHIFT_S * b) for w, (a, b) in zip(words, spans, strict=True)]


def _lang(lexicon: str, *folders: Path) -> Lang:
    texts = {f"{d}:{u}": words for d in folders for u, words in read_texts(d).items()}
    found = pronounce_texts(texts, AlignOptions(lexicon=lexicon, long_phones="none"))
    return Lang({w: [names for names, _ in found.variants(w)] for w in found.words})
