# SPDX-License-Identifier: Apache-2.0
"""Intent accuracy of a test set, and how it falls with the errors of the transcripts classified.

Conventions:
    * An utterance is right only if every head is: with scenario and action this is SLURP's joint
      accuracy, with one head plain accuracy. Labels are compared as they stand.
    * The interval is Wilson's for a binomial share, 95 %.
    * The word error rate of an utterance is ``edits / max(reference words, 1)``. Thresholds are the
      25th, 50th and 75th percentile over the set's utterances, by midpoint; the group of an
      utterance is the number of thresholds strictly below its rate. Many equal rates make groups
      unequal, or empty.

Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
J. Am. Stat. Assoc. 22, 1927 (interval). The rule of the groups is that of the SpokenCSE code.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring.paired import ids_sha256, same_utterances, utterances

LEVEL = 0.95
QUARTILES = (25, 50, 75)


def score_intents(
    labels: Mapping[str, tuple[str, ...]],
    predictions: Mapping[str, tuple[str, ...]],
    heads: Sequence[str],
    asr_errors: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """Score the predicted labels of one set.

    Args:
        labels: Utterance id to its label of each head.
        predictions: The same for exactly the same utterances.
        heads: Names of the heads, in the order of the labels.
        asr_errors: Utterance id to ``(edits, reference words)`` of the transcript classified.

    Returns:
        The ``intent`` section of a run record; rates and bounds of groups in percent.

    Raises:
        DataError: There is no utterance or no reference word, an utterance is missing on one side,
            an utterance has not one label for each head, or a count is negative.
        UsageError: There is no head, or two of one name.
    """
    if not heads or len(set(heads)) < len(heads):
        raise UsageError("heads need distinct names", f"heads {list(heads)}")
    utt_ids = same_utterances(labels, predictions, "prediction")
    same_utterances(labels, asr_errors, "count of ASR errors")
    for what, table in (("reference", labels), ("prediction", predictions)):
        _check_labels(table, utt_ids, heads, what)
    right = np.array([[a == b for a, b in zip(labels[u], predictions[u], strict=True)]
                      for u in utt_ids])  # fmt: skip
    joint = right.all(axis=1)
    correct, total = int(joint.sum()), len(utt_ids)
    low, high = wilson_interval(correct, total)
    edits, words = _word_errors(asr_errors, utt_ids)
    return {
        "accuracy": 100.0 * correct / total,
        "correct": correct,
        "interval": {"method": "wilson", "level": LEVEL, "low": low, "high": high},
        "heads": [
            {"head": head, "accuracy": 100.0 * int(n) / total, "correct": int(n)}
            for head, n in zip(heads, right.sum(axis=0), strict=True)
        ],
        "input_wer": {
            "rate": 100.0 * int(edits.sum()) / int(words.sum()),
            "errors": int(edits.sum()),
            "ref": int(words.sum()),
        },
        "wer_groups": _groups(edits / np.maximum(words, 1), joint),
        "per_utt": {"ids_sha256": ids_sha256(utt_ids), "wrong": (~joint).astype(int).tolist()},
    }


def wilson_interval(correct: float, total: int, level: float = LEVEL) -> tuple[float, float]:
    """Return Wilson's interval ``(low, high)`` of a share, in percent.

    Args:
        correct: Successes; the mean over several runs on the same items need not be whole.
        total: Items.
        level: Coverage, between 0 and 1.

    Raises:
        DataError: ``total`` is 0, or ``correct`` lies outside ``[0, total]``.
        UsageError: ``level`` is out of range.
    """
    if not 0 < level < 1:
        raise UsageError("the level must lie between 0 and 1", f"level = {level}")
    if total < 1 or not 0 <= correct <= total:
        raise DataError("a share needs 0 <= correct <= total, total > 0", f"{correct} of {total}")
    z, p = NormalDist().inv_cdf((1 + level) / 2), correct / total
    centre, scale = p + z * z / (2 * total), 1 + z * z / total
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    # At a share of 0 or 1 a bound is exactly that; rounding must not put it outside.
    low, high = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return (100.0 * low if correct else 0.0), (100.0 * high if correct < total else 100.0)


def wer_groups(utterance_wer: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the thresholds, ``(3,)``, and the group of each utterance, ``(U,)`` in 0..3.

    Args:
        utterance_wer: Word error rate of each utterance, ``(U,)``, in any unit.
    """
    wer = np.asarray(utterance_wer, dtype=np.float64)
    thresholds = np.percentile(wer, QUARTILES, method="midpoint")
    return thresholds, (thresholds[None, :] < wer[:, None]).sum(axis=1)


def _groups(wer: np.ndarray, joint: np.ndarray) -> list[dict[str, Any]]:
    thresholds, group = wer_groups(wer)
    bounds = [None, *(100.0 * float(t) for t in thresholds), None]
    return [
        {
            "above": bounds[g],
            "up_to": bounds[g + 1],
            "utterances": int((group == g).sum()),
            "correct": int(joint[group == g].sum()),
        }
        for g in range(len(thresholds) + 1)
    ]


def _word_errors(
    asr_errors: Mapping[str, tuple[int, int]], utt_ids: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    counts = np.array([asr_errors[u] for u in utt_ids], dtype=np.int64)
    if counts.ndim != 2 or counts.shape[1] != 2 or (counts < 0).any():
        raise DataError("ASR errors must be two counts >= 0 an utterance", "asr_errors")
    if not counts[:, 1].sum():
        raise DataError(
            "all manual transcripts are empty: the input has no word error rate", "asr_errors"
        )
    return counts[:, 0], counts[:, 1]


def _check_labels(
    table: Mapping[str, tuple[str, ...]], utt_ids: list[str], heads: Sequence[str], what: str
) -> None:
    wrong = [u for u in utt_ids if len(table[u]) != len(heads)]
    if wrong:
        raise DataError(
            f"the {what} of {len(wrong)} utterances has not {len(heads)} labels"
            f" ({', '.join(heads)})",
            utterances(wrong),
            "one label for each head, separated by a space",
        )
