# SPDX-License-Identifier: Apache-2.0
"""What each run cost and how it was made: the folded end of a results page."""

from collections.abc import Mapping

from espnet_ext.scoring.budget import count_cells, count_columns
from espnet_ext.scoring.comparison import budget_text
from espnet_ext.scoring.markdown import cell, code, table
from espnet_ext.scoring.page import TEXT
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.results_scores import encoder

_UNITS = {"senone": "tied states", "phone": "phones"}


def cost_lines(records: list[Record]) -> list[str]:
    """Return the table of training costs, a row for each phase of each run."""
    counts = count_columns(p for r in records for p in r.phases.values())
    header = [
        *("Run", "Phase", "Task", "Seed", "Wall time", "Training time", "Peak memory (MB)"),
        *("Peak GPU memory (MB)", "Parameters", "Trained", "Epochs", "Updates"),
        *counts.values(),
    ]
    rows = [
        [
            *(r.name, name, p.task, r.seed, _clock(p.wall_s), _clock(p.train_wall_s)),
            *(f"{p.peak_rss_mb:.0f}", f"{p.peak_gpu_mb:.0f}"),
            *(f"{p.params:,}", f"{p.params_trained:,}", p.epochs, p.updates),
            *count_cells(p, counts),
        ]
        for r in records
        for name, p in r.phases.items()
    ]
    return [*(table(header, rows, TEXT) if rows else ["No training phase was recorded."]), ""]


def run_lines(records: list[Record]) -> list[str]:
    """Return where each run comes from: command, commit, versions, hashes."""
    lines = []
    for r in records:
        versions = ", ".join(f"{k} {v}" for k, v in sorted(r.versions.items()))
        state = " (dirty: uncommitted changes)" if r.dirty else ""
        lines += [
            f"### {cell(r.name)}",
            "",
            cell(r.title),
            "",
            *(f"- command: {code(c)}" for c in _commands(r)),
            f"- commit: {code(r.commit)}{state}",
            *(
                f"- {name} trained at: {', '.join(code(c) for c in phase.commits)}"
                for name, phase in r.phases.items()
                if set(phase.commits) - {r.commit}
            ),
            f"- date: {r.date}; group {code(r.group)}, seed {r.seed}",
            f"- device: {cell(r.device)}",
            f"- versions: {cell(versions)}",
            f"- configuration (SHA-256): {code(r.config_sha256)}",
            *_facts(r),
        ]
        for set_name, methods in sorted(r.sets.items()):
            hashes = sorted({d.ref_sha256 for d in methods.values()})
            listed = ", ".join(code(h) for h in hashes)
            lines.append(f"- reference of {cell(set_name)} (SHA-256): {listed}")
        lines.append("")
    return lines


def _facts(r: Record) -> list[str]:
    lines = []
    if r.alignment:
        lines.append(f"- frame labels, where the method uses them: {cell(_labels(r.alignment))}")
    if r.encoder:
        lines.append(f"- text encoder: {cell(encoder(r))}")
    if r.budget is not None:
        lines.append(f"- budget: {cell(budget_text(r))}")
    return lines


def _labels(about: Mapping[str, int | str]) -> str:
    """Tell what the frame labels are: classes, what made them, the data of their model."""
    known = dict(about)
    unit, number = known.pop("unit", "classes"), known.pop("num_classes", "")
    text = f"{number} {_UNITS.get(str(unit), unit)}".strip()
    text += f" of {source}" if (source := known.pop("source", "")) else ""
    text += f", trained on {data}" if (data := known.pop("source_train_data", "")) else ""
    return "; ".join([text, *(f"{k} {v}" for k, v in sorted(known.items()))])


def _commands(r: Record) -> list[str]:
    """The commands that made the run's results; one for each way of decoding."""
    decoding = [d.command for methods in r.sets.values() for d in methods.values() if d.command]
    return sorted({*decoding}) or [r.command]


def _clock(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{s:02d}"
