# SPDX-License-Identifier: Apache-2.0
"""The transition model of Kaldi's ``*.mdl``: what each transition id stands for.

A transition state is a tuple (phone, HMM state, pdf forward, pdf of the self-loop). They are
numbered from 1 as they stand in the file; transition ids count from 1 through the transitions of
each state in the order of the topology.

Source: the file format of Kaldi's hmm/transition-model and hmm/hmm-topology, ``<Triples>`` and
``<Tuples>`` (chain), old and new topologies.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.align.kaldi.io import TokenReader, open_stream
from espnet_ext.errors import DataError

NO_PDF = -1


@dataclass(frozen=True)
class HmmState:
    """A state of a topology; a state without pdf-class (-1) emits nothing."""

    forward_class: int
    self_loop_class: int
    transitions: tuple[tuple[int, float], ...]  # (state, probability)


Topology = dict[int, tuple[HmmState, ...]]  # by phone; the last state is final


@dataclass(frozen=True)
class TransitionModel:
    """What transition ids stand for; arrays are indexed by transition id, entry 0 is unused.

    Args:
        topology: HMM of each phone.
        tuples: ``(S, 4)`` phone, HMM state, pdf forward, pdf of the self-loop.
        log_probs: ``(I + 1,)`` log transition probabilities (natural logarithm).
        state: ``(I + 1,)`` transition state, from 1.
        target: ``(I + 1,)`` HMM state the transition leads to.
        pdf, phone, hmm_state: ``(I + 1,)``.
        is_self_loop, is_final: ``(I + 1,)`` bool; final leads out of the phone.
    """

    topology: Topology
    tuples: np.ndarray
    log_probs: np.ndarray
    state: np.ndarray
    target: np.ndarray
    pdf: np.ndarray
    phone: np.ndarray
    hmm_state: np.ndarray
    is_self_loop: np.ndarray
    is_final: np.ndarray

    @property
    def num_transition_ids(self) -> int:
        return len(self.state) - 1

    @property
    def num_pdfs(self) -> int:
        return int(self.tuples[:, 2:].max()) + 1

    @property
    def phones(self) -> list[int]:
        """Phone ids of the topology."""
        return sorted(self.topology)

    def starts_phone(self) -> np.ndarray:
        """Return ``(I + 1,)`` bool: a phone can begin in this transition's state."""
        silent = np.array(
            [0, *(self.topology[int(p)][0].forward_class == NO_PDF for p in self.phone[1:])], bool
        )
        return (self.hmm_state == 0) | silent

    def silent_target(self) -> np.ndarray:
        """Return ``(I + 1,)`` bool: the transition leads to a state without pdf."""
        pairs = zip(self.phone[1:], self.target[1:], strict=True)
        silent = (self.topology[int(p)][int(t)].forward_class == NO_PDF for p, t in pairs)
        return np.array([False, *silent], bool)


@dataclass(frozen=True)
class KaldiModel:
    """A model file; ``gaussians`` holds the number per pdf, None if it is not a GMM."""

    transitions: TransitionModel
    gaussians: np.ndarray | None

    @property
    def num_pdfs(self) -> int:
        """Tied states of the acoustic model."""
        own = 0 if self.gaussians is None else len(self.gaussians)
        return max(own, self.transitions.num_pdfs)


def read_model(path: Path | str) -> KaldiModel:
    """Read a model file, binary or text; networks behind the transition model are not read.

    Raises:
        DataError: Missing, truncated, or no Kaldi model.
    """
    with open_stream(path) as stream:
        r = TokenReader(stream, path)
        r.expect("<TransitionModel>")
        topology = _read_topology(r)
        kind = r.expect("<Triples>", "<Tuples>")
        width = 3 if kind == "<Triples>" else 4
        tuples = _read_tuples(r, r.integer(), width)
        r.expect(kind.replace("<", "</"))
        r.expect("<LogProbs>")
        log_probs = r.reals()
        r.expect("</LogProbs>")
        r.expect("</TransitionModel>")
        transitions = number_transitions(topology, tuples, log_probs, path)
        try:
            is_gmm = r.peek_token() == "<DIMENSION>"
        except DataError:
            is_gmm = False  # a network of any kind follows
        return KaldiModel(transitions, _count_gaussians(r) if is_gmm else None)


def _read_tuples(r: TokenReader, size: int, width: int) -> np.ndarray:
    rows = [[r.integer() for _ in range(width)] for _ in range(size)]
    if not rows:
        raise r.error("the model has no transition states")
    tuples = np.asarray(rows, np.int32)
    return tuples if width == 4 else tuples[:, [0, 1, 2, 2]]


def number_transitions(
    topology: Topology, tuples: np.ndarray, log_probs: np.ndarray, where: Path | str
) -> TransitionModel:
    """Number the transitions of all transition states.

    Raises:
        DataError: A tuple is not in the topology, or the number of probabilities differs.
    """
    columns: list[list[int]] = [[0] * 7]
    for number, (phone, hmm_state, forward, loop) in enumerate(tuples.tolist(), 1):
        if phone not in topology or not 0 <= hmm_state < len(topology[phone]) - 1:
            raise DataError(f"state {hmm_state} of phone {phone} is not in the topology", where)
        final = len(topology[phone]) - 1
        for target, _ in topology[phone][hmm_state].transitions:
            is_loop = target == hmm_state
            pdf = loop if is_loop else forward
            columns.append([number, target, pdf, phone, hmm_state, is_loop, target == final])
    table = np.asarray(columns, np.int32).T
    if len(log_probs) != table.shape[1]:
        raise DataError(
            f"{table.shape[1] - 1} transition ids but {len(log_probs) - 1} probabilities", where
        )
    return TransitionModel(
        topology, tuples, log_probs, *table[:5], table[5].astype(bool), table[6].astype(bool)
    )


def _read_topology(r: TokenReader) -> Topology:
    r.expect("<Topology>")
    return _read_binary_topology(r) if r.binary else _read_text_topology(r)


def _read_text_topology(r: TokenReader) -> Topology:
    topology: Topology = {}
    while r.expect("<TopologyEntry>", "</Topology>") == "<TopologyEntry>":
        phones, states = [], []
        r.expect("<ForPhones>")
        while r.peek_token() != "</ForPhones>":
            phones.append(r.integer())
        r.token()
        while r.expect("<State>", "</TopologyEntry>") == "<State>":
            if r.integer() != len(states):
                raise r.error("the states of a topology are not in order")
            states.append(_read_text_state(r))
        _add_entry(r, topology, phones, tuple(states))
    return topology


def _read_text_state(r: TokenReader) -> HmmState:
    forward = loop = NO_PDF
    transitions = []
    while (tag := r.token()) != "</State>":
        if tag == "<PdfClass>":
            forward = loop = r.integer()
        elif tag == "<ForwardPdfClass>":
            forward = r.integer()
        elif tag == "<SelfLoopPdfClass>":
            loop = r.integer()
        elif tag == "<Transition>":
            transitions.append((r.integer(), r.real()))
        else:
            raise r.error(f"unknown part of a topology: {tag!r}")
    return HmmState(forward, loop, tuple(transitions))


def _read_binary_topology(r: TokenReader) -> Topology:
    topology: Topology = {}
    phones, entry_of = r.integers(), r.integers()
    size = r.integer()
    has_loop_class = size == -1  # the mark of topologies whose self-loops have pdfs of their own
    if has_loop_class:
        size = r.integer()
    for entry in range(size):
        states = []
        for _ in range(r.integer()):
            forward = r.integer()
            loop = r.integer() if has_loop_class else forward
            arcs = tuple((r.integer(), r.real()) for _ in range(r.integer()))
            states.append(HmmState(forward, loop, arcs))
        mine = [p for p in phones if 0 <= p < len(entry_of) and entry_of[p] == entry]
        _add_entry(r, topology, mine, tuple(states))
    r.expect("</Topology>")
    return topology


def _add_entry(
    r: TokenReader, topology: Topology, phones: list[int], states: tuple[HmmState, ...]
) -> None:
    targets = [t for s in states for t, _ in s.transitions]
    if len(states) < 2 or states[-1].transitions or any(not 0 <= t < len(states) for t in targets):
        raise r.error("a topology needs emitting states and a final one without transitions")
    if set(phones) & set(topology) or any(p <= 0 for p in phones):
        raise r.error("a phone stands in two topologies, or has a number below 1")
    topology |= dict.fromkeys(phones, states)


def _count_gaussians(r: TokenReader) -> np.ndarray:
    r.expect("<DIMENSION>")
    r.integer()
    r.expect("<NUMPDFS>")
    counts = []
    for _ in range(r.integer()):
        r.expect("<DiagGMM>", "<DiagGMMBegin>")
        while (tag := r.token()) not in ("</DiagGMM>", "<DiagGMMEnd>"):
            if tag in ("<GCONSTS>", "<WEIGHTS>"):
                values = r.reals()
                if tag == "<WEIGHTS>":
                    counts.append(len(values))
            elif tag in ("<MEANS_INVVARS>", "<INV_VARS>"):
                r.matrix_rows()
            else:
                raise r.error(f"unknown part of a Gaussian mixture: {tag!r}")
    return np.asarray(counts, np.int32)
