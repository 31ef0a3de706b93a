# SPDX-License-Identifier: Apache-2.0
"""Speaker diarisation (SD): who talks in which frame, in any order of the speakers.

Training and choice of the head use the error of frames; pyannote.metrics computes the diarisation
error rate that is reported, without a collar, overlaps included.
"""

from collections.abc import Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from espnet_ext.errors import DataError, SetupError
from espnet_ext.installation import install
from espnet_ext.multistage.superb.heads import SpeakerHead
from espnet_ext.multistage.superb.pit_loss import pit_loss
from espnet_ext.multistage.superb.rttm import Turn, read_rttm
from espnet_ext.multistage.superb.task_base import ProbeTask
from espnet_ext.scoring.metrics import der

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)
MEDIANS = (1, 11)  # frames
PARTS = ("missed_detection", "false_alarm", "confusion")


class Talk(NamedTuple):
    """Reference of a recording: its turns, and ``(T, S)`` activity of frames."""

    turns: list[Turn]
    active: np.ndarray


class Diarisation(ProbeTask):
    """Diarisation of recordings with a fixed number of speakers."""

    metric = "diarisation error rate"
    higher_is_better = False
    speakers = 2

    def labels(self, folder: Path) -> dict[str, Any]:
        """Read ``rttm``."""
        return read_rttm(folder / "rttm")

    def fit(self, labels: Mapping[str, Any], where: Path) -> None:
        """Check that the library is there, before time is spent."""
        check_library()

    def targets(self, labels: Mapping[str, Any], frames: Mapping[str, int], where: Path) -> dict:
        """Return ``{recording: its reference}``.

        Raises:
            DataError: A recording has more speakers than the head.
        """
        for utt, turns in labels.items():
            found = len({t.speaker for t in turns})
            if found > self.speakers:
                what = f"'{utt}' has {found} speakers; the head has {self.speakers}"
                raise DataError(what, where / "rttm", "leave this recording out")

        return {u: Talk(x, self.activity(x, frames[u])) for u, x in labels.items()}

    def activity(self, turns: Sequence[Turn], frames: int) -> np.ndarray:
        """Return ``(T, S)`` uint8: frame t is active in ``[t, t + 1)`` of the model's shift."""
        out = np.zeros((frames, self.speakers), np.uint8)
        order = {s: i for i, s in enumerate(dict.fromkeys(t.speaker for t in turns))}
        for turn in turns:
            first, last = (round(x / self.frame_s) for x in (turn.start_s, turn.end_s))
            out[first:last, order[turn.speaker]] = 1
        return out

    def piece(self, target: Talk, first: int, last: int) -> Talk:
        """Return the reference of some frames; its turns are those of the whole recording."""
        return target._replace(active=target.active[first:last])

    def head(self, size: int, width: int) -> SpeakerHead:
        """Make the head."""
        return SpeakerHead(size, self.speakers, width)

    def loss(self, out: Any, lengths: torch.Tensor, targets: list[Any]) -> torch.Tensor:
        """Return the permutation-invariant loss."""
        wanted = torch.zeros_like(out)
        for i, target in enumerate(targets):
            wanted[i, : len(target.active)] = torch.as_tensor(target.active).to(wanted)
        return pit_loss(out, wanted, lengths)[0]

    def predict(self, out: Any, lengths: torch.Tensor) -> list[Any]:
        """Return ``(T, S)`` probabilities of each recording."""
        found = out.sigmoid().cpu().numpy()
        return [x[:n] for x, n in zip(found, lengths.tolist(), strict=True)]

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
        """Return the error of frames at threshold 0.5, in percent of the reference's speech."""
        return self.frame_rate(predictions, targets, 0.5, 1)

    def frame_rate(
        self, predictions: Sequence[Any], targets: Sequence[Talk], threshold: float, median: int
    ) -> float:
        """Return the error of frames in percent of the reference's speech; far faster than rate."""
        pairs = zip(predictions, targets, strict=True)
        wrong = [frame_errors(filtered(p, median) > threshold, t.active) for p, t in pairs]
        speech = sum(int(t.active.sum()) for t in targets)
        return 100 * sum(wrong) / max(speech, 1)

    def report(self, dev: tuple[list, list], test: tuple[list, list]) -> dict[str, Any]:
        """Report the error rate by the threshold and filter that have the fewest errors on dev.

        SUPERB chooses them on the test set itself; the rate of that choice is given beside.
        """
        choices = list(product(THRESHOLDS, MEDIANS))
        best = min(choices, key=lambda c: self.frame_rate(*dev, *c))
        lowest = min(choices, key=lambda c: self.frame_rate(*test, *c))
        return {
            **self.rate(*test, *best),
            "threshold": best[0],
            "median_frames": best[1],
            "lowest_on_test": self.rate(*test, *lowest)["score"],
            "lowest_threshold": lowest[0],
            "lowest_median_frames": lowest[1],
            "frame_shift_s": self.frame_s,
        }

    def rate(
        self, predictions: Sequence[Any], targets: Sequence[Talk], threshold: float, median: int
    ) -> dict[str, float]:
        """Return the diarisation error rate and its parts in percent, by pyannote.metrics."""
        times = self.errors(predictions, targets, threshold, median)
        *parts, speech = (sum(column) for column in zip(*times, strict=True))
        shares = {p: 100 * x / max(speech, 1e-9) for p, x in zip(PARTS, parts, strict=True)}
        return {"score": sum(shares.values()), **shares}

    def errors(
        self, predictions: Sequence[Any], targets: Sequence[Talk], threshold: float, median: int
    ) -> list[tuple[float, ...]]:
        """Return the seconds of each recording: missed, false alarm, confusion, all speech."""
        check_library()
        from pyannote.core import Segment, Timeline
        from pyannote.metrics.diarization import DiarizationErrorRate

        metric, rows = DiarizationErrorRate(collar=0.0, skip_overlap=False), []
        for found, target in zip(predictions, targets, strict=True):
            end_s = max([len(found) * self.frame_s, *(t.end_s for t in target.turns)])
            hypothesis = turns_of(filtered(found, median) > threshold, self.frame_s, end_s)
            whole = Timeline([Segment(0, end_s)])
            pair = _annotation(target.turns), _annotation(hypothesis)
            one = metric(*pair, uem=whole, detailed=True)
            rows.append(tuple(one[p.replace("_", " ")] for p in (*PARTS, "total")))
        return rows

    def texts(
        self, predictions: Sequence[Any], targets: Sequence[Any], report: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        """Return ``diarisation``: times in error, by the threshold and filter of the report."""
        choice = report["threshold"], report["median_frames"]
        return {"diarisation": [der.line(*x) for x in self.errors(predictions, targets, *choice)]}


def check_library() -> None:
    """Check that pyannote.metrics is installed.

    Raises:
        SetupError: It is not.
    """
    import importlib.util

    find = importlib.util.find_spec
    if find("pyannote") is None or find("pyannote.metrics") is None:
        what = "diarisation is scored by pyannote.metrics: not installed"
        raise SetupError(what, None, install(extra="superb"))


def frame_errors(found: np.ndarray, active: np.ndarray) -> int:
    """Return the errors of frames under the best order of speakers.

    A frame with r speakers and h found ones, c of them right, has max(r, h) - c errors.

    Args:
        found, active: ``(T, S)``.
    """
    found, active = found.astype(bool), active.astype(bool)
    larger = np.maximum(found.sum(1), active.sum(1)).sum()
    orders = permutations(range(active.shape[1]))
    return int(larger - max((found & active[:, list(p)]).sum() for p in orders))


def filtered(probabilities: np.ndarray, median: int) -> np.ndarray:
    """Return the median over ``median`` frames, an odd number, of ``(T, S)``."""
    if median == 1:
        return probabilities
    from scipy.ndimage import median_filter

    return median_filter(probabilities, size=(median, 1), mode="nearest")


def turns_of(active: np.ndarray, frame_s: float, end_s: float) -> list[Turn]:
    """Return the turns in ``(T, S)`` bool; what the last frame says goes on until ``end_s``."""
    turns = []
    for speaker, column in enumerate(active.T):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], column.astype(np.int8), [0]])))
        for first, last in zip(edges[::2], edges[1::2], strict=True):
            end = end_s if last == len(column) else last * frame_s
            turns.append(Turn(float(first * frame_s), float(end), str(speaker)))
    return turns


def _annotation(turns: Sequence[Turn]) -> Any:
    from pyannote.core import Annotation, Segment

    out = Annotation()
    for i, turn in enumerate(turns):
        out[Segment(turn.start_s, turn.end_s), i] = turn.speaker
    return out
