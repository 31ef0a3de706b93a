# SPDX-License-Identifier: Apache-2.0
"""The probability that a word of the transcript was spoken, learnt from transcripts made wrong.

After a training, one word in each of some utterances is replaced by another of the vocabulary and
the utterance aligned again (:mod:`espnet_ext.align.spoil`). A logistic regression learns to tell
replaced words from the others, by how well their phones fit
(:mod:`espnet_ext.align.passes.confidence`) in units of each phone's own spread, and how short they
are. PRIOR is the share of wrong words that it then reckons with. Words that a transcript lacks are
found likewise: :mod:`espnet_ext.align.missing`.

    MODEL/confidence.json   spread of each phone, weights of the regressions
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.align.passes.confidence import MEAN, load_evidence
from espnet_ext.align.search import segfile
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.errors import DataError
from espnet_ext.files import write_json
from espnet_ext.lang.phones import STATES

FILE = "confidence.json"
PRIOR = 0.01  # wrong words: one in ten utterances of ten words
LEAST = 20  # examples that a regression needs
MIN_SPREAD = 0.1
STRENGTH = 10.0  # inverse of the regularisation
FEATURES = 6


@dataclass(frozen=True)
class Confidence:
    """What :func:`learn` finds.

    Args:
        mean: ``(phones)`` mean evidence of each phone.
        spread: ``(phones)`` its standard deviation.
        centre: ``(FEATURES)`` means of a word's features.
        scale: ``(FEATURES)`` their standard deviations.
        weights: ``(FEATURES)`` of the regression.
        bias: Its constant, at PRIOR.
        missing: Fields of :class:`espnet_ext.align.missing.Missing`; None if it was not learnt.
    """

    mean: list[float]
    spread: list[float]
    centre: list[float]
    scale: list[float]
    weights: list[float]
    bias: float
    missing: dict | None = None

    def words(self, seg: Segmentation, evidence: np.ndarray) -> np.ndarray:
        """Return ``(words)`` the probability that each word of the transcript was spoken."""
        x = features(seg, evidence, np.asarray(self.mean), np.asarray(self.spread))
        return logistic(x, vars(self))

    def save(self, folder: Path) -> None:
        """Write it to the folder of a model."""
        write_json(folder / FILE, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "Confidence | None":
        """Read that of a model; None if it has none.

        Raises:
            DataError: The file is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as e:
            raise DataError(f"not readable ({e})", path, "remove it, or train again") from None


def features(
    seg: Segmentation, evidence: np.ndarray, mean: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Return ``(words, FEATURES)`` of an utterance.

    Args:
        seg: Alignment of P phones.
        evidence: ``(P, 2)`` of each phone.
        mean: Mean of each phone's evidence.
        spread: Its standard deviation.
    """
    evidence = evidence[:, MEAN]
    z = (evidence - mean[seg.phones]) / spread[seg.phones]
    frames = seg.durations.sum(1)
    usual = np.average(z, weights=frames)
    rows = []
    for w in range(int(seg.words.max(initial=-1)) + 1):
        own = seg.words == w
        part, n = z[own], frames[own]
        rows.append((
            np.average(part, weights=n), part.min(), np.average(part, weights=n) - usual,
            np.average(evidence[own], weights=n), np.mean(n <= STATES + 1), np.log(len(n)),
        ))  # fmt: skip
    return np.array(rows).reshape(-1, FEATURES)


@dataclass(frozen=True)
class Usual:
    """Of each phone, over a corpus: means and standard deviations ``(2, phones)``.

    Args:
        mean: Of its evidence.
        worst: Of the evidence in the worst part of it.
        length: Of the logarithm of its frames.
    """

    mean: np.ndarray
    worst: np.ndarray
    length: np.ndarray


def usual(rows: Iterator[tuple[Segmentation, np.ndarray]], phones: int) -> Usual:
    """Return what is usual for each phone; where one is rare, what is usual for all."""
    sums = np.zeros((7, phones))  # count; sum and sum of squares of the three
    for seg, evidence in rows:
        values = [*evidence.T, np.log(seg.durations.sum(1))]
        ones = np.ones(len(evidence))
        for row, x in zip(sums, [ones, *(y for v in values for y in (v, v**2))], strict=True):
            np.add.at(row, seg.phones, x)
    count, *sums = sums + 10 * (sums.sum(1) / sums[0].sum())[:, None]  # ten of the average
    means, squares = np.array(sums[::2]) / count, np.array(sums[1::2]) / count
    spread = np.maximum(np.sqrt(np.maximum(squares - means**2, 0)), MIN_SPREAD)
    return Usual(*np.stack([means, spread], 1))


def pairs(
    segs: Path, evidence: Path, shards: int
) -> Iterator[tuple[str, Segmentation, np.ndarray]]:
    """Yield utterance, alignment and evidence of all shards."""
    for i in range(shards):
        found = load_evidence(evidence, i)
        for utt, seg in segfile.load(segs / f"{i}.npz").items():
            yield utt, seg, found[utt]


def learn(
    places: dict[str, int], spoilt: Iterator[tuple[str, Segmentation, np.ndarray]], known: Usual
) -> Confidence | None:
    """Learn from utterances with a word replaced; None if there are too few.

    Args:
        places: Where, see :func:`espnet_ext.align.spoil.spoil`.
        spoilt: Their alignments and evidence.
        known: See :func:`usual`.
    """
    found = list(examples(places, spoilt, lambda *of: features(*of, *known.mean)))
    fitted = fit([x for x, _ in found], [~at for _, at in found], 1 - PRIOR)
    mean, spread = np.round(known.mean, 6).tolist()
    return None if fitted is None else Confidence(mean, spread, **fitted)


def examples(
    places: dict[str, int],
    spoilt: Iterator[tuple[str, Segmentation, np.ndarray]],
    features_of: Callable[[Segmentation, np.ndarray], np.ndarray],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield of each utterance ``(n, FEATURES)``, and ``(n,)`` whether that is its spoilt place.

    Those beside it suffer from it: they are examples of neither, and left out.
    """
    for utt, seg, evidence in spoilt:
        x = features_of(seg, evidence)
        distance = np.abs(np.arange(len(x)) - places[utt])
        yield x[distance != 1], distance[distance != 1] == 0


def fit(xs: list[np.ndarray], ys: list[np.ndarray], share: float) -> dict | None:
    """Fit a logistic regression; None if there are fewer than LEAST examples of either kind.

    Args:
        xs: ``(n, FEATURES)`` of each utterance.
        ys: ``(n,)`` bool.
        share: How many are true in the data to come.

    Returns:
        ``centre``, ``scale``, ``weights`` and ``bias``, for :func:`logistic`.
    """
    from sklearn.linear_model import LogisticRegression

    if not ys or min(np.concatenate(ys).sum(), (~np.concatenate(ys)).sum()) < LEAST:
        return None
    x, y = np.concatenate(xs), np.concatenate(ys)
    centre, scale = x.mean(0), x.std(0) + 1e-6
    found = LogisticRegression(C=STRENGTH).fit((x - centre) / scale, y)
    odds = np.log(y.mean() / (1 - y.mean()))  # of the examples
    rounded = (np.round(a, 6).tolist() for a in (centre, scale, found.coef_[0]))
    bias = float(found.intercept_[0] - odds + np.log(share / (1 - share)))
    return {**dict(zip(("centre", "scale", "weights"), rounded, strict=True)), "bias": bias}


def logistic(x: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
    """Return the probabilities of rows of features ``(n, FEATURES)``, see :func:`fit`."""
    z = (x - fitted["centre"]) / np.asarray(fitted["scale"]) @ np.asarray(fitted["weights"])
    return 1 / (1 + np.exp(-np.clip(z + fitted["bias"], -30, 30)))
