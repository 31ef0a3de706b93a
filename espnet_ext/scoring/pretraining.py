# SPDX-License-Identifier: Apache-2.0
"""How well a pre-training on clips fills in hidden tokens, and finds the other side of a clip.

The stage that trains writes a line for each clip of its development set. An error is squared, the
mean over a token's elements, summed over the hidden tokens of a clip; it is kept as whole
millionths.
"""

from collections.abc import Sequence

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics.base import Metric

CLIPS = "clips"  # table of the references: each clip is its own
MILLION = 1_000_000
CONDITIONS = ("all", "speaker", "speaker_length")


def error_metric(name: str, title: str, what: str) -> Metric:
    """Return the error of a reconstruction in percent of the mean predictor's."""
    return Metric(
        name=name,
        title=title,
        better="lower",
        counts=("error", "mean_predictor"),
        score=count_errors,
        details=("own_mean",),
        columns={"own mean of each token": ("own_mean", "mean_predictor")},
        ref_file=CLIPS,
        hyp_file=name,
        optional=True,
        note=f"Squared error of hidden tokens of {what} in percent of the best constant's, the "
        "mean of the set's hidden tokens; below 100 something is learnt.",
    )


def clip_metric(name: str, title: str, what: str) -> Metric:
    """Return the share of clips whose other side is found first."""
    chances = tuple(f"chance_{c}" for c in CONDITIONS)
    return Metric(
        name=name,
        title=title,
        better="higher",
        counts=("correct", "utterances"),
        score=count_found,
        details=(*CONDITIONS[1:], "late", "in_time", *chances, "millionths"),
        columns={
            "chance": ("chance_all", "millionths"),
            "same speaker": ("speaker", "utterances"),
            "chance there": ("chance_speaker", "millionths"),
            "and length": ("speaker_length", "utterances"),
            "chance there, too": ("chance_speaker_length", "millionths"),
            "picture 0.5 s late": ("late", "utterances"),
            "nearer than late": ("in_time", "utterances"),
        },
        ref_file=CLIPS,
        hyp_file=name,
        optional=True,
        note=f"Share of clips whose {what} is the nearest of all; also among clips of one "
        "speaker, and of about one length; then with pictures half a second late, and how often "
        "the sound is nearer to its picture than to that one (chance 50).",
    )


def error_line(error: float, mean_predictor: float, own_mean: float) -> str:
    """Return the line of a clip for :func:`error_metric`."""
    return " ".join(str(round(x * MILLION)) for x in (error, mean_predictor, own_mean))


def found_line(found: Sequence[str], late: str, in_time: bool, among: Sequence[int]) -> str:
    """Return the line of a clip for :func:`clip_metric`: what was found by condition, and so on."""
    return " ".join([*found, late, str(int(in_time)), *map(str, among)])


def count_errors(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return ``(U, 3)``: millionths of the model's error, and of the two others."""
    return np.array([_whole(h.split(), 3) for h in hyps], dtype=np.int64).reshape(len(refs), 3)


def count_found(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return ``(U, 10)``: see the counts and details of :func:`clip_metric`."""
    rows = []
    for ref, hyp in zip(refs, hyps, strict=True):
        words = hyp.split()
        if len(words) != 2 * len(CONDITIONS) + 2:
            raise _unreadable(hyp)
        hits = [int(w == ref) for w in words[:3]]
        in_time, *among = _whole(words[4:], 1 + len(CONDITIONS))
        if 0 in among:
            raise _unreadable(hyp)
        chances = [round(MILLION / n) for n in among]
        rows.append([hits[0], 1, *hits[1:], int(words[3] == ref), in_time, *chances, MILLION])
    return np.array(rows, dtype=np.int64).reshape(len(refs), 10)


def _whole(words: Sequence[str], count: int) -> list[int]:
    if len(words) != count or not all(w.isascii() and w.isdigit() for w in words):
        raise _unreadable(" ".join(words))
    return [int(w) for w in words]


def _unreadable(line: str) -> DataError:
    how = "./run.sh --stage pretrain --stop-stage pretrain --force"
    return DataError(f"'{line}' is no measurement of a clip", "metric of stage 1", how)
