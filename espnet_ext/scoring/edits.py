# SPDX-License-Identifier: Apache-2.0
"""Edits of words and characters between references and hypotheses, by jiwer.

Conventions:
    * Levenshtein alignment with cost 1 for each substitution, deletion and insertion, so the error
      count is the smallest possible. (NIST sclite aligns with costs 4/3/3; its split into
      S/D/I may differ, and its sum may be higher.)
    * Texts are split as ESPnet's ``tokenize_text`` does: any run of white space is one
      boundary. Characters are Unicode code points; the space between two words is one
      of them (ESPnet's ``<space>``), a space at either end is not.
    * Nothing else is normalised: case, punctuation and Unicode forms count as they are.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import jiwer
import numpy as np
from jiwer.process import AlignmentChunk, WordOutput

from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.scoring.paired import ids_sha256, same_utterances

Unit = Literal["word", "char"]


@dataclass(frozen=True, eq=False)
class Score:
    """Errors of one hypothesis set, per utterance and in total.

    Attributes:
        unit: ``word`` or ``char``.
        utt_ids: The ``U`` utterance ids in byte order; the arrays follow it.
        substitutions: ``(U,)`` int64.
        deletions: ``(U,)`` int64.
        insertions: ``(U,)`` int64.
        ref_len: Units in the reference, ``(U,)`` int64.
    """

    unit: Unit
    utt_ids: tuple[str, ...]
    substitutions: np.ndarray
    deletions: np.ndarray
    insertions: np.ndarray
    ref_len: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Errors of each utterance, ``(U,)`` int64."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Total error rate in percent.

        Raises:
            DataError: All references are empty, so the rate has no denominator.
        """
        if not self.ref_len.sum():
            raise DataError("all references are empty: an error rate is not defined", "references")
        return 100.0 * float(self.errors.sum()) / float(self.ref_len.sum())

    @property
    def ids_sha256(self) -> str:
        """SHA-256 of the utterance ids, one a line: tells whether two scores can be paired."""
        return ids_sha256(self.utt_ids)

    def totals(self) -> dict[str, float | int]:
        """Return ``rate`` (percent), ``sub``, ``del``, ``ins`` and ``ref``."""
        return {
            "rate": self.rate,
            "sub": int(self.substitutions.sum()),
            "del": int(self.deletions.sum()),
            "ins": int(self.insertions.sum()),
            "ref": int(self.ref_len.sum()),
        }


def score_sets(refs: Mapping[str, str], hyps: Mapping[str, str], unit: Unit = "word") -> Score:
    """Score one set of hypotheses.

    Args:
        refs: Utterance id to reference text; a text may be empty (its insertions count).
        hyps: Utterance id to hypothesis, for exactly the same utterances; may be empty.
        unit: What is counted, ``word`` or ``char``.

    Raises:
        DataError: There is no utterance, or an utterance stands on one side only.
        UsageError: ``unit`` is unknown.
    """
    utt_ids = same_utterances(refs, hyps)
    rows = count_edits([refs[u] for u in utt_ids], [hyps[u] for u in utt_ids], unit)
    _, ref_len, sub, dele, ins = rows.T
    return Score(unit, tuple(utt_ids), sub, dele, ins, ref_len)


def count_edits(refs: Sequence[str], hyps: Sequence[str], unit: Unit) -> np.ndarray:
    """Count the edits of each of U utterances.

    Returns:
        ``(U, 5)`` int64: all edits, units of the reference, substitutions, deletions, insertions.

    Raises:
        UsageError: ``unit`` is unknown.
    """
    out = _align(refs, hyps, unit)
    sub, dele, ins = np.zeros((3, len(refs)), dtype=np.int64)
    for i, chunks in enumerate(out.alignments):
        for c in chunks:
            if c.type == "substitute":
                sub[i] += c.ref_end_idx - c.ref_start_idx
            elif c.type == "delete":
                dele[i] += c.ref_end_idx - c.ref_start_idx
            elif c.type == "insert":
                ins[i] += c.hyp_end_idx - c.hyp_start_idx
    ref_len = np.array([len(r) for r in out.references], dtype=np.int64)
    return np.stack([sub + dele + ins, ref_len, sub, dele, ins], axis=1)


def aligned_units(ref: str, hyp: str, unit: Unit = "word") -> list[tuple[str | None, str | None]]:
    """Return the aligned units of reference and hypothesis; ``None`` stands for nothing."""
    out = _align([ref], [hyp], unit)
    sides = out.references[0], out.hypotheses[0]
    return [pair for chunk in out.alignments[0] for pair in _pairs(chunk, *sides)]


def mark(ref: str | None, hyp: str | None) -> str:
    """Return S, D or I for two aligned units; empty where they are equal."""
    return "D" if hyp is None else "I" if ref is None else "" if ref == hyp else "S"


def alignment_lines(ref: str, hyp: str, unit: Unit = "word") -> list[str]:
    """Return three lines of equal column width for a person: ``REF:``, ``HYP:`` and S/D/I marks.

    A missing unit is drawn as ``***``; a space among characters as ``<space>``.
    """
    columns = [("REF:", "HYP:", "")]
    columns += [(_shown(r), _shown(h), mark(r, h)) for r, h in aligned_units(ref, hyp, unit)]
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return [
        " ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def confusions(
    refs: Mapping[str, str], hyps: Mapping[str, str], unit: Unit = "word", top: int = 20
) -> list[tuple[str, str, int]]:
    """Return the ``top`` most frequent substitutions as ``(reference, hypothesis, count)``.

    Equal counts are in alphabetical order.

    Raises:
        DataError: See :func:`score_sets`.
    """
    utt_ids = same_utterances(refs, hyps)
    out = _align([refs[u] for u in utt_ids], [hyps[u] for u in utt_ids], unit)
    counts: Counter[tuple[str, str]] = Counter()
    for chunks, ref, hyp in zip(out.alignments, out.references, out.hypotheses, strict=True):
        for chunk in chunks:
            if chunk.type == "substitute":
                counts.update((_shown(r), _shown(h)) for r, h in _pairs(chunk, ref, hyp))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(r, h, n) for (r, h), n in ordered[:top]]


def _align(
    refs: Sequence[str], hyps: Sequence[str], unit: Unit
) -> WordOutput | jiwer.CharacterOutput:
    if unit not in get_args(Unit):
        raise UsageError(f"unknown unit '{unit}'", "unit", nearest(str(unit), get_args(Unit)))
    process = jiwer.process_words if unit == "word" else jiwer.process_characters
    return process([" ".join(r.split()) for r in refs], [" ".join(h.split()) for h in hyps])


def _pairs(
    chunk: AlignmentChunk, ref: list[str], hyp: list[str]
) -> Iterable[tuple[str | None, str | None]]:
    """Yield the aligned units of one chunk; ``None`` stands for nothing."""
    r = ref[chunk.ref_start_idx : chunk.ref_end_idx]
    h = hyp[chunk.hyp_start_idx : chunk.hyp_end_idx]
    length = max(len(r), len(h))
    pad: list[None] = [None]
    return zip(r + pad * (length - len(r)), h + pad * (length - len(h)), strict=True)


def _shown(unit: str | None) -> str:
    return "***" if unit is None else "<space>" if unit == " " else unit
