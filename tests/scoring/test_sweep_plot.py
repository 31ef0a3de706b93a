# SPDX-License-Identifier: Apache-2.0
"""The picture of a sweep is written, is the same each time, and refuses what it cannot show."""

import re
import sys

import pytest

from espnet_ext.errors import DataError, SetupError
from espnet_ext.installation import install
from espnet_ext.scoring.sweep_plot import SweepPoint, is_geometric, plot_sweep

POINTS = [
    SweepPoint(0.5, 9.0, 8.5, 9.5, "_new $x$"),
    SweepPoint(0.1, 10.0, 9.5, 10.5, "_new $x$"),
    SweepPoint(0.1, 12.0, 11.5, 12.5, "baseline"),
]


def test_a_png_is_written_and_does_not_depend_on_the_order(tmp_path):
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "a.png", tmp_path / "new" / "b.png"]
    for path, points in zip(paths, (POINTS, POINTS[::-1]), strict=True):
        assert plot_sweep(points, "weight $", "WER (%)", path) == path
    first, second = (p.read_bytes() for p in paths)
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    assert first == second
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "new"]


def test_the_picture_shows_the_values(tmp_path):
    pytest.importorskip("matplotlib")
    moved = [POINTS[0]._replace(high=9.9), *POINTS[1:]]
    pictures = [
        plot_sweep(p, "x", "y", tmp_path / f"{i}.png") for i, p in enumerate((POINTS, moved))
    ]
    assert pictures[0].read_bytes() != pictures[1].read_bytes()


def test_names_stand_in_the_order_given_and_are_not_joined(tmp_path, drawn):
    points = [
        SweepPoint(x, y, y - 1, y + 1, g)
        for g, y in (("new", 9.0), ("old", 11.0))
        for x in ("tri", "mono", "$a")
    ]
    plot_sweep(points, "alignment", "WER (%)", tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["tri", "mono", r"\$a"]
    assert [line.get_linestyle() for line in axes.lines] == ["None", "None"]
    new, old = (line.get_xdata() for line in axes.lines)
    assert all(0 < b - a < 0.5 for a, b in zip(new, old, strict=True))  # side by side
    assert [round(x) for x in new] == [0, 1, 2]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.01, 0.1, 1.0], True),
        ([1e-4, 3e-4, 1e-3], True),
        ([1, 2, 4, 8, 16], True),
        ([16, 1, 4, 2, 8], True),  # the order of the points does not matter
        ([0.1, 0.2, 0.3, 0.4, 0.5], False),
        ([1, 2, 3, 4, 5, 6, 7, 8], False),
        ([0, 0.1, 1.0], False),  # 0 has no place on a logarithmic axis
        ([0.5, 1.0, 2.0], False),  # readable as it is
        ([1, 100], False),
    ],
)
def test_a_geometric_grid_is_found(values, expected):
    assert is_geometric(values) is expected


def test_a_geometric_sweep_has_a_logarithmic_axis_marked_at_its_values(tmp_path, drawn):
    values = [1e-4, 3e-4, 1e-3]
    plot_sweep([SweepPoint(x, 9, 8, 10) for x in values], "rate", "WER (%)", tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.0001", "0.0003", "0.001"]
    assert not axes.get_xticks(minor=True).size
    plot_sweep([SweepPoint(x, 9, 8, 10) for x in (1, 2, 3)], "x", "y", tmp_path / "b.png")
    assert drawn[1].axes[0].get_xscale() == "linear"


def test_no_point_is_refused(tmp_path):
    with pytest.raises(DataError, match="no point"):
        plot_sweep([], "x", "y", tmp_path / "a.png")


def test_two_points_at_one_place_are_refused(tmp_path):
    with pytest.raises(DataError, match="baseline"):
        plot_sweep([*POINTS, POINTS[2]], "x", "y", tmp_path / "a.png")
    with pytest.raises(DataError, match="= mono"):
        plot_sweep([POINTS[0]._replace(x="mono")] * 2, "x", "y", tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_a_missing_matplotlib_names_the_extra(tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(SetupError, match=re.escape(install(extra="plot"))):
        plot_sweep(POINTS, "x", "y", tmp_path / "a.png")
