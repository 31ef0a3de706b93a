# SPDX-License-Identifier: Apache-2.0
"""The report of an alignment: ``align_report.json`` and a figure beside it.

It tells what was aligned and what not, how long phones are, which utterances score badly, how
often each class occurs and how the training passes went. Everything is counted while reading
utterance by utterance.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from espnet_ext.align.evaluate.check import check_line, write_check
from espnet_ext.align.evaluate.plot import draw
from espnet_ext.align.formats.directory import AlignmentDir, Score
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.errors import DataError, SetupError
from espnet_ext.files import write_json
from espnet_ext.lang.phones import STATES, is_silence
from espnet_ext.progress import count, duration

REPORT, FIGURE = "align_report.json", "align_report.png"
WORST = 20
OUTLIER_Z = -3.5  # Iglewicz and Hoaglin's limit for the robust z-score
MAD_SCALE = 0.6745  # of the median absolute deviation to the standard deviation of a Gaussian
CURVE_POINTS = 200
BINS = 40  # at most
PASS_KEYS = ("name", "states", "gaussians", "loglik_per_frame", "silence_share", "aligned",
             "phones_changed", "cpu_s", "wall_s")  # fmt: skip


def write_report(
    path: Path | str | AlignmentDir, *, passes: list[dict] | None = None, extra: dict | None = None
) -> Path:
    """Write the report into an alignment directory.

    Args:
        path: The alignment directory.
        passes: A row for each training pass: "name", "iterations" (rows or their number),
            "loglik_per_frame", "failures" (rows or their number), and where known "gaussians",
            "states", "silence_share", "aligned", "align_frames_per_cpu_s", "cpu_s", "wall_s".
        extra: "agreement": what the caller found between passes; "skipped_s": seconds of audio
            of skipped utterances, by name; anything else is copied.

    Returns:
        The path of the JSON file.

    Raises:
        DataError: The alignment directory is not usable.
    """
    a = path if isinstance(path, AlignmentDir) else AlignmentDir(path)
    report = make_report(a, passes=passes or [], extra=extra or {})
    try:
        draw(report, a.path / FIGURE)
        report["figure"] = FIGURE
    except SetupError as e:
        (a.path / FIGURE).unlink(missing_ok=True)  # it would show an older alignment
        report["figure"] = f"not drawn: {e.what}"
    report["check"] = write_check(a)
    write_json(a.path / REPORT, report)
    return a.path / REPORT


def make_report(a: AlignmentDir, *, passes: list[dict], extra: dict) -> dict:
    """Return the content of the report; see :func:`write_report`."""
    extra = dict(extra)
    skipped_s = extra.pop("skipped_s", None)
    return {
        "alignment": {**a.header.to_json(), "folder": a.path.name},
        "agreement": extra.pop("agreement", {}),
        "coverage": _coverage(a, skipped_s),
        "phones": _durations(a.phones.items(), a.header.frame_shift_s),
        "scores": _scores(a.scores),
        "classes": _classes(a),
        "passes": [_pass_row(p) for p in passes],
        "extra": extra,
    }


def _coverage(a: AlignmentDir, skipped_s: Mapping[str, float] | None) -> dict:
    frames = {u: s.frames for u, s in a.scores.items()}
    if frames.keys() != set(a.utts):
        raise DataError("scores.tsv and labels.scp hold different utterances", a.path)
    seconds = sum(frames.values()) * a.header.frame_shift_s
    lost = None if skipped_s is None else sum(skipped_s.get(u, 0.0) for u in a.skipped)
    return {
        "utterances": len(frames) + len(a.skipped),
        "aligned": len(frames),
        "skipped": len(a.skipped),
        "frames_aligned": sum(frames.values()),
        "seconds_aligned": round(seconds, 3),
        "seconds_skipped": None if lost is None else round(lost, 3),
        "seconds": None if lost is None else round(seconds + lost, 3),
        "reasons": dict(Counter(reason for reason, _ in a.skipped.values()).most_common()),
        "skipped_list": [[u, *why] for u, why in a.skipped.items()],
    }


def _durations(tiers: Iterable[tuple[str, list[Interval]]], shift_s: float) -> dict:
    """Return duration statistics; histograms of milliseconds keep the memory constant."""
    counts: dict[str, Counter[int]] = defaultdict(Counter)
    longest: dict[str, tuple[float, str, float]] = {}
    for utt, intervals in tiers:
        for i in intervals:
            length = i.end_s - i.start_s
            counts[i.name][round(1000 * length)] += 1
            if length > longest.get(i.name, (-1.0,))[0]:
                longest[i.name] = (length, utt, i.start_s)
    rows = {}
    for name in sorted(counts):
        ms, n = (np.asarray(x) for x in zip(*sorted(counts[name].items()), strict=True))
        length, utt, start_s = longest[name]
        low, median, high = (_quantile(ms, n, q) for q in (0.05, 0.5, 0.95))
        rows[name] = {
            "count": int(n.sum()), "total_s": round(float((ms * n).sum()) / 1000, 3),
            "p5_ms": low, "median_ms": median, "p95_ms": high,
            "shortest_share": float(n[ms <= 1000 * STATES * shift_s + 0.5].sum() / n.sum()),
            "longest": {"ms": round(1000 * length), "utt": utt, "start_s": round(start_s, 3)},
        }  # fmt: skip
    silent = sum(r["total_s"] for name, r in rows.items() if is_silence(name))
    total = sum(r["total_s"] for r in rows.values())
    return {"silence_share": silent / total if total else None, "durations": rows}


def _quantile(values: np.ndarray, counts: np.ndarray, q: float) -> int:
    """Return the smallest value that at least a share ``q`` of all does not exceed."""
    return int(values[np.searchsorted(np.cumsum(counts), q * counts.sum())])


def _scores(scores: Mapping[str, Score]) -> dict:
    known = {u: s for u, s in scores.items() if np.isfinite(s.loglik_per_frame)}
    if not known:
        return {"utterances": 0, "outliers": 0, "worst": []}
    x = np.asarray([s.loglik_per_frame for s in known.values()])
    z = robust_z(x)
    order = np.argsort(x, kind="stable")[:WORST]
    names = list(known)
    # One utterance far away would squeeze all others into one bar; outliers are listed instead.
    near = x[z >= OUTLIER_Z]
    bins = min(BINS, len(np.histogram_bin_edges(near, "auto")) - 1)
    counts, edges = np.histogram(near, bins=bins)
    return {
        "utterances": len(x),
        "median": float(np.median(x)),
        "p5": float(np.quantile(x, 0.05)), "p95": float(np.quantile(x, 0.95)),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "outliers": int((z < OUTLIER_Z).sum()),
        "worst": [
            {"utt": names[i], "frames": known[names[i]].frames, "loglik_per_frame": float(x[i]),
             "robust_z": round(float(z[i]), 2), "outlier": bool(z[i] < OUTLIER_Z)}
            for i in order
        ],
    }  # fmt: skip


def robust_z(x: np.ndarray) -> np.ndarray:
    """Return ``(N,)`` distances from the median, in robust standard deviations.

    Source: B. Iglewicz, D. Hoaglin, "How to Detect and Handle Outliers", ASQC 1993, section 3.
    """
    far = x - np.median(x)
    mad = np.median(np.abs(far))
    return MAD_SCALE * far / mad if mad > 0 else np.zeros(len(x))


def _classes(a: AlignmentDir) -> dict:
    counts = np.zeros(a.header.num_classes, dtype=np.int64)
    for utt in a.utts:
        labels = a.labels(utt)
        if labels.size and not 0 <= labels.min() <= labels.max() < len(counts):
            raise DataError(f"'{utt}' has classes outside [0, {len(counts)})", a.path)
        counts += np.bincount(labels, minlength=len(counts))
    seen = np.sort(counts[counts > 0])[::-1]
    unused = np.flatnonzero(counts == 0)
    points = np.unique(np.linspace(0, max(len(seen) - 1, 0), CURVE_POINTS).astype(int))
    return {
        "classes": len(counts), "seen": len(seen), "unused": unused.tolist(),
        "frames_min": int(seen[-1]) if len(seen) else 0,
        "frames_median": float(np.median(seen)) if len(seen) else 0.0,
        "frames_max": int(seen[0]) if len(seen) else 0,
        "by_rank": {"rank": (points + 1).tolist(), "frames": seen[points].tolist()}
        if len(seen) else {"rank": [], "frames": []},
    }  # fmt: skip


def _pass_row(p: Mapping) -> dict:
    iterations, failures = p.get("iterations", 0), p.get("failures", 0)
    rows = iterations if isinstance(iterations, list) else []
    return {
        **{k: p.get(k) for k in PASS_KEYS},
        "iterations": len(rows) if rows else 0 if isinstance(iterations, list) else iterations,
        "failures": len(failures) if isinstance(failures, list) else failures,
        "frames_per_cpu_s": p.get("align_frames_per_cpu_s", p.get("frames_per_s")),
        "curve": [r["loglik_per_frame"] for r in rows if "loglik_per_frame" in r],
    }


def summary_lines(report: Mapping) -> list[str]:
    """Return the lines that a terminal shows of a report."""
    return [
        *_coverage_lines(report),
        *_pass_lines(report["passes"]),
        *_agreement_lines(report["agreement"]),
        *_warning_lines(report),
    ]


def _coverage_lines(report: Mapping) -> Iterator[str]:
    c, durations = report["coverage"], report["phones"]["durations"]
    yield (
        f"{c['aligned']:,} of {c['utterances']:,} utterances aligned, "
        f"{duration(c['seconds_aligned'])}, {c['skipped']:,} skipped"
    )
    yield from (f"  skipped: {reason}: {n:,}" for reason, n in c["reasons"].items())
    share = report["phones"]["silence_share"]
    speech = [r for name, r in durations.items() if not is_silence(name)]
    if speech and share is not None:
        count = sum(r["count"] for r in speech)
        mean = 1000 * sum(r["total_s"] for r in speech) / count
        short = sum(r["shortest_share"] * r["count"] for r in speech) / count
        yield (
            f"{count:,} phones of {mean:.0f} ms on average, {short:.1%} of the shortest possible "
            f"length; silence {share:.1%}"
        )
    k = report["classes"]
    yield (
        f"{k['seen']:,} of {k['classes']:,} classes seen; frames per class: "
        f"{k['frames_min']:,} to {k['frames_max']:,}, median {k['frames_median']:,.0f}"
    )


def _agreement_lines(agreement: Mapping) -> Iterator[str]:
    for pair, shares in agreement.items():
        parts = ", ".join(f"{key} {share:.1%}" for key, share in shares.items())
        yield f"frames on which {' and '.join(pair.split(', '))} agree: {parts}"


def _pass_lines(passes: list[dict]) -> Iterator[str]:
    if not passes:
        return
    yield (
        f"{'pass':<10}{'iterations':>11}{'states':>8}{'Gaussians':>11}{'ll/frame':>11}"
        f"{'failed':>8}{'frames/cpu s':>14}{'seconds':>10}"
    )
    for p in passes:
        seconds = p["cpu_s"] if p["cpu_s"] is not None else p["wall_s"]
        score = p["loglik_per_frame"]
        yield (
            f"{p['name'] or '?':<10}{p['iterations']:>11}{_number(p['states']):>8}"
            f"{_number(p['gaussians']):>11}{'-' if score is None else f'{score:.3f}':>11}"
            f"{_number(p['failures']):>8}{_number(p['frames_per_cpu_s']):>14}"
            f"{_number(seconds):>10}"
        )


def _warning_lines(report: Mapping) -> Iterator[str]:
    scores = report["scores"]
    bad = [w["utt"] for w in scores["worst"] if w["outlier"]]
    if bad:
        yield (
            f"{count(scores['outliers'], 'utterance')} scored far below the others, perhaps wrong "
            f"transcripts: {', '.join(bad[:5])}" + (", ..." if scores["outliers"] > 5 else "")
        )
    if report.get("check") is not None:
        yield check_line(report["check"])
    figure = report.get("figure", "")
    if figure.startswith("not drawn"):
        yield f"figure {figure}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
