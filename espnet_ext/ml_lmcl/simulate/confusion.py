# SPDX-License-Identifier: Apache-2.0
"""A confusion model: what a recogniser makes of words, counted in paired transcripts.

Every pair is aligned by sound (see alignment.py). Counted are, for each word, how often it is
wrong; for each word, and each pair of words that was merged or re-cut, what stood in its place
(nothing is a deletion); and the words inserted. estimate.py counts, generate.py makes text.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import log, log1p
from pathlib import Path

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.files import write_text
from espnet_ext.ml_lmcl.simulate.clustering import Clustering
from espnet_ext.ml_lmcl.simulate.phones import SOURCES, PhoneTable
from espnet_ext.text.normalize import MODES

FORMAT, VERSION = "espnet_ext ml_lmcl confusion model", 1
RARE = 5  # words seen at most so often tell the rates of unseen ones
PRIOR = 4.0  # observations that the rate of a word's length class counts for
_LENGTHS = (2, 3, 5, 7)  # upper ends, in phones, of the length classes; one more above
STATES = ("ok", "sub", "del")
KINDS = ("word", "pair")
SOUND = [0.5, 10.0, 0.0]

Counts = dict[str, Counter[str]]


@dataclass
class ConfusionModel:
    """Counts of paired transcripts.

    Attributes:
        normalize: How the text was, and manual text will be, normalised.
        table: Phones of all words of both sides.
        words: ``[times a word was met, times it was wrong]``; the second word of a pair that was
            replaced as one is not met.
        events: Word or pair of words -> what stood for it ("" if deleted) -> count.
        pairs: Pair of words that ``events`` has -> errors that began at its first word.
        insertions: Inserted word -> count.
        vocabulary: Words of the ASR text, and runs of words that stood for one -> count.
        after: For what stood before ("ok", "sub", "del"): ``[places before a word and at the end,
            insertions there, single words wrong, of these deleted]``.
        blank: ``[utterances, of these with empty ASR text]``; those count nowhere else.
        errors: ``[errors with a word behind, of these pairs replaced as one]``.
        clustering: How the errors cluster.
        sound: For one word and for a pair, ``(a, k, o)``: what was never seen becomes v with
            weight ``count(v)^a exp(-k d)``, d the phone distance, and times ``exp(o)`` if v is
            several words.
        bigrams: Word -> next word -> count, in the ASR text.
        fluency: Weight of how well a word fits between its neighbours, see fluency.py.
        realism: Real and simulated text at the same word error rate, see realism.py; empty where
            an earlier release made the model.
    """

    normalize: str
    table: PhoneTable
    words: dict[str, list[int]] = field(default_factory=dict)
    events: Counts = field(default_factory=dict)
    pairs: dict[str, int] = field(default_factory=dict)
    insertions: Counter[str] = field(default_factory=Counter)
    vocabulary: Counter[str] = field(default_factory=Counter)
    after: dict[str, list[int]] = field(default_factory=lambda: {s: [0] * 4 for s in STATES})
    blank: list[int] = field(default_factory=lambda: [0, 0])
    errors: list[int] = field(default_factory=lambda: [0, 0])
    clustering: Clustering = field(default_factory=Clustering)
    sound: dict[str, list[float]] = field(default_factory=lambda: dict.fromkeys(KINDS, SOUND))
    bigrams: Counts = field(default_factory=dict)
    fluency: float = 0.0
    realism: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.set_rates()

    def set_rates(self) -> None:
        """Sum up the rates of rare words by length; to be called when the counts changed."""
        single = {w: row for w, row in self.events.items() if " " not in w}
        deleted = {w: [sum(row.values()), row.get("", 0)] for w, row in single.items()}
        self._wrong = self._by_length(self.words)
        self._deleted = self._by_length(deleted)

    def _by_length(self, counts: Mapping[str, Sequence[int]]) -> list[float]:
        """Return the share of the second count in the first, over rare words of each length."""
        n, hits = (sum(x) for x in zip((0, 0), *counts.values(), strict=True))
        whole = hits / max(n, 1)
        rows = [[0, 0] for _ in range(len(_LENGTHS) + 1)]
        for word, (n, hits) in counts.items():
            if n <= RARE:
                row = rows[self._length_class(word)]
                row[0] += n
                row[1] += hits
        return [(hits + PRIOR * whole) / (n + PRIOR) for n, hits in rows]

    def _length_class(self, word: str) -> int:
        return sum(self.table.length(word) > x for x in _LENGTHS)

    def error_rate(self, word: str, left_out: tuple[int, int] = (0, 0)) -> float:
        """Return how likely a word is wrong, in [0, 1); a rare word's is near its class's.

        Args:
            word: Any word.
            left_out: Occurrences, and errors among them, that shall not count.
        """
        n, wrong = self.words.get(word, (0, 0))
        n, wrong = n - left_out[0], wrong - left_out[1]
        rate = (wrong + PRIOR * self._wrong[self._length_class(word)]) / (n + PRIOR)
        return min(rate, 0.99)

    def deletion_share(self, word: str) -> float:
        """Return how likely a wrong word is deleted, in (0, 1)."""
        row = self.events.get(word, {})
        hits = row.get("", 0) + PRIOR * self._deleted[self._length_class(word)]
        return min(max(hits / (sum(row.values()) + PRIOR), 1e-3), 1 - 1e-3)

    def hazard(self, word: str, left_out: tuple[int, int] = (0, 0)) -> float:
        """Return ``-log(1 - error_rate)``."""
        return -log1p(-self.error_rate(word, left_out))

    def usual(self, phrases: Sequence[str], kind: str) -> np.ndarray:
        """Return log weights (P,) of phrases of the vocabulary before their sound is looked at.

        Args:
            phrases: P phrases.
            kind: ``word`` or ``pair``, what they stand for.
        """
        common, _, several = self.sound[kind]
        return np.array([common * log(self.vocabulary[p]) + several * (" " in p) for p in phrases])

    def save(self, path: Path | str) -> None:
        """Write JSON atomically."""
        plain = {k: v for k, v in vars(self).items() if not k.startswith("_")}
        plain["clustering"] = asdict(self.clustering)
        plain["table"] = {
            "source": self.table.source,
            "phones": {w: " ".join(p) for w, p in self.table.phones.items()},
        }
        plain = {"format": FORMAT, "version": VERSION, **plain}
        write_text(path, json.dumps(plain, ensure_ascii=False, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "ConfusionModel":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: Missing, damaged, or of another version.
        """
        how = "make it with: espnet-ext simulate-asr estimate"
        try:
            got = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(got, dict) or got.pop("format", None) != FORMAT:
                raise DataError("the file is no confusion model", path, how)
            version = got.pop("version", None)
            if version != VERSION:
                said = f"the confusion model has format version {version}, not {VERSION}"
                raise DataError(said, path, how)
            return _from_plain(got)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise DataError(f"the confusion model is not readable ({e})", path, how) from None


def _from_plain(got: dict) -> ConfusionModel:
    """Build a model from the plain data of a file; ValueError and the like on wrong parts."""
    source, phones = got["table"]["source"], got["table"]["phones"]
    if source.split(" ")[0] not in SOURCES or got["normalize"] not in MODES:
        raise ValueError("unknown source of phones or normalisation")
    model = ConfusionModel(
        normalize=got["normalize"],
        table=PhoneTable(source, {w: names.split() for w, names in phones.items()}),
        words={w: _counts(row, 2) for w, row in got["words"].items()},
        events={w: _counter(row) for w, row in got["events"].items()},
        pairs=dict(_counter(got["pairs"])),
        insertions=_counter(got["insertions"]),
        vocabulary=_counter(got["vocabulary"]),
        after={s: _counts(got["after"][s], 4) for s in STATES},
        blank=_counts(got["blank"], 2),
        errors=_counts(got["errors"], 2),
        clustering=Clustering(**got["clustering"]),
        bigrams={w: _counter(row) for w, row in got["bigrams"].items()},
        fluency=float(got["fluency"]),
        sound={kind: _weights(got["sound"][kind]) for kind in KINDS},
        realism={k: [float(x) for x in row] for k, row in got.get("realism", {}).items()},
    )
    if not all(0 < x < np.inf for x in vars(model.clustering).values()):
        raise ValueError("clustering must be positive")
    if not 0 <= model.fluency < np.inf:
        raise ValueError("the weight of fluency is out of range")
    if any(wrong > n for n, wrong in model.words.values()):
        raise ValueError("a word is wrong more often than it occurs")
    return model


def _weights(row: list[float]) -> list[float]:
    row = [float(x) for x in row]
    if len(row) != len(SOUND) or not np.isfinite(row).all():
        raise ValueError(f"{row} is not {len(SOUND)} weights")
    return row


def _counts(row: list, size: int) -> list[int]:
    if len(row) != size or any(type(x) is not int or x < 0 for x in row):
        raise ValueError(f"{row} is not {size} counts")
    return row


def _counter(row: dict) -> Counter[str]:
    if any(type(x) is not int or x < 1 for x in row.values()):
        raise ValueError("a count is not a positive integer")
    return Counter(row)
