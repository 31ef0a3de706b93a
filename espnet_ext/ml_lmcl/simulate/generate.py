# SPDX-License-Identifier: Apache-2.0
"""ASR-like text from manual text by a confusion model, to a target word error rate.

Every utterance has a random stream of its own, drawn from the seed and its id. The stream is the
same at every scale of the error hazards, so that a higher scale adds errors to those there are;
the scale at which the corpus has the target rate is found by bisection. The rate is measured on
the text made, against lower-cased references split at white space.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from math import exp, log1p

import numpy as np
from rapidfuzz.distance import Levenshtein

from espnet_ext.data.synth.room import utterance_rng
from espnet_ext.errors import DataError, UsageError
from espnet_ext.ml_lmcl.simulate.confusion import KINDS, STATES, ConfusionModel
from espnet_ext.ml_lmcl.simulate.fluency import END, START, Bigrams
from espnet_ext.ml_lmcl.simulate.phones import Convert, Inventory, PhoneTable, same_converter
from espnet_ext.scoring.edits import Score, score_sets
from espnet_ext.text.normalize import normalize

CLOSE = 0.02  # percent points within which the search stops
_HALVINGS, _LARGEST = 40, 2.0**12
_DRAWS = 6  # uniform numbers a word: wrong?, pair?, deleted?, which?, insertion before?, which?
_OWN = 3.0  # occurrences that words of similar sound count for beside a word's own confusions
_NEAREST = 40

Weights = dict[str, float]  # what can stand for a phrase
Table = tuple[list[str], list[float]]  # the same in order, and cumulative probabilities


@dataclass(frozen=True)
class Simulated:
    """Text made, and what was measured on it.

    Attributes:
        texts: Utterance id to ASR-like text.
        score: Word errors against the normalised manual text, by jiwer.
        scale: Factor on the hazards of the pairs that the model was estimated from.
    """

    texts: dict[str, str]
    score: Score
    scale: float


class Simulator:
    """Makes texts of one corpus at any error rate.

    Args:
        model: From :func:`~espnet_ext.ml_lmcl.simulate.estimate.estimate`.
        manual: Utterance id to manual text; empty text stays empty.
        seed: Decides, with the utterance's id, all random numbers.
        convert: Gives the phones of words that the model has not seen, of the model's source
            (see :func:`~espnet_ext.ml_lmcl.simulate.phones.same_converter`); None takes the
            synthesiser's if the model has those, else such words are compared by their letters.

    Raises:
        DataError: The manual text has no word.
    """

    def __init__(
        self,
        model: ConfusionModel,
        manual: Mapping[str, str],
        seed: int = 1,
        convert: Convert | None = None,
    ):
        self.words = {u: normalize(manual[u], model.normalize).split() for u in sorted(manual)}
        self.refs = {u: " ".join(ws).lower() for u, ws in self.words.items()}
        known = {w for ws in self.words.values() for w in ws}
        if not known:
            raise DataError("the manual text has no words", "text", "give text")
        self.unseen = sorted(known - model.words.keys())
        convert = convert or same_converter(model.table.source) or (lambda words: {})
        phones = model.table.phones
        phones = phones | convert([w for w in self.unseen if w not in phones])
        self.model = model = replace(model, table=PhoneTable(model.table.source, phones))
        self._hazard = {w: model.hazard(w) for w in known}
        self._inventory = Inventory(model.table, sorted(model.vocabulary))
        self._usual = {k: model.usual(self._inventory.phrases, k) for k in KINDS}
        self._bigrams = Bigrams(model.bigrams)
        self._nearest: dict[str, Weights] = {}
        inserted = sorted(model.insertions.items(), key=lambda x: (-x[1], x[0]))
        self._weights: dict[str, Weights] = {"": dict(inserted[:_NEAREST])}
        self._tables: dict[tuple[str, str, str], Table] = {}
        self._find_nearest(sorted(known))
        self._rates()
        self._streams = {u: self._stream(seed, u) for u in self.words}

    def _rates(self) -> None:
        model, after = self.model, self.model.after
        wrong, deleted = (sum(after[s][k] for s in STATES) for k in (2, 3))
        whole = _odds(deleted, wrong)
        self._deletion_after = {s: _odds(after[s][3], after[s][2]) / whole for s in STATES}
        self._insertion = {s: after[s][1] / max(after[s][0], 1) for s in STATES}
        self._insertion["ok"] /= model.clustering.mean  # it is multiplied by the noise level
        self._pair = model.errors[1] / max(model.errors[0], 1)
        n, blank = model.blank
        self._blank = -log1p(-min(blank / max(n, 1), 0.99))

    def _stream(self, seed: int, utt: str) -> tuple[float, float, list[list[float]]]:
        rng, c = utterance_rng(seed, utt), self.model.clustering
        level = float(rng.gamma(c.shape, c.mean / c.shape))
        return level, float(rng.random()), rng.random((len(self.words[utt]) + 1, _DRAWS)).tolist()

    def text(self, utt: str, scale: float) -> str:
        """Return the text of one utterance with all hazards times ``scale``."""
        words = self.words[utt]
        level, blank, draws = self._streams[utt]
        if blank < 1 - exp(-scale * self._blank):
            return ""
        level, out, i, before = level * scale, [], 0, "ok"
        burst = self.model.clustering.burst
        while i <= len(words):
            draw = draws[i]
            if words and self._inserts(before, level, draw):
                out += self._choose("", out, words[i : i + 1], draw[5])
            if i == len(words):
                break
            rate = level * self._hazard[words[i]] * (1.0 if before == "ok" else burst)
            if draw[0] >= 1 - exp(-rate):
                out.append(words[i])
                i, before = i + 1, "ok"
                continue
            used, deleted = self._wrong(words, i, draw, before)
            if not deleted:
                phrase = " ".join(words[i : i + used])
                out += self._choose(phrase, out, words[i + used : i + used + 1], draw[3])
            i, before = i + used, "del" if deleted else "sub"
        return " ".join(out)

    def _inserts(self, before: str, level: float, draw: list[float]) -> bool:
        rate = self._insertion[before]
        if before == "ok":  # else it comes with the error, which is scaled already
            rate = 1 - exp(-level * rate)
        return draw[4] < rate

    def _wrong(self, words: list[str], i: int, draw: list[float], before: str) -> tuple[int, bool]:
        """Return how many words are wrong as one, and whether they are deleted."""
        model, word = self.model, words[i]
        if i + 1 < len(words):
            pair = f"{word} {words[i + 1]}"
            seen = sum(model.events[pair].values()) if pair in model.events else 0
            chance = (seen + _OWN * self._pair) / (model.pairs.get(pair, 0) + _OWN)
            if draw[1] < chance:
                return 2, False
        share = model.deletion_share(word)
        odds = share / (1 - share) * self._deletion_after[before]
        return 1, draw[2] < odds / (1 + odds)

    def _choose(self, phrase: str, before: list[str], behind: list[str], u: float) -> list[str]:
        """Return the words that stand for a phrase between others ("": that are inserted)."""
        left = before[-1].lower() if before else START
        right = behind[0].lower() if behind else END
        key = (phrase, left, right)
        if key not in self._tables:
            weights = self._weights_of(phrase)
            fluent = self.model.fluency
            self._tables[key] = _cumulative(
                {t: w * exp(fluent * self._bigrams.fit(left, t, right)) for t, w in weights.items()}
            )
        return _pick(self._tables[key], u).split()

    def _weights_of(self, phrase: str) -> Weights:
        """Return what may stand for a phrase: its own confusions, and phrases that sound alike."""
        if phrase not in self._weights:
            if phrase not in self._nearest:
                self._find_nearest([phrase], "pair")
            own = self.model.events.get(phrase, {})
            weights: Weights = {t: float(n) for t, n in own.items() if t}
            for text, share in self._nearest[phrase].items():
                weights[text] = weights.get(text, 0.0) + _OWN * share
            self._weights[phrase] = weights
        return self._weights[phrase]

    def _find_nearest(self, phrases: list[str], kind: str = "word") -> None:
        names, sharp = self._inventory.phrases, self.model.sound[kind][1]
        for k in range(0, len(phrases), 256):
            part = phrases[k : k + 256]
            scores = self._usual[kind] - sharp * self._inventory.distances(part)
            for phrase, row in zip(part, scores, strict=True):
                top = np.argpartition(-row, min(_NEAREST, len(row) - 1))[: _NEAREST + 1]
                best = row[top].max()
                found = {names[i]: exp(row[i] - best) for i in top.tolist() if names[i] != phrase}
                total = sum(found.values())
                self._nearest[phrase] = {t: w / total for t, w in found.items()}

    def at(self, scale: float) -> dict[str, str]:
        """Return all texts with all hazards times ``scale``."""
        return {u: self.text(u, scale) for u in self.words}

    def _wer(self, scale: float) -> float:
        errors = total = 0
        for utt, ref in self.refs.items():
            ref_words = ref.split()
            errors += Levenshtein.distance(ref_words, self.text(utt, scale).lower().split())
            total += len(ref_words)
        return 100.0 * errors / total

    def reach(self, wer: float) -> Simulated:
        """Return texts whose word error rate is ``wer`` percent, or as near as the corpus allows.

        Raises:
            UsageError: The rate is out of the model's reach.
        """
        low, high, top = 0.0, 1.0, 0.0
        best = (wer, 0.0)  # distance to the target, scale
        while wer > 0:
            rate = self._wer(high)
            top, best = max(top, rate), min(best, (abs(rate - wer), high))
            if rate >= wer or high >= _LARGEST:
                break
            low, high = high, high * 2
        if not 0 <= wer <= top + CLOSE:
            raise UsageError(
                f"a word error rate of {wer:g} % is out of reach", "--wer",
                f"this model and text reach 0 to {self.highest():.1f} %",
            )  # fmt: skip
        for _ in range(_HALVINGS):
            if best[0] <= CLOSE:
                break
            middle = (low + high) / 2
            rate = self._wer(middle)
            best = min(best, (abs(rate - wer), middle))
            low, high = (middle, high) if rate < wer else (low, middle)
        texts = self.at(best[1])
        return Simulated(texts, measure(self.refs, texts), best[1])

    def highest(self) -> float:
        """Return the highest word error rate, in percent, that the model reaches on this text."""
        scales = [2.0**k for k in range(int(np.log2(_LARGEST)) + 1)]
        return max(map(self._wer, scales))


def measure(refs: Mapping[str, str], texts: Mapping[str, str]) -> Score:
    """Score texts after lower-casing both sides."""
    low = [{u: t.lower() for u, t in x.items()} for x in (refs, texts)]
    return score_sets(*low)


def make_degraded(
    model: ConfusionModel,
    manual: Mapping[str, str],
    wers: list[float],
    seed: int = 1,
    convert: Convert | None = None,
) -> dict[float, dict[str, str]]:
    """Return texts at several word error rates (percent); equal random streams, so errors grow.

    Raises:
        UsageError: A rate is out of the model's reach.
        DataError: The manual text has no word.
    """
    simulator = Simulator(model, manual, seed, convert)
    return {wer: simulator.reach(wer).texts for wer in wers}


def _odds(count: float, total: float) -> float:
    """Return odds from counts, half an event added to either side."""
    return (count + 0.5) / (total - count + 0.5)


def _cumulative(weights: Mapping[str, float]) -> Table:
    items = sorted(weights.items(), key=lambda x: (-x[1], x[0]))
    total = sum(w for _, w in items)
    return [t for t, _ in items], list(accumulate(w / total for _, w in items))


def _pick(table: Table, u: float) -> str:
    texts, cumulative = table
    if not texts:
        return ""
    return texts[min(bisect_right(cumulative, u), len(texts) - 1)]
