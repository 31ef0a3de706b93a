# SPDX-License-Identifier: Apache-2.0
"""The probability that a word of the transcript was spoken, learnt from transcripts made wrong.

After a training, one word in each of some utterances is replaced by another of the vocabulary and
the utterance aligned again. A logistic regression learns to tell replaced words from the others, by
how well their phones fit (:mod:`espnet_ext.align.passes.confidence`) in units of each phone's own
spread, and how short they are. PRIOR is the share of wrong words that it then reckons with.

    MODEL/confidence.json   spread of each phone, weights of the regression
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from espnet_ext.align.corpus import Corpus
from espnet_ext.align.passes.confidence import load_evidence
from espnet_ext.align.search import segfile
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.errors import DataError
from espnet_ext.files import write_json, write_text
from espnet_ext.lang.phones import STATES
from espnet_ext.lang.pronounce import Pronunciations

FILE = "confidence.json"
PRIOR = 0.01  # wrong words: one in ten utterances of ten words
CHOSEN = 400  # utterances with a word replaced
LEAST = 20  # replaced words that the regression needs
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
    """

    mean: list[float]
    spread: list[float]
    centre: list[float]
    scale: list[float]
    weights: list[float]
    bias: float

    def words(self, seg: Segmentation, evidence: np.ndarray) -> np.ndarray:
        """Return ``(words)`` the probability that each word of the transcript was spoken."""
        x = features(seg, evidence, np.asarray(self.mean), np.asarray(self.spread))
        z = (x - self.centre) / np.asarray(self.scale) @ np.asarray(self.weights) + self.bias
        return 1 / (1 + np.exp(-np.clip(z, -30, 30)))

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
        evidence: ``(P,)`` of each phone.
        mean: Mean of each phone's evidence.
        spread: Its standard deviation.
    """
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


def spreads(
    rows: Iterator[tuple[Segmentation, np.ndarray]], phones: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each phone's evidence; of all where one is rare."""
    sums = np.zeros((3, phones))
    for seg, evidence in rows:
        for row, values in zip(sums, (np.ones(len(evidence)), evidence, evidence**2), strict=True):
            np.add.at(row, seg.phones, values)
    count, total, square = sums + 10 * (sums.sum(1) / sums[0].sum())[:, None]  # ten of the average
    mean = total / count
    return mean, np.maximum(np.sqrt(np.maximum(square / count - mean**2, 0)), MIN_SPREAD)


def pairs(
    segs: Path, evidence: Path, shards: int
) -> Iterator[tuple[str, Segmentation, np.ndarray]]:
    """Yield utterance, alignment and evidence of all shards."""
    for i in range(shards):
        found = load_evidence(evidence, i)
        for utt, seg in segfile.load(segs / f"{i}.npz").items():
            yield utt, seg, found[utt]


def spoil(corpus: Corpus, work: Path, seed: int) -> dict[str, int]:
    """Prepare a work folder in which one word of each chosen utterance is another one.

    Features are those of ``corpus``. Shards stay what they are, so that what belongs to their
    speakers does as well.

    Returns:
        The place of the word, by utterance.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("feats", "fbank"):
        if (corpus.work / name).is_dir():
            (work / name).symlink_to((corpus.work / name).resolve(), target_is_directory=True)
    shutil.copy(corpus.work / "pronunciations.json", work)
    rng, pron, places = np.random.default_rng(seed), corpus.pronunciations, {}
    words = sorted(w for w, found in pron.words.items() if found and w not in pron.oov)
    share = min(1.0, CHOSEN / max(1, corpus.utterances))
    for i in range(corpus.shards):
        shard = corpus.shard(i)
        row: dict[str, list] = {"utts": [], "words": []}
        for utt, said in zip(shard["utts"], shard["words"], strict=True):
            at = int(rng.integers(len(said)))
            other = _other(said[at], words, pron, rng)
            if rng.random() < share and other:
                row["utts"].append(utt)
                row["words"].append([*said[:at], other, *said[at + 1 :]])
                places[utt] = at
        write_text(work / "shards" / f"{i}.json", json.dumps(row, ensure_ascii=False))
    return places


def _other(
    word: str, words: list[str], pron: Pronunciations, rng: np.random.Generator
) -> str | None:
    """Return a word of another pronunciation; None if none is found."""
    own = {names for names, _ in pron.variants(word)}
    for _ in range(20 if words else 0):
        other = words[int(rng.integers(len(words)))]
        if own.isdisjoint(names for names, _ in pron.variants(other)):
            return other
    return None


def learn(
    places: dict[str, int],
    spoilt: Iterator[tuple[str, Segmentation, np.ndarray]],
    mean: np.ndarray,
    spread: np.ndarray,
) -> Confidence | None:
    """Learn from utterances with a word replaced; None if there are too few.

    Args:
        places: See :func:`spoil`.
        spoilt: Their alignments and evidence.
        mean: See :func:`spreads`.
        spread: See :func:`spreads`.
    """
    from sklearn.linear_model import LogisticRegression

    xs, ys = [], []
    for utt, seg, evidence in spoilt:
        x = features(seg, evidence, mean, spread)
        right = np.ones(len(x), bool)
        right[places[utt]] = False
        near = np.abs(np.arange(len(x)) - places[utt]) == 1  # their edges suffer: neither one
        xs.append(x[~near])
        ys.append(right[~near])
    if sum(int((~y).sum()) for y in ys) < LEAST:
        return None
    x, y = np.concatenate(xs), np.concatenate(ys)
    if not y.any():
        return None
    centre, scale = x.mean(0), x.std(0) + 1e-6
    fit = LogisticRegression(C=STRENGTH).fit((x - centre) / scale, y)
    odds = np.log(y.mean() / (1 - y.mean()))  # of right words here
    bias = float(fit.intercept_[0] - odds + np.log((1 - PRIOR) / PRIOR))
    arrays = (mean, spread, centre, scale, fit.coef_[0])
    return Confidence(*(np.round(a, 6).tolist() for a in arrays), bias)
