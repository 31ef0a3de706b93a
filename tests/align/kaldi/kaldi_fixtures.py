# SPDX-License-Identifier: Apache-2.0
"""A toy Kaldi system (triphones, five-state silence), written by the public file formats."""

import gzip
import struct
from pathlib import Path

import numpy as np

SIL, AH, N = 1, 6, 10  # AH is 6..9 (_B _E _I _S), N is 10..13, SIL_B.. are 2..5
NAMES = ["<eps>", "SIL", *(f"{p}_{s}" for p in ("SIL", "AH", "N") for s in "BEIS"), "#0"]
PHONES = range(1, 14)
SILENCES = range(1, 6)

SIL5 = [
    (0, [(0, 0.25), (1, 0.25), (2, 0.25), (3, 0.25)]),
    *((s, [(t, 0.25) for t in (1, 2, 3, 4)]) for s in (1, 2, 3)),
    (4, [(4, 0.75), (5, 0.25)]),
    (-1, []),
]
SPEECH3 = [*((s, [(s, 0.75), (s + 1, 0.25)]) for s in range(3)), (-1, [])]
CHAIN = [((0, 1), [(0, 0.5), (1, 0.5)]), ((-1, -1), [])]
HMMS = {p: SIL5 if p in SILENCES else SPEECH3 for p in PHONES}


class Out:
    """Collects what Kaldi's writers would write."""

    def __init__(self, binary: bool):
        self.binary, self.bytes = binary, b"\0B" if binary else b""

    def tokens(self, *tokens: str) -> None:
        for t in tokens:
            self.bytes += t.encode() + b" "

    def ints(self, *values: int, unsigned: bool = False) -> None:
        for v in values:
            size = 252 if unsigned else 4
            self.bytes += struct.pack("<Bi", size, v) if self.binary else b"%d " % v

    def real(self, value: float) -> None:
        self.bytes += struct.pack("<bf", 4, value) if self.binary else b"%.6g " % value

    def int_vector(self, values) -> None:
        values = list(values)
        if self.binary:
            self.bytes += struct.pack(f"<bi{len(values)}i", 4, len(values), *values)
        else:
            self.tokens("[", *map(str, values), "]\n")

    def array(self, values: np.ndarray) -> None:
        values = np.asarray(values, "<f4")
        if self.binary:
            self.tokens("FV" if values.ndim == 1 else "FM")
            self.ints(*values.shape)
            self.bytes += values.tobytes()
        else:
            rows = "\n".join(" ".join(f"{v:.6g}" for v in row) for row in np.atleast_2d(values))
            self.bytes += f" [ {rows} ]\n".encode()


def pdf_of(left: int, phone: int, state: int) -> int:
    """The tied states that the tree gives: AH has two sets, by silence on its left."""
    if phone in SILENCES:
        return state
    if phone >= N:
        return 11 + state
    return (5 if left in SILENCES or left == 0 else 8) + state


def tree(binary: bool) -> bytes:
    out = Out(binary)

    def table(first: int, states: int) -> None:
        out.tokens("TE")
        out.ints(-1)
        out.ints(states, unsigned=True)
        out.tokens("(")
        for s in range(states):
            out.tokens("CE")
            out.ints(first + s)
        out.tokens(")")

    out.tokens("ContextDependency")
    out.ints(3, 1)
    out.tokens("ToPdf", "TE")
    out.ints(1)
    out.ints(14, unsigned=True)
    out.tokens("(", "NULL")
    for phone in PHONES:
        if phone in SILENCES or phone >= N:
            table(pdf_of(0, phone, 0), 5 if phone in SILENCES else 3)
            continue
        out.tokens("SE")
        out.ints(0)
        out.int_vector([0, *SILENCES])
        out.tokens("{")
        table(5, 3)
        table(8, 3)
        out.tokens("}")
    out.tokens(")", "EndContextDependency")
    return out.bytes


def tuples() -> list[tuple[int, int, int]]:
    rows = {(p, s, pdf_of(left, p, s)) for p in PHONES for left in (SIL, N)
            for s in range(len(HMMS[p]) - 1)}  # fmt: skip
    return sorted(rows)


def topology(out: Out, hmms: dict[int, list]) -> None:
    kinds = []
    for hmm in hmms.values():
        if hmm not in kinds:
            kinds.append(hmm)
    out.tokens("<Topology>")
    if out.binary:
        chain = isinstance(kinds[0][0][0], tuple)
        out.int_vector(hmms)
        out.int_vector([kinds.index(hmms[p]) if p in hmms else -1 for p in range(max(hmms) + 1)])
        out.ints(*([-1] if chain else []), len(kinds))
        for hmm in kinds:
            out.ints(len(hmm))
            for pdf_class, arcs in hmm:
                out.ints(*(pdf_class if chain else [pdf_class]), len(arcs))
                for target, prob in arcs:
                    out.ints(target)
                    out.real(prob)
    for hmm in [] if out.binary else kinds:
        out.tokens("<TopologyEntry>\n", "<ForPhones>\n", *(str(p) for p in hmms if hmms[p] == hmm))
        out.tokens("\n</ForPhones>\n")
        for number, (pdf_class, arcs) in enumerate(hmm):
            out.tokens("<State>", str(number))
            if isinstance(pdf_class, tuple) and pdf_class[0] >= 0:
                out.tokens("<ForwardPdfClass>", str(pdf_class[0]))
                out.tokens("<SelfLoopPdfClass>", str(pdf_class[1]))
            elif pdf_class != -1 and not isinstance(pdf_class, tuple):
                out.tokens("<PdfClass>", str(pdf_class))
            for target, prob in arcs:
                out.tokens("<Transition>", str(target), f"{prob:g}")
            out.tokens("</State>\n")
        out.tokens("</TopologyEntry>\n")
    out.tokens("</Topology>")


def model(binary: bool, hmms=HMMS, rows=None, gmm: bool = True) -> bytes:
    out, rows = Out(binary), tuples() if rows is None else rows
    kind = "Triples" if len(rows[0]) == 3 else "Tuples"
    out.tokens("<TransitionModel>")
    topology(out, hmms)
    out.tokens(f"<{kind}>")
    out.ints(len(rows))
    for row in rows:
        out.ints(*row)
    out.tokens(f"</{kind}>", "<LogProbs>")
    out.array(np.log([1.0, *(p for r in rows for _, p in hmms[r[0]][r[1]][1])]))
    out.tokens("</LogProbs>", "</TransitionModel>")
    if gmm:
        out.tokens("<DIMENSION>")
        out.ints(2)
        out.tokens("<NUMPDFS>")
        out.ints(14)
        for pdf in range(14):
            mixtures = 1 + pdf % 2
            out.tokens("<DiagGMM>", "<GCONSTS>")
            out.array(np.zeros(mixtures))
            out.tokens("<WEIGHTS>")
            out.array(np.full(mixtures, 1 / mixtures))
            for part in ("<MEANS_INVVARS>", "<INV_VARS>"):
                out.tokens(part)
                out.array(np.ones((mixtures, 2)))
            out.tokens("</DiagGMM>")
    else:
        out.bytes += b"<Nnet3> \n" + bytes(range(200))
    return out.bytes


def path(phones: list[int], rng: np.random.Generator, reordered: bool = True):
    """Walk through the HMMs of ``phones``.

    Returns:
        Transition ids ``(T,)``, pdfs ``(T,)``, bounds of the phones ``(P + 1,)``.
    """
    first, count = {}, 1
    for row in tuples():
        first[row] = count
        count += len(HMMS[row[0]][row[1]][1])
    ids, pdfs, bounds = [], [], [0]
    for left, phone in zip([0, *phones], phones, strict=False):
        state = 0
        while state < len(HMMS[phone]) - 1:
            pdf = pdf_of(left, phone, state)
            arcs = [t for t, _ in HMMS[phone][state][1]]
            target = rng.choice([t for t in arcs if t != state])
            start = first[phone, state, pdf]
            loops = [start + arcs.index(state)] * rng.integers(0, 4)
            step = [start + arcs.index(target)]
            visit = step + loops if reordered else loops + step
            ids += visit
            pdfs += [pdf] * len(visit)
            state = target
        bounds.append(len(ids))
    return np.array(ids), np.array(pdfs), np.array(bounds)


def archive(rows: dict[str, np.ndarray], binary: bool) -> bytes:
    """Return an archive of integer vectors."""
    raw = b""
    for utt, ids in rows.items():
        raw += utt.encode() + b" "
        if binary:
            raw += b"\0B" + struct.pack("<bi", 4, len(ids))
            raw += b"".join(struct.pack("<bi", 4, i) for i in ids)
        else:
            raw += " ".join(map(str, ids)).encode() + b" \n"
    return raw


WORDS = {  # word -> phones
    "an": [AH + 0, N + 1], "on": [AH, AH + 2, N + 1], "a": [AH + 3],
}  # fmt: skip


def experiment(folder: Path, jobs: int = 2, binary: bool = True, reordered: bool = True):
    """Write an experiment; return ``{utterance: (words, phones, ids, pdfs, bounds)}``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "35.mdl").write_bytes(model(binary))
    (folder / "final.mdl").symlink_to("35.mdl")
    (folder / "tree").write_bytes(tree(binary))
    (folder / "num_jobs").write_text(f"{jobs}\n")
    (folder / "phones.txt").write_text("".join(f"{n} {i}\n" for i, n in enumerate(NAMES)))
    rng, truth = np.random.default_rng(1), {}
    for job in range(1, jobs + 1):
        rows = {}
        for n in range(3):
            words = [str(w) for w in rng.choice(list(WORDS), 4)]
            phones = [SIL]
            for w in words:
                phones += WORDS[w] + [SIL] * int(rng.integers(0, 2))
            ids, pdfs, bounds = path(phones, rng, reordered)
            rows[f"j{job}-u{n}"] = ids
            truth[f"j{job}-u{n}"] = (words, phones, ids, pdfs, bounds)
        data = archive(rows, binary)
        (folder / f"ali.{job}.gz").write_bytes(gzip.compress(data))
    return truth


def text_of(truth: dict, folder: Path) -> Path:
    """Write the transcripts."""
    path = folder / "text"
    path.write_text("".join(f"{u} {' '.join(row[0])}\n" for u, row in truth.items()))
    return path
