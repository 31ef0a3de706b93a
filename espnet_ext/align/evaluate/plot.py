# SPDX-License-Identifier: Apache-2.0
"""The figure of an alignment report: passes, phone durations, scores, frames per class."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import SetupError
from espnet_ext.files import atomic_path
from espnet_ext.lang.phones import is_silence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PHONES = 48  # more names cannot be read side by side
BLUE, RED, GREY = "#2b6a99", "#b5343c", "#9aa3ab"


def draw(report: Mapping, path: Path | str) -> None:
    """Draw four panels of a report (see report.py) as PNG.

    Raises:
        SetupError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise SetupError(
            "drawing an alignment report needs matplotlib", path,
            "pip install 'espnet_ext[plot]' (or [dev])",
        ) from e  # fmt: skip
    figure = Figure(figsize=(14, 9), dpi=100, layout="constrained")
    axes = figure.subplots(2, 2)
    about, c = report["alignment"], report["coverage"]
    figure.suptitle(
        f"{about['source'] or about['folder']}: {c['aligned']:,} of {c['utterances']:,} utterances,"
        f" {c['seconds_aligned'] / 3600:.2f} h"
    )
    _passes(axes[0, 0], report["passes"])
    _durations(axes[0, 1], report["phones"]["durations"])
    _scores(axes[1, 0], report["scores"])
    _classes(axes[1, 1], report["classes"])
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as tmp:
        figure.savefig(tmp, format="png")


def _nothing(ax: "Axes", text: str) -> None:
    ax.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=ax.transAxes)
    ax.set_xticks([])
    ax.set_yticks([])


def _passes(ax: "Axes", passes: list[dict]) -> None:
    ax.set_title("Training: log-likelihood per frame")
    # A hybrid's scores are posteriors over priors: not on the scale of densities.
    shown = [p for p in passes if p["curve"] and p["gaussians"] is not None]
    if not shown:
        return _nothing(ax, "no training passes with Gaussians")
    at = 0
    for n, p in enumerate(shown):
        curve = p["curve"]
        label = f"{p['name']}: {curve[-1]:.2f}, {p['gaussians']:,} Gaussians"
        ax.plot(range(at + 1, at + len(curve) + 1), curve, ".-", color=f"C{n}", label=label)
        at += len(curve)
        if n + 1 < len(shown):
            ax.axvline(at + 0.5, color=GREY, lw=0.8, ls=":")
    ax.set_xlabel("iteration, passes one after another")
    ax.margins(y=0.08)
    ax.grid(axis="y", alpha=0.3)
    ax.legend(loc="lower right", frameon=False, fontsize="small")
    return None


def _durations(ax: "Axes", durations: Mapping[str, Mapping]) -> None:
    ax.set_title("Duration of phones: median, 5 % to 95 %")
    speech = {name: d for name, d in durations.items() if not is_silence(name)}
    if not speech:
        return _nothing(ax, "no phones")
    names = sorted(speech, key=lambda name: -speech[name]["count"])[:MAX_PHONES]
    names.sort(key=lambda name: speech[name]["median_ms"])
    for x, name in enumerate(names):
        d = speech[name]
        ax.plot([x, x], [d["p5_ms"], d["p95_ms"]], color=GREY, lw=3, solid_capstyle="butt")
        ax.plot([x], [d["median_ms"]], "o", color=BLUE, ms=4)
    ax.set_xticks(range(len(names)), names, rotation=90 if len(names) > 24 else 0)
    more = f" (the {len(names)} most frequent of {len(speech)})" if len(speech) > len(names) else ""
    ax.set_xlabel("phone" + more)
    ax.set_ylabel("ms")
    ax.set_ylim(bottom=0)
    ax.set_xlim(-1, len(names))
    ax.grid(axis="y", alpha=0.3)
    return None


def _scores(ax: "Axes", scores: Mapping) -> None:
    ax.set_title("Utterances by score")
    if not scores["utterances"]:
        return _nothing(ax, "the alignment has no scores")
    edges, counts = scores["histogram"]["edges"], scores["histogram"]["counts"]
    ax.stairs(counts, edges, fill=True, color=BLUE, alpha=0.8)
    ax.set_yscale("symlog", linthresh=1)  # single bad utterances beside thousands of good ones
    ax.set_ylim(0, 2.5 * max(counts))
    ticks = [10**n for n in range(len(str(max(counts))))]
    ax.set_yticks([0, *ticks], ["0", *(f"{t:,}" for t in ticks)])
    ax.minorticks_off()
    ax.set_xlabel("log-likelihood per frame")
    ax.set_ylabel("utterances")
    bad = [w for w in scores["worst"] if w["outlier"]]
    if bad:
        label = f"{scores['outliers']:,} far below the others:\nperhaps wrong transcripts"
        x = [w["loglik_per_frame"] for w in bad]
        ax.plot(x, [0.5] * len(x), "v", color=RED, ms=7, label=label)
        ax.legend(loc="upper left", fontsize="small")  # framed: its marker is no utterance
    return None


def _classes(ax: "Axes", classes: Mapping) -> None:
    ax.set_title("Frames per class, most frequent first")
    rank, frames = classes["by_rank"]["rank"], classes["by_rank"]["frames"]
    if not rank:
        return _nothing(ax, "no frames")
    ax.plot(rank, frames, "." if len(rank) == 1 else "-", color=BLUE)
    ax.set_yscale("log")
    ax.set_xlabel(f"{classes['seen']:,} classes seen, {len(classes['unused']):,} unused")
    ax.set_ylabel("frames")
    ax.axhline(classes["frames_median"], color=GREY, lw=0.8, ls=":")
    ax.annotate(
        f"median {classes['frames_median']:,.0f}", (1, classes["frames_median"]), (0, 3),
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", color=GREY,
    )  # fmt: skip
    ax.grid(axis="y", alpha=0.3)
    return None
