# SPDX-License-Identifier: Apache-2.0
"""Retrieval accuracy and cosines as metrics."""

import numpy as np
import pytest

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError
from espnet_ext.scoring import metrics
from espnet_ext.scoring.score import score_files


def test_a_hit_is_the_right_meaning():
    metric = metrics.find("retrieval")
    scored = metric.score_set({"a": "m1", "b": "m 2"}, {"a": "m1", "b": "m1"})
    assert metric.of_totals(scored.totals) == 50.0
    assert (metric.ref_file, metric.hyp_file) == ("meaning", "retrieved")
    assert metrics.find("retrieval_other").hyp_file == "retrieved_other"


def test_without_a_key_a_sentence_means_itself(tmp_path):
    write_table(tmp_path / "plain", {"u": "le mans", "v": "le lac"})
    write_table(tmp_path / "retrieved", {"u": "le mans", "v": "le mans"})
    found = score_files(metrics.load(["retrieval"]), tmp_path, tmp_path)
    assert found["metrics"]["retrieval"]["value"] == 50.0
    write_table(tmp_path / "meaning", {"u": "m1", "v": "le mans"})
    again = score_files(metrics.load(["retrieval"]), tmp_path, tmp_path)
    assert again["metrics"]["retrieval"]["per_utt"]["correct"] == [0, 1]
    assert found["ref_sha256"] != again["ref_sha256"]


def test_the_mean_cosine_is_kept_in_whole_counts():
    metric = metrics.find("cosine")
    values = np.array([-1.0, 0.123456, 1.0000001, 0.5])
    refs = dict.fromkeys("abcd", "oui")
    scored = metric.score_set(refs, dict(zip("abcd", map(str, values), strict=True)))
    assert metric.of_totals(scored.totals) == pytest.approx(100 * values.mean(), abs=1e-4)
    assert np.isnan(metric.value(np.zeros((1, 2)))).all()


@pytest.mark.parametrize("text", ["nan", "", "1.1", "x", "inf"])
def test_what_is_no_cosine_is_refused(text):
    with pytest.raises(DataError, match="is no cosine"):
        metrics.find("cosine").score_set({"a": "oui"}, {"a": text})


def test_what_a_set_cannot_measure_is_left_out(tmp_path):
    """No sentences of other languages, or no meanings: the other scores stand."""
    write_table(tmp_path / "text", {"u": "<a> x >"})
    write_table(tmp_path / "meaning", {"u": "m"})
    write_table(tmp_path / "retrieved", {"u": "m"})
    names = ["concept", "retrieval", "retrieval_other", "before_retrieval", "before_cosine"]
    scored = score_files(metrics.load(names), tmp_path, tmp_path)
    assert [*scored["metrics"]] == ["concept", "retrieval"]
    with pytest.raises(DataError, match="nothing to score"):
        score_files(metrics.load(["cosine"]), tmp_path, tmp_path)
    with pytest.raises(DataError, match="text is missing"):
        score_files(metrics.load(["concept", "retrieval"]), tmp_path, tmp_path / "none")
