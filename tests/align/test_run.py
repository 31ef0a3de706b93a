# SPDX-License-Identifier: Apache-2.0
"""The whole aligner on synthetic speech whose phone times are known."""

import json
import shutil

import numpy as np
import pytest

from espnet_ext.align.compare import compare
from espnet_ext.align.directory import AlignmentDir
from espnet_ext.align.model import load
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import apply_aligner, save_model, train_aligner, write_pass
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError

FAST = {
    "mono": {"iterations": 12, "realign": [1, 2, 3, 4, 6, 8, 10], "gaussians": 250, "increase_until": 9},
    "tri": {"iterations": 8, "realign": [4], "increase_until": 6, "leaves": 150, "gaussians": 300},
    "lda_mllt": {"iterations": 6, "realign": [3], "increase_until": 4, "leaves": 150,
                 "gaussians": 250, "transforms": [2]},
    "sat": {"iterations": 6, "realign": [3], "increase_until": 4, "leaves": 150,
            "gaussians": 250, "transforms": [2]},
    "hybrid": {"epochs": 2, "units": 24, "layers": 1},
    "textgrid": False,
}  # fmt: skip


def quiet(line):
    pass


@pytest.fixture(scope="module")
def trained(spoken, tmp_path_factory):
    """A session with all passes of the default list."""
    work = tmp_path_factory.mktemp("align")
    o = from_dict({**FAST, "lexicon": str(spoken / "lexicon.txt")})
    session = train_aligner(spoken / "train", work / "work", o, map, quiet)
    save_model(session, work / "model", "hybrid", spoken / "train")
    return session, work


def test_boundaries_are_those_of_the_synthesiser(trained, spoken, tmp_path):
    session, work = trained
    save_model(session, work / "tri", "tri", spoken / "train")
    found, rows = apply_aligner(
        load(work / "tri"), spoken / "test", tmp_path / "out", tmp_path / "work", map, quiet
    )
    truth = compare(found.path, spoken / "manifest.jsonl").as_json()
    assert truth["phones"]["boundaries"]["median_ms"] <= 20
    assert truth["phones"]["boundaries"]["within_50_ms"] > 0.85
    assert rows[0]["aligned"] + len(found.skipped) == len(read_table(spoken / "test/text"))
