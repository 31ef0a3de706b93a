# SPDX-License-Identifier: Apache-2.0
"""From a transcript to the HMM states that a search may pass.

A lattice holds the phones of the words, their variants and the silences between them. A graph is
the lattice with every phone split by its neighbours (cross-word triphones) into 3 states each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_ext.align.search.segmentation import PdfOf, Segmentation
from espnet_ext.errors import DataError, UsageError
from espnet_ext.lang.phones import SILENCE_ID, STATES

# Fixed for every state: an average of 4 frames. Estimating them moves the path little next to
# the emissions, and a fixed value keeps graphs independent of the model.
LOG_SELF, LOG_NEXT = math.log(0.75), math.log(0.25)

Arc = tuple[int, float]
Prons = Sequence[Sequence[tuple[tuple[int, ...], float]]]
"""Per word its pronunciations: (phone ids, natural log probability)."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Phone occurrences in topological order; arcs carry natural log probabilities.

    Args:
        phones: Phone id of each occurrence.
        words: Index of its word in the transcript, -1 for silence between words.
        arcs: Per occurrence, ``(next occurrence, log probability)``.
        start: ``(first occurrence, log probability)``.
        final: ``(last occurrence, log probability)``.
        min_phones: Length of the shortest path.
    """

    phones: list[int]
    words: list[int]
    arcs: list[list[Arc]]
    start: list[Arc]
    final: list[Arc]
    min_phones: int

    def add(self, frontier: list[Arc], phone: int, word: int) -> int:
        """Append an occurrence reached from a frontier, where source -1 is the start."""
        number = len(self.phones)
        self.phones.append(phone)
        self.words.append(word)
        self.arcs.append([])
        for source, logp in frontier:
            (self.start if source < 0 else self.arcs[source]).append((number, logp))
        return number


@dataclass(frozen=True, eq=False)
class Graph:
    """HMM states in topological order: S states, U tied states, at most P predecessors.

    A path enters a state once at most: each run of equal numbers is one visit, and 3 runs are a
    phone, also where equal phones follow one another.

    Args:
        pdf: ``(S,)`` int32 tied state.
        unique: ``(U,)`` int32 tied states of the graph, ascending: the columns of its emissions.
        slot: ``(S,)`` int32, ``unique[slot] == pdf``.
        preds: ``(S, P)`` int32 states before this one, itself left out; -1 fills up.
        pred_logp: ``(S, P)`` float32 natural log probability of coming from there; -inf fills up.
        start_logp: ``(S,)`` float32, -inf where a path cannot start.
        final_logp: ``(S,)`` float32, -inf where a path cannot end.
        self_logp: Log probability of staying, exact in float32.
        phone: ``(S,)`` int16 phone id.
        state: ``(S,)`` int8 number of the state in its phone.
        word: ``(S,)`` int32 index of the word in the transcript, -1 for silence between words.
        min_frames: Length of the shortest path.
    """

    pdf: np.ndarray
    unique: np.ndarray
    slot: np.ndarray
    preds: np.ndarray
    pred_logp: np.ndarray
    start_logp: np.ndarray
    final_logp: np.ndarray
    self_logp: float
    phone: np.ndarray
    state: np.ndarray
    word: np.ndarray
    min_frames: int


def make_lattice(prons: Prons, *, sil_prob: float = 0.5, force_silence: bool = False) -> Lattice:
    """Lay out words with silence before, between and after them.

    Args:
        prons: Pronunciations of each word; none at all for a silent utterance. A log probability
            of -inf forbids a variant.
        sil_prob: Probability of each silence.
        force_silence: Make every silence obligatory, at no cost.

    Raises:
        DataError: A word has no possible pronunciation, or one without phones.
        UsageError: ``sil_prob`` is not a probability.
    """
    if not 0 <= sil_prob <= 1:
        raise UsageError(f"sil_prob is a probability, not {sil_prob}", "sil_prob", "use 0 to 1")
    forced = force_silence or sil_prob == 1 or not prons
    use = 0.0 if forced else math.log(sil_prob) if sil_prob else -math.inf
    skip = -math.inf if forced else math.log1p(-sil_prob)
    kept = [_possible(variants, w) for w, variants in enumerate(prons)]
    shortest = sum(min(len(ids) for ids, _ in variants) for variants in kept)
    shortest += len(kept) + 1 if forced else 0
    lattice = Lattice([], [], [], [], [], shortest)
    frontier: list[Arc] = [(-1, 0.0)]
    for w, variants in enumerate(kept):
        before = _through_silence(lattice, frontier, use, skip)
        frontier = []
        for ids, logp in variants:
            last = lattice.add([(o, p + logp) for o, p in before], ids[0], w)
            for phone in ids[1:]:
                last = lattice.add([(last, 0.0)], phone, w)
            frontier.append((last, 0.0))
    lattice.final.extend(_through_silence(lattice, frontier, use, skip))
    return lattice


def chain(phones: Sequence[int], words: Sequence[int]) -> Lattice:
    """Lay out phones that are known to follow one another, silences among them.

    Args:
        phones: ``(P,)`` phone ids, at least one.
        words: ``(P,)`` index of the word in the transcript, -1 for silence.
    """
    lattice, frontier = Lattice([], [], [], [], [], len(phones)), [(-1, 0.0)]
    for phone, word in zip(phones, words, strict=True):
        frontier = [(lattice.add(frontier, int(phone), int(word)), 0.0)]
    lattice.final.extend(frontier)
    return lattice


def _possible(
    variants: Sequence[tuple[tuple[int, ...], float]], w: int
) -> list[tuple[tuple[int, ...], float]]:
    kept = [(ids, logp) for ids, logp in variants if logp > -math.inf]
    if not kept or not all(ids for ids, _ in kept):
        what = "has a pronunciation without phones" if kept else "has no pronunciation"
        raise DataError(f"word {w} of the transcript {what}", "lexicon", "correct the lexicon")
    return kept


def _through_silence(lattice: Lattice, frontier: list[Arc], use: float, skip: float) -> list[Arc]:
    """Return the frontier behind a silence that may be taken or left out."""
    if use == -math.inf:
        return frontier
    silence = lattice.add([(o, p + use) for o, p in frontier], SILENCE_ID, -1)
    after = [(o, p + skip) for o, p in frontier] if skip > -math.inf else []
    return [(silence, 0.0), *after]


def make_graph(lattice: Lattice, pdf_of: PdfOf, context: bool = True) -> Graph:
    """Split each phone by its neighbours and lay out the states.

    A node is (phone to the left, occurrence, phone to the right). Neighbours of one phone share a
    node whichever occurrence they are, so variants do not multiply it.

    Args:
        lattice: Of an utterance.
        pdf_of: The tying of states.
        context: False for a tree that asks for no neighbours: no split, they are given as SIL.
    """
    seen = lattice.phones if context else [SILENCE_ID] * len(lattice.phones)
    lefts, rights = _neighbours(lattice, seen)
    base, owner, pdfs = _nodes(lattice, lefts, rights, pdf_of)
    start, final = np.full((2, STATES * len(owner)), -np.inf, np.float32)
    for o, logp in lattice.start:
        stop = base[o] + len(rights[o])  # SIL is the first phone on the left of these
        start[STATES * base[o] : STATES * stop : STATES] = logp
    for o, logp in lattice.final:
        width = len(rights[o])
        node, stop = base[o] + rights[o][SILENCE_ID], base[o] + len(lefts[o]) * width
        final[STATES * node + STATES - 1 : STATES * stop : STATES * width] = logp + LOG_NEXT
    pdf = np.array(pdfs, np.int32)
    unique, slot = np.unique(pdf, return_inverse=True)
    occurrence = np.repeat(owner, STATES)
    edges = _edges(lattice, seen, lefts, rights, base)
    preds, pred_logp = _predecessors(len(pdf), *edges)
    return Graph(
        pdf=pdf,
        unique=unique,
        slot=slot.astype(np.int32),
        preds=preds,
        pred_logp=pred_logp,
        start_logp=start,
        final_logp=final,
        self_logp=float(np.float32(LOG_SELF)),
        phone=np.array(lattice.phones, np.int16)[occurrence],
        state=np.tile(np.arange(STATES, dtype=np.int8), len(owner)),
        word=np.array(lattice.words, np.int32)[occurrence],
        min_frames=STATES * lattice.min_phones,
    )


def _neighbours(
    lattice: Lattice, seen: list[int]
) -> tuple[list[dict[int, int]], list[dict[int, int]]]:
    """Return per occurrence the phones on its left and right, numbered."""
    lefts: list[dict[int, int]] = [{} for _ in seen]
    rights: list[dict[int, int]] = [{} for _ in seen]
    for o, _ in lattice.start:
        lefts[o][SILENCE_ID] = 0
    for o, arcs in enumerate(lattice.arcs):
        right, phone = rights[o], seen[o]
        for after, _ in arcs:
            right.setdefault(seen[after], len(right))
            lefts[after].setdefault(phone, len(lefts[after]))
    for o, _ in lattice.final:
        rights[o].setdefault(SILENCE_ID, len(rights[o]))
    return lefts, rights


def _nodes(
    lattice: Lattice, lefts: list[dict[int, int]], rights: list[dict[int, int]], pdf_of: PdfOf
) -> tuple[list[int], list[int], list[int]]:
    """Number the nodes: first one per occurrence, occurrence per node, tied state per state."""
    base: list[int] = []
    owner: list[int] = []
    pdfs: list[int] = []
    known: dict[tuple[int, int, int], list[int]] = {}
    for o, phone in enumerate(lattice.phones):
        base.append(len(owner))
        for left in lefts[o]:
            for right in rights[o]:
                key = (left, phone, right)
                if key not in known:
                    known[key] = [pdf_of(left, phone, right, s) for s in range(STATES)]
                pdfs += known[key]
                owner.append(o)
    return base, owner, pdfs


def _edges(
    lattice: Lattice,
    seen: list[int],
    lefts: list[dict[int, int]],
    rights: list[dict[int, int]],
    base: list[int],
) -> tuple[list[int], list[int], list[float]]:
    """Return source nodes, target nodes and log probabilities; sources ascend."""
    src: list[int] = []
    dst: list[int] = []
    logps: list[float] = []
    for o, arcs in enumerate(lattice.arcs):
        width, phone = len(rights[o]), seen[o]
        stop = base[o] + len(lefts[o]) * width
        for after, logp in arcs:
            span = len(rights[after])
            first = base[after] + lefts[after][phone] * span
            for node in range(base[o] + rights[o][seen[after]], stop, width):
                for target in range(first, first + span):
                    src.append(node)
                    dst.append(target)
                    logps.append(logp)
    return src, dst, logps


def _predecessors(
    states: int, src: list[int], dst: list[int], logps: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Return ``preds`` and ``pred_logp`` of the states from the edges between nodes."""
    target = np.array(dst, np.int64)
    order = np.argsort(target, kind="stable")
    target = target[order]
    count = np.bincount(target, minlength=states // STATES)
    rank = np.arange(len(target)) - np.repeat(np.cumsum(count) - count, count)
    width = max(1, int(count.max()))
    preds = np.full((states, width), -1, np.int32)
    pred_logp = np.full((states, width), -np.inf, np.float32)
    for s in range(1, STATES):
        preds[s::STATES, 0] = np.arange(s - 1, states, STATES)
        pred_logp[s::STATES, 0] = LOG_NEXT
    preds[STATES * target, rank] = STATES * np.array(src, np.int64)[order] + STATES - 1
    pred_logp[STATES * target, rank] = np.array(logps, np.float64)[order] + LOG_NEXT
    return preds, pred_logp


def to_segmentation(graph: Graph, path: np.ndarray, loglik: float) -> Segmentation:
    """Cut a path in phones.

    Args:
        graph: The graph searched.
        path: ``(T,)`` states from a start to a final one.
        loglik: Its natural log-likelihood.
    """
    edges = np.flatnonzero(np.diff(path)) + 1
    starts = np.concatenate([[0], edges])
    durations = np.diff(np.concatenate([starts, [len(path)]])).astype(np.int32)
    heads = path[starts[::STATES]]
    return Segmentation(
        graph.phone[heads], graph.word[heads], durations.reshape(-1, STATES), float(loglik)
    )
