# SPDX-License-Identifier: Apache-2.0
"""Learning speed: how many epochs a system needs to get where its baseline ends up.

The measure is the token accuracy on the development set (with the right history, not by free
decoding), or that of classified utterances, after each epoch of the last training phase, which
costs nothing to record.
"""

import statistics
from collections.abc import Mapping, Sequence

from espnet_ext.scoring.markdown import table
from espnet_ext.scoring.record import Record

_TEXT = {"System", "Seeds"}
_RULE = (
    "on the development set after each epoch. Epochs to the baseline's best: the "
    "first epoch at which a run is as good as the baseline run of the same seed ever became; means "
    "over seeds; - where a run does not reach it."
)
NOTE_TOKENS = f"Token accuracy {_RULE}"
NOTE_UTTERANCES = f"Accuracy {_RULE}"  # of classified utterances


def curve(record: Record) -> list[float]:
    """Return the accuracy after each epoch of the last phase; empty where it was not recorded."""
    return list(record.phases.values())[-1].valid_acc if record.phases else []


def epochs_to(values: Sequence[float], goal: float) -> int | None:
    """Return the number of epochs until ``goal`` is reached, or None."""
    return next((i for i, v in enumerate(values, 1) if v >= goal), None)


def learning_lines(
    groups: Mapping[str, Sequence[Record]], baseline: str, note: str = NOTE_TOKENS
) -> list[str]:
    """Return the section of RESULTS.md; empty where the baseline has no curve."""
    base = {r.seed: curve(r) for r in groups.get(baseline, ()) if curve(r)}
    rows = []
    for group, runs in groups.items():
        paired = [(curve(r), base[r.seed], r.seed) for r in runs if r.seed in base and curve(r)]
        if not paired:
            continue
        epochs = [epochs_to(own, max(other)) for own, other, _ in paired]
        of_base = [epochs_to(other, max(other)) for _, other, _ in paired]
        reached = all(e is not None for e in epochs)
        mean, mean_base = statistics.fmean(e or 0 for e in epochs), statistics.fmean(of_base)
        rows.append(
            [
                group,
                ", ".join(str(seed) for *_, seed in sorted(paired, key=lambda p: p[2])),
                f"{statistics.fmean(max(own) for own, *_ in paired):.4f}",
                f"{mean:.1f}" if reached else "-",
                f"{mean_base:.1f}",
                f"{mean / mean_base:.2f}" if reached else "-",
            ]
        )
    if not rows:
        return []
    header = ["System", "Seeds", "Best accuracy", "Epochs to the baseline's best",
              "Epochs of the baseline", "Ratio"]  # fmt: skip
    return ["## Learning speed", "", note, "", *table(header, rows, _TEXT), ""]
