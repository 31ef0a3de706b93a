# SPDX-License-Identifier: Apache-2.0
"""The figure of an alignment report: passes, phone durations, scores, frames per class."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import SetupError
from espnet_ext.files import atomic_path
from espnet_ext.installation import install
from espnet_ext.lang.phones import is_silence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_PHONES = 48  # more names cannot be read side by side
MAX_LETTERS = 150  # of names side by side that need not be turned
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
            install(extra="plot"),
        ) from e  # fmt: skip
    figure = Figure(figsize=(14, 9), dpi=100, layout="constrained")
    panels = figure.subplot_mosaic([["passes", "scores", "classes"], ["durations"] * 3])
    about, c = report["alignment"], report["coverage"]
    figure.suptitle(
        f"{about['source'] or about['folder']}: {c['aligned']:,} of {c['utterances']:,} utterances,"
        f" {c['seconds_aligned'] / 3600:.2f} h"
    )
    _passes(panels["passes"], report["passes"])
    _durations(panels["durations"], report["phones"]["durations"])
    _scores(panels["scores"], report["scores"])
    _classes(panels["classes"], report["classes"])
    for ax in panels.values():
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
    ax.xaxis.get_major_locator().set_params(integer=True)
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
    wide = max(map(len, names)) * len(names) > MAX_LETTERS
    ax.set_xticks(range(len(names)), names, rotation=90 if wide else 0, fontsize=12)
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
    ax.yaxis.get_major_locator().set_params(integer=True)
    ax.grid(axis="y", alpha=0.3)
    ax.set_xlabel("log-likelihood per frame")
    ax.set_ylabel("utterances")
    bad = [w["loglik_per_frame"] for w in scores["worst"] if w["outlier"]]
    if bad:
        # No further left than the bars are wide: what lies beyond stands at the edge.
        least = edges[0] - 0.5 * (edges[-1] - edges[0])
        beyond = sum(x < least for x in bad)
        label = f"{scores['outliers']:,} far below the others" + (
            f",\ndown to {min(bad):.1f}" if beyond else ""
        )
        at = [max(x, least) for x in bad]
        ax.plot(at, [0] * len(at), "v", color=RED, ms=8, clip_on=False, label=label)
        ax.set_ylim(top=1.25 * max(counts))  # room for the legend
        ax.legend(loc="upper left", fontsize="small", frameon=False)
    return None


def _classes(ax: "Axes", classes: Mapping) -> None:
    ax.set_title("Frames per class, most frequent first")
    rank, frames = classes["by_rank"]["rank"], classes["by_rank"]["frames"]
    if not rank:
        return _nothing(ax, "no frames")
    ax.plot(rank, frames, "." if len(rank) == 1 else "-", color=BLUE)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel(f"{classes['seen']:,} classes seen, {len(classes['unused']):,} unused")
    ax.set_ylabel("frames")
    ax.axhline(classes["frames_median"], color=GREY, lw=0.8, ls=":")
    ax.annotate(
        f"median {classes['frames_median']:,.0f}", (1, classes["frames_median"]), (0, 3),
        xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", color=GREY,
    )  # fmt: skip
    ax.grid(axis="y", alpha=0.3)
    return None
