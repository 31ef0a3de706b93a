# SPDX-License-Identifier: Apache-2.0
"""The report of an alignment: its figures against counts by hand."""

import json
import sys

import numpy as np
import pytest

from espnet_ext.align.evaluate.report import robust_z, summary_lines, write_report
from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.errors import DataError

HEADER = Header("senone", 6, silence_ids=(0,), phones=("SIL", "a", "b"), source="tri")
PASSES = [
    {
        "name": "mono", "gaussians": 100, "states": 9, "loglik_per_frame": -51.0,
        "iterations": [{"iteration": i, "loglik_per_frame": -60.0 + i} for i in range(3)],
        "failures": [["x", "no path", ""]], "align_frames_per_cpu_s": 12345, "cpu_s": 3.5,
    },
    {"name": "hybrid", "iterations": [{"loglik_per_frame": 1.5}], "failures": [], "wall_s": 2.0},
]  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    """Ten utterances of 0.3 s, one of them far worse; two skipped."""
    with AlignmentWriter(tmp_path / "ali", HEADER, textgrid=False) as writer:
        for n in range(10):
            b = 0.13 if n else 0.23
            phones = [Interval(0, 0.1, "SIL"), Interval(0.1, b, "a"), Interval(b, 0.3, "b")]
            labels = np.repeat([0, 2, 4], 10)
            writer.add(f"u{n}", labels, phones, [], score=-90.0 if n == 4 else -50 - n / 10)
        writer.skip("s1", "no path", "beam")
        writer.skip("s2", "no audio")
    return tmp_path / "ali"


def test_one_outlier_is_told_in_the_singular(folder):
    report = json.loads(write_report(folder, passes=PASSES, extra={}).read_text())
    assert "1 utterance scored far below the others" in "\n".join(summary_lines(report))


def test_figures(folder):
    extra = {"agreement": {"mono, tri": {"phones": 0.9}}, "skipped_s": {"s1": 2.0}, "seed": 1}
    path = write_report(folder, passes=PASSES, extra=extra)
    r = json.loads(path.read_text())
    c = r["coverage"]
    assert c["utterances"] == c["aligned"] + c["skipped"] == 12
    assert (c["seconds_aligned"], c["seconds_skipped"], c["seconds"]) == (3.0, 2.0, 5.0)
    assert c["reasons"] == {"no path": 1, "no audio": 1}
    assert ["s1", "no path", "beam"] in c["skipped_list"]
    a = r["phones"]["durations"]["a"]
    assert (a["count"], a["median_ms"], a["p95_ms"], a["shortest_share"]) == (10, 30, 130, 0.9)
    assert a["longest"] == {"ms": 130, "utt": "u0", "start_s": 0.1}
    assert r["phones"]["silence_share"] == pytest.approx(1 / 3)
    assert [w["utt"] for w in r["scores"]["worst"] if w["outlier"]] == ["u4"]
    assert r["scores"]["worst"][1]["utt"] == "u9" and r["scores"]["outliers"] == 1
    histogram = r["scores"]["histogram"]  # of the nine others: their bars must be told apart
    assert sum(histogram["counts"]) == 9 and histogram["edges"][0] >= -51
    assert 2 <= len(histogram["counts"]) <= 9
    k = r["classes"]
    assert (k["seen"], k["unused"], k["frames_min"], k["frames_max"]) == (3, [1, 3, 5], 100, 100)
    assert [p["iterations"] for p in r["passes"]] == [3, 1]
    assert [p["failures"] for p in r["passes"]] == [1, 0]
    assert r["agreement"] == {"mono, tri": {"phones": 0.9}} and r["extra"] == {"seed": 1}
    lines = "\n".join(summary_lines(r))
    assert "10 of 12 utterances" in lines and "no path: 1" in lines and "u4" in lines


def test_the_figure(folder, monkeypatch):
    pytest.importorskip("matplotlib")
    r = json.loads(write_report(folder, passes=PASSES, extra={}).read_text())
    assert (folder / r["figure"]).read_bytes().startswith(b"\x89PNG")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    r = json.loads(write_report(folder, passes=PASSES, extra={}).read_text())
    assert "needs matplotlib" in r["figure"] and not (folder / "align_report.png").exists()
    assert "needs matplotlib" in summary_lines(r)[-1]


def test_an_import_without_scores_passes_or_words(tmp_path):
    with AlignmentWriter(tmp_path / "ali", HEADER, textgrid=False) as writer:
        writer.add("u", np.full(3, 5), [Interval(0, 0.03, "SIL")], [])
    r = json.loads(write_report(AlignmentDir(tmp_path / "ali"), passes=[], extra={}).read_text())
    assert r["scores"] == {"utterances": 0, "outliers": 0, "worst": []}
    assert r["coverage"]["seconds"] is None and r["phones"]["silence_share"] == 1
    assert summary_lines(r)[0].startswith("1 of 1 utterances")


def test_tables_that_do_not_fit(folder):
    scores = folder / "scores.tsv"
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match="different utterances"):
        write_report(folder, passes=[], extra={})


def test_robust_z():
    z = robust_z(np.array([1.0, 2, 3, 4, 100]))
    np.testing.assert_allclose(z, 0.6745 * np.array([-2, -1, 0, 1, 97]))
    assert not robust_z(np.ones(4)).any()
