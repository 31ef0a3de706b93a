# SPDX-License-Identifier: Apache-2.0
"""Pictures of a classification: what they count, and that they are drawn."""

import sys
from itertools import pairwise

import numpy as np
import pytest

from espnet_ext.errors import DataError, SetupError
from espnet_ext.scoring.intent_plots import (
    _counts,
    _shown_labels,
    confusion_matrix,
    mean_pair_cosine,
    principal_components,
    representation_pairs,
)

LABELS = {"u1": "a", "u2": "a", "u3": "b$", "u4": "c"}
FOUND = {"u1": "a", "u2": "b$", "u3": "b$", "u4": "a"}
CLASSES = ["a", "b$", "c", "never"]
PNG = b"\x89PNG"


def vectors(n=12, dims=5):
    rng = np.random.default_rng(0)
    manual = rng.normal(size=(n, dims))
    return manual, manual + 0.1 * rng.normal(size=(n, dims)), ["x"] * (n - 2) + ["y"] * 2


def test_rows_are_labels_and_columns_predictions():
    expected = [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert _counts(LABELS, FOUND, CLASSES).tolist() == expected


def test_components_are_those_of_an_eigendecomposition():
    rows = np.random.default_rng(1).normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1] + 7
    points, explained = principal_components(rows)
    values, axes = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(axis=0)) @ axes[:, ::-1][:, :2]
    assert np.abs(points) == pytest.approx(np.abs(expected))
    assert explained == pytest.approx(100 * values[::-1][:2] / values.sum())


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (2, 50), (50, 2)])
def test_components_of_few_rows_or_dimensions_are_finite(shape):
    rows = np.random.default_rng(2).normal(size=shape)
    points, explained = principal_components(rows)
    assert points.shape == (shape[0], 2) and np.isfinite(points).all()
    assert 0 <= explained.sum() <= 100 + 1e-9
    again, _ = principal_components(rows + 3.0)
    assert again == pytest.approx(points)


def test_the_mean_cosine_is_of_pairs():
    manual = np.array([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    asr = np.array([[3.0, 0.0], [5.0, 0.0], [1.0, 1.0]])
    assert mean_pair_cosine(manual, asr) == pytest.approx(1 / 3)


def test_frequent_labels_have_colours_and_the_rest_one():
    shown = _shown_labels([c for i, c in enumerate("abcdefghij") for _ in range(10 - i)])
    assert [*shown] == ["", *"abcdefgh"]
    assert len({*shown.values()}) == 9
    assert [*_shown_labels(list("bba"))] == ["b", "a"]


def test_pictures_are_drawn_the_same_every_time(tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        path = confusion_matrix(LABELS, FOUND, CLASSES, tmp_path / f"{name}_c.png")
        assert path.read_bytes().startswith(PNG)
        path = representation_pairs(*vectors(), tmp_path / "new" / f"{name}_p.png")
        assert path.read_bytes().startswith(PNG)
    assert (tmp_path / "one_c.png").read_bytes() == (tmp_path / "two_c.png").read_bytes()
    one, two = ((tmp_path / "new" / f"{n}_p.png").read_bytes() for n in ("one", "two"))
    assert one == two


def test_texts_of_a_large_matrix_do_not_overlap(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from espnet_ext.scoring import intent_plots

    figures = []
    monkeypatch.setattr(intent_plots, "save", lambda figure, path: figures.append(figure))
    classes = [f"scenario_with_action_{i:02d}" for i in range(60)]
    labels = {f"u{i}": classes[i % 60] for i in range(120)}
    confusion_matrix(labels, labels, classes, tmp_path / "x.png")
    canvas = FigureCanvasAgg(figures[0])
    canvas.draw()
    axes = figures[0].axes[0]
    for texts, low, high in ((axes.get_yticklabels(), "y0", "y1"),
                             (axes.get_xticklabels(), "x0", "x1")):  # fmt: skip
        boxes = [t.get_window_extent(canvas.get_renderer()) for t in texts]
        boxes.sort(key=lambda b: getattr(b, low))
        assert all(getattr(a, high) <= getattr(b, low) for a, b in pairwise(boxes))
        assert all(b.x0 >= 0 and b.y0 >= 0 for b in boxes)


@pytest.mark.parametrize(
    ("labels", "found", "classes"),
    [({}, {}, ["a"]), (LABELS, {"u1": "a"}, CLASSES), (LABELS, FOUND, ["a", "c"])],
)
def test_confusions_of_other_utterances_or_labels_are_refused(tmp_path, labels, found, classes):
    with pytest.raises(DataError):
        confusion_matrix(labels, found, classes, tmp_path / "x.png")


@pytest.mark.parametrize(
    ("manual", "asr", "labels"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), ["a", "b"]),
        (np.zeros((2, 3)), np.zeros((2, 3)), ["a"]),
        (np.zeros((0, 3)), np.zeros((0, 3)), []),
        (np.zeros(3), np.zeros(3), ["a"]),
        (np.full((1, 2), np.nan), np.zeros((1, 2)), ["a"]),
    ],
)
def test_what_makes_no_pairs_is_refused(tmp_path, manual, asr, labels):
    with pytest.raises(DataError):
        representation_pairs(manual, asr, labels, tmp_path / "x.png")


def test_missing_matplotlib_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SetupError, match="matplotlib"):
        confusion_matrix(LABELS, FOUND, CLASSES, tmp_path / "x.png")
    with pytest.raises(SetupError, match="plot"):
        representation_pairs(*vectors(), tmp_path / "x.png")
