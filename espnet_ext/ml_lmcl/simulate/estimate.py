# SPDX-License-Identifier: Apache-2.0
"""Counting a confusion model from paired transcripts."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.ml_lmcl.simulate.alignment import Block, align
from espnet_ext.ml_lmcl.simulate.clustering import fit
from espnet_ext.ml_lmcl.simulate.confusion import KINDS, SOUND, ConfusionModel
from espnet_ext.ml_lmcl.simulate.fluency import END, START, Bigrams, count_bigrams, fit_weight
from espnet_ext.ml_lmcl.simulate.phones import Convert, Inventory, PhoneTable, converter
from espnet_ext.text.normalize import normalize

_SAMPLE = 300  # substitutions that tell how much a word's sound and its frequency weigh
_SAMPLE_FLUENCY = 100
_COMMON = (0.0, 0.25, 0.5, 0.75, 1.0)
_SEVERAL = (-1.0, 0.0, 1.0, 2.0, 3.0)
_SHARP = (2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 20.0, 30.0)

# A word met while walking along an alignment: the word, what stood before it, what became of it.
Step = tuple[str, str, str]


def estimate(
    manual: Mapping[str, str],
    asr: Mapping[str, str],
    phones: tuple[str, Convert] | None = None,
    mode: str = "none",
) -> ConfusionModel:
    """Estimate a confusion model.

    Args:
        manual: Utterance id to manual transcript.
        asr: Utterance id to ASR transcript, of the same utterances; may be empty.
        phones: Source and function of
            :func:`~espnet_ext.ml_lmcl.simulate.phones.converter`; None takes its default.
        mode: Normalisation of both sides, see :func:`~espnet_ext.text.normalize.normalize`.

    Raises:
        DataError: An utterance stands on one side only, or there is no word to learn from.
    """
    check_same(manual, asr)
    pairs = [(normalize(manual[u], mode).split(), normalize(asr[u], mode).split()) for u in manual]
    pairs = sorted(p for p in pairs if p[0])
    heard = [p for p in pairs if p[1]]
    if not heard:
        raise DataError("no pair has words on both sides", "transcripts", "check the normalisation")
    source, convert = phones or converter()
    model = ConfusionModel(
        mode, PhoneTable(source, convert({w for p in pairs for x in p for w in x}))
    )
    model.blank = [len(pairs), len(pairs) - len(heard)]
    walks = [(ref, align(ref, hyp, model.table)) for ref, hyp in heard]
    steps = [_count(ref, blocks, model) for ref, blocks in walks]
    for _, hyp in heard:
        model.vocabulary.update(hyp)
    _count_pairs(walks, model)
    model.set_rates()
    model.clustering = fit(*_arrays(steps, model))
    model.sound = {kind: _weights(model, kind) for kind in KINDS}
    model.bigrams = count_bigrams(hyp for _, hyp in heard)
    model.fluency = _fluency(model, walks)
    return model


def check_same(manual: Mapping[str, str], asr: Mapping[str, str]) -> None:
    """Raise DataError, naming utterances, unless both tables have the same utterances."""
    for one, other, name in ((manual, asr, "ASR"), (asr, manual, "manual")):
        lacking = sorted(one.keys() - other.keys())
        if lacking:
            raise DataError(
                f"{len(lacking)} of {len(one)} utterances have no {name} transcript",
                ", ".join(lacking[:5]) + (", ..." if len(lacking) > 5 else ""),
                "both tables need the same utterances; an empty transcript still needs its line",
            )


def _count(ref: Sequence[str], blocks: Sequence[Block], model: ConfusionModel) -> list[Step]:
    """Add one aligned pair to the counts; return the words met in order."""
    steps: list[Step] = []
    before = "ok"
    for block in blocks:
        text = " ".join(block.hyp)
        if block.start == block.end:
            model.insertions[text] += 1
            model.after[before][1] += 1
            continue
        word, now = ref[block.start], "ok" if block.equal else "sub" if text else "del"
        row = model.words.setdefault(word, [0, 0])
        row[0] += 1
        model.after[before][0] += 1
        if not block.equal:
            source = " ".join(ref[block.start : block.end])
            row[1] += 1
            model.events.setdefault(source, Counter())[text] += 1
            if len(block.hyp) > 1:
                model.vocabulary[text] += 1
            if block.end < len(ref) or block.end - block.start > 1:
                model.errors[0] += 1
            if block.end - block.start > 1:
                model.errors[1] += 1
            else:
                model.after[before][2] += 1
                model.after[before][3] += now == "del"
        steps.append((word, before, now))
        before = now
    model.after[before][0] += 1
    return steps


def _count_pairs(walks: Sequence[tuple[list[str], list[Block]]], model: ConfusionModel) -> None:
    """Count, for pairs of words that were replaced as one, all errors at their first word."""
    replaced = {source for source in model.events if " " in source}
    for ref, blocks in walks:
        for block in blocks:
            pair = " ".join(ref[block.start : block.start + 2])
            if block.end > block.start and not block.equal and pair in replaced:
                model.pairs[pair] = model.pairs.get(pair, 0) + 1


def _arrays(steps: Sequence[list[Step]], model: ConfusionModel) -> tuple[np.ndarray, ...]:
    """Return utterance, hazard, after_error and error of each word met; see clustering.fit.

    A word's hazard is that of its other occurrences: with its own, every error would look expected.
    """
    rows = [
        (u, model.hazard(word, left_out=(1, now != "ok")), before != "ok", now != "ok")
        for u, walk in enumerate(steps)
        for word, before, now in walk
    ]
    utterance, hazard, after_error, error = zip(*rows, strict=True)
    flags = np.array(after_error, bool), np.array(error, bool)
    return np.array(utterance), np.array(hazard), *flags


def _weights(model: ConfusionModel, kind: str) -> list[float]:
    """Return the weights ``ConfusionModel.sound`` under which the substitutions are likeliest."""
    rows = [(s, row) for s, row in sorted(model.events.items()) if (" " in s) == (kind == "pair")]
    seen = [(s, t, n) for s, row in rows for t, n in sorted(row.items()) if t]
    if not seen:
        return SOUND
    chosen = np.random.default_rng(0).permutation(len(seen))[:_SAMPLE]
    sources, targets, counts = zip(*(seen[i] for i in chosen), strict=True)
    inventory = Inventory(model.table, sorted(model.vocabulary))
    place = {v: i for i, v in enumerate(inventory.phrases)}
    far = inventory.distances(sources)  # (S, V)
    for row, source in zip(far, sources, strict=True):
        if source in place:
            row[place[source]] = np.inf  # a word does not stand for itself
    usual = np.log(np.array([model.vocabulary[v] for v in inventory.phrases], np.float32))
    several = np.array([" " in v for v in inventory.phrases])
    at = np.arange(len(chosen)), np.array([place[t] for t in targets])
    grid: dict[tuple[float, float, float], float] = {}
    for common, sharp in itertools.product(_COMMON, _SHARP):
        score = common * usual - sharp * far
        weight = np.exp(score)
        one, more = weight[:, ~several].sum(axis=1), weight[:, several].sum(axis=1)
        for offset in _SEVERAL:
            log_p = score[at] + offset * several[at[1]] - np.log(one + np.exp(offset) * more)
            grid[common, sharp, offset] = float(log_p @ np.array(counts))
    return list(max(grid, key=grid.__getitem__))


def _fluency(model: ConfusionModel, walks: Sequence[tuple[list[str], list[Block]]]) -> float:
    """Return the weight ``ConfusionModel.fluency`` under which the substitutions are likeliest."""
    seen = []
    for ref, blocks in walks:
        hyp = [START, *(w for b in blocks for w in b.hyp), END]
        end = 1
        for block in blocks:
            start, end = end, end + len(block.hyp)
            if block.end == block.start + 1 and block.hyp and not block.equal:
                seen.append((ref[block.start], " ".join(block.hyp), hyp[start - 1], hyp[end]))
    if not seen:
        return 0.0
    chosen = np.random.default_rng(0).permutation(len(seen))[:_SAMPLE_FLUENCY]
    sources, targets, before, behind = zip(*(seen[i] for i in chosen), strict=True)
    inventory = Inventory(model.table, sorted(model.vocabulary))
    place = {v: i for i, v in enumerate(inventory.phrases)}
    usual, sharp = model.usual(inventory.phrases, "word"), model.sound["word"][1]
    scores = usual - sharp * inventory.distances(sources)
    for row, source in zip(scores, sources, strict=True):
        if source in place:
            row[place[source]] = -np.inf
    at = (place[t] for t in targets)
    choices = zip(scores, at, before, behind, strict=True)
    return fit_weight(Bigrams(model.bigrams), inventory.phrases, choices)
