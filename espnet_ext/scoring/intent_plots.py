# SPDX-License-Identifier: Apache-2.0
"""Pictures of a classification: which labels are confused, where paired transcripts lie."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from espnet_ext.errors import DataError
from espnet_ext.scoring.plot import literal, new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe-Ito without black and yellow, and two more: told apart by colour-blind readers on white.
_COLORS = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#E69F00", "#5B2A86", "#7F7F00"),
)
_GREY = "#a0a5aa"
_NAME = 36  # letters of a class that are shown
_PAIRS = 400  # more pairs cover one another


def confusion_matrix(
    labels: Mapping[str, str],
    predictions: Mapping[str, str],
    classes: Sequence[str],
    path: Path | str,
) -> Path:
    """Draw a confusion matrix as PNG: colours by the share of a row, numbers are utterances.

    Args:
        labels: Utterance id to its label (rows).
        predictions: The same for the predicted label (columns).
        classes: All labels, in the order of rows and columns.
        path: File to write.

    Returns:
        ``path``.

    Raises:
        DataError: There is no utterance, the utterances differ, or a label is none of ``classes``.
        SetupError: matplotlib is not installed.
    """
    counts = _counts(labels, predictions, classes)
    right, total = int(np.trace(counts)), int(counts.sum())
    title = f"{right:,} of {total:,} right ({100 * right / total:.2f} %)"
    cells = {
        (classes[r], classes[c]): int(counts[r, c])
        for r, c in zip(*np.nonzero(counts), strict=True)
    }
    return draw_confusions(cells, classes, path, title, ("Predicted", "Label"), "utterances")


def draw_confusions(
    cells: Mapping[tuple[str, str], int],
    classes: Sequence[str],
    path: Path | str,
    title: str,
    axes: tuple[str, str],
    unit: str,
) -> Path:
    """Draw counts of pairs of classes as PNG: colours by the share of a row, numbers are counts.

    Args:
        cells: ``(row, column)`` to count; absent ones are 0.
        classes: All classes, in the order of rows and columns; at least one.
        path: File to write.
        title: What stands above.
        axes: Names of the axes of columns and of rows.
        unit: What is counted, in the plural.

    Returns:
        ``path``.

    Raises:
        SetupError: matplotlib is not installed.
    """
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for (row, column), number in cells.items():
        counts[place[row], place[column]] = number
    size, rows = len(classes), counts.sum(axis=1, keepdims=True)
    font = 9 if size <= 24 else 7
    side = (0.32 if size <= 24 else 0.26) * max(size, 6)
    figure = new_figure(path, (4.0 + side, 2.8 + 0.9 * side))
    plot = figure.add_subplot()
    share = 100.0 * counts / np.maximum(rows, 1)
    image = plot.imshow(share, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    _name_classes(plot, [literal(_short(c)) for c in classes], rows[:, 0], font)
    for row, column in zip(*np.nonzero(counts), strict=True):
        plot.text(
            column, row, str(counts[row, column]), ha="center", va="center", fontsize=font - 1,
            color="white" if share[row, column] > 55 else "black",
        )  # fmt: skip
    plot.set_xlabel(axes[0])
    plot.set_ylabel(f"{axes[1]} ({unit})")
    plot.set_title(title, fontsize=11)
    bar = figure.colorbar(image, ax=plot, fraction=0.05, pad=0.02, aspect=30)
    bar.set_label(f"% of the {axes[1].lower()}'s {unit}")
    return save(figure, path)


def _short(name: str) -> str:
    """Return a name that leaves room for the matrix."""
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _name_classes(plot: "Axes", names: Sequence[str], rows: np.ndarray, font: int) -> None:
    """Name rows and columns: how much a row stands on tells how much its colours mean."""
    size = len(names)
    plot.set_xticks(range(size), names, rotation=90, fontsize=font)
    of_row = [f"{name}  ({int(n)})" for name, n in zip(names, rows, strict=True)]
    plot.set_yticks(range(size), of_row, fontsize=font)
    plot.set_xticks(np.arange(size + 1) - 0.5, minor=True)
    plot.set_yticks(np.arange(size + 1) - 0.5, minor=True)
    plot.grid(which="minor", color="#e3e6e8", linewidth=0.5)
    plot.tick_params(which="minor", length=0)


def representation_pairs(
    manual: ArrayLike,
    asr: ArrayLike,
    labels: Sequence[str],
    path: Path | str,
) -> Path:
    """Draw representations of manual and ASR transcripts as PNG, a line between each pair.

    Two principal components, fitted on both sides together. At most 400 pairs are drawn, at even
    distances in the given order; components and the mean cosine are of all pairs.

    Args:
        manual: Representations of manual transcripts, ``(N, D)``.
        asr: Those of the ASR transcripts of the same utterances, ``(N, D)``.
        labels: Label of each pair, ``N``.
        path: File to write.

    Returns:
        ``path``.

    Raises:
        DataError: Shapes do not fit, there is no pair, or a value is not finite.
        SetupError: matplotlib is not installed.
    """
    a, b = _checked(manual, asr, labels)
    points, explained = principal_components(np.concatenate([a, b]))
    drawn = np.unique(np.linspace(0, len(a) - 1, min(len(a), _PAIRS)).round().astype(int))
    names = _shown_labels(labels)
    figure = new_figure(path, (8.2, 5.6))
    axes = figure.add_subplot()
    for name, color in names.items():  # from frequent to rare: the rare ones stay visible
        mine = [i for i in drawn if (labels[i] if labels[i] in names else "") == name]
        _draw_pairs(axes, points[mine], points[len(a) :][mine], color)
    axes.set_xlabel(f"First component ({explained[0]:.0f} % of the variance)")
    axes.set_ylabel(f"Second component ({explained[1]:.0f} %)")
    axes.set_title(_pairs_title(a, b, len(drawn)), fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.set_aspect("equal", adjustable="datalim")  # distances in both directions compare
    _legend(axes, names, labels)
    return save(figure, path)


def mean_pair_cosine(manual: ArrayLike, asr: ArrayLike) -> float:
    """Return the mean cosine of paired rows, ``(N, D)`` each; a row of zeros has cosine 0."""
    a, b = np.asarray(manual, dtype=np.float64), np.asarray(asr, dtype=np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean((a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)))


def principal_components(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first two principal components of ``(N, D)`` rows.

    Returns:
        Coordinates ``(N, 2)`` and the percent of the variance of each, ``(2,)``; 0 where there is
        no second one. The largest weight of a component is positive, so that equal data give equal
        pictures.
    """
    centred = np.asarray(rows, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    # R of a QR has the same right singular vectors, and as many rows as dimensions only.
    _, values, axes = np.linalg.svd(np.linalg.qr(centred, mode="r"), full_matrices=False)
    total = max(float((values**2).sum()), np.finfo(float).tiny)
    found = min(2, len(values))
    points, explained = np.zeros((len(centred), 2)), np.zeros(2)
    for i in range(found):
        sign = 1.0 if axes[i, np.abs(axes[i]).argmax()] >= 0 else -1.0
        points[:, i] = centred @ axes[i] * sign
        explained[i] = 100.0 * values[i] ** 2 / total
    return points, explained


def _counts(
    labels: Mapping[str, str], predictions: Mapping[str, str], classes: Sequence[str]
) -> np.ndarray:
    """Return utterances by label and prediction, ``(C, C)`` int64."""
    if not labels or labels.keys() != predictions.keys():
        differing = sorted(labels.keys() ^ predictions.keys())[:5]
        raise DataError(
            "labels and predictions must be of the same utterances, at least one", differing
        )
    place = {name: i for i, name in enumerate(classes)}
    unknown = sorted({*labels.values(), *predictions.values()} - place.keys())
    if unknown:
        raise DataError("labels that are none of the classes", ", ".join(unknown[:5]))
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for utt, label in labels.items():
        counts[place[label], place[predictions[utt]]] += 1
    return counts


def _checked(
    manual: ArrayLike, asr: ArrayLike, labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(manual, dtype=np.float64), np.asarray(asr, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or not a.size or len(labels) != len(a):
        raise DataError(
            "the representations do not make pairs",
            f"manual {a.shape}, asr {b.shape}, {len(labels)} labels",
            "give (N, D) twice and N labels, N > 0",
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise DataError("a representation is not finite", "manual or asr")
    return a, b


def _shown_labels(labels: Sequence[str]) -> dict[str, str]:
    """Return the colours of the most frequent labels; ``""``, first, stands for all others."""
    ordered = sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, _ in ordered[: len(_COLORS)]]
    shown = dict(zip(names, _COLORS, strict=False))
    return {"": _GREY, **shown} if len(ordered) > len(names) else shown


def _draw_pairs(axes: "Axes", manual: np.ndarray, asr: np.ndarray, color: str) -> None:
    """Draw pairs of one colour, ``(n, 2)`` each."""
    from matplotlib.collections import LineCollection

    lines = np.stack([manual, asr], axis=1)
    axes.add_collection(LineCollection(list(lines), colors=color, linewidths=0.8, alpha=0.5))
    axes.scatter(*asr.T, s=15, facecolors="white", edgecolors=color, linewidths=0.8, alpha=0.9)
    axes.scatter(*manual.T, s=12, color=color, alpha=0.8, linewidths=0)


def _pairs_title(manual: np.ndarray, asr: np.ndarray, drawn: int) -> str:
    title = f"Mean cosine of {len(manual):,} pairs: {mean_pair_cosine(manual, asr):.3f}"
    return title if drawn == len(manual) else f"{title} ({drawn:,} pairs drawn)"


def _legend(axes: "Axes", names: Mapping[str, str], labels: Sequence[str]) -> None:
    """One legend beside the plot: what the marks are, then what the colours are."""
    from matplotlib.lines import Line2D

    point: dict[str, Any] = {"ls": "", "marker": "o", "ms": 5}
    handles = [
        Line2D([], [], color="black", label="manual transcript", **point),
        Line2D([], [], color="black", label="ASR transcript", mfc="white", **point),
        Line2D([], [], color="black", label="same utterance", lw=0.8),
        Line2D([], [], ls="", label=" "),
    ]
    counts = Counter(labels)
    rest = sum(n for label, n in counts.items() if label not in names)
    for name, color in sorted(names.items(), key=lambda item: item[0] == ""):  # the others last
        text = f"{literal(name)} ({counts[name]})" if name else f"other labels ({rest})"
        handles.append(Line2D([], [], color=color, label=text, **point))
    axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9
    )
