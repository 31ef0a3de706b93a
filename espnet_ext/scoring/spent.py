# SPDX-License-Identifier: Apache-2.0
"""What a training used, as its ``phase.json`` tells: counts of batches and passes, time, memory."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from espnet_ext.progress import duration

# Optional counts of a phase, and of a budget, with their column on the results page.
COUNTS = {
    "labelled_batches": "Labelled batches",
    "unlabelled_batches": "Unlabelled batches",
    "passes": "Passes",
}
# Optional facts of a phase, with their column.
FACTS = {
    "labelled_hours": "Labelled (h)",
    "unlabelled_hours": "Unlabelled (h)",
    "last_gamma": "Last gamma",
}


def total_budget(phases: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return what a run has used over all its phases.

    A phase that did not count its passes made one for each of its batches. Which of these were
    labelled nobody knows, so labelled and unlabelled batches are summed only where every phase
    has counted them: a sum that lacks a phase would look like a smaller budget.

    Args:
        phases: Contents of ``phase.json``, with ``updates`` and maybe any of :data:`COUNTS`.
    """
    phases = list(phases)
    budget = {"updates": sum(p["updates"] for p in phases)}
    for key in ("labelled_batches", "unlabelled_batches"):
        if phases and all(key in p for p in phases):
            budget[key] = sum(p[key] for p in phases)
    if any("passes" in p for p in phases):
        budget["passes"] = sum(p.get("passes", p.get("batches", p["updates"])) for p in phases)
    return budget


def curve_point(means: Mapping[str, float]) -> dict[str, float]:
    """Return what curves are drawn of, of the means of an epoch: no times, finite values only."""
    shown = {k: v for k, v in means.items() if not k.endswith("time") and math.isfinite(v)}
    return {k: float(f"{v:.5g}") for k, v in shown.items()}


def budget_line(phase: Mapping[str, Any]) -> str:
    """Tell on one line what a phase has cost: passes and batches (where counted), time, memory.

    Args:
        phase: Contents of ``phase.json``; times in seconds, memory in MB.
    """
    batches = " and ".join(
        f"{phase[key]:,} {name}"
        for key, name in (("labelled_batches", "labelled"), ("unlabelled_batches", "unlabelled"))
        if key in phase
    )
    passes = f"{phase['passes']:,} forward-backward passes" if "passes" in phase else ""
    counted = ": ".join(x for x in (passes, f"{batches} batches" if batches else "") if x)
    parts = [
        *([counted] if counted else []),
        duration(phase["train_wall_s"]),
        f"peak memory {phase['peak_rss_mb']:,} MB",
        *([f"GPU {phase['peak_gpu_mb']:,} MB"] if phase["peak_gpu_mb"] else []),
    ]
    return ", ".join(parts)
