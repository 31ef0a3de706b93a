# SPDX-License-Identifier: Apache-2.0
"""The aligner's benchmarks find what they import: they run by hand only."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAMES = sorted(p.stem for p in BENCHMARKS.glob("align_*.py") if p.stem != "align_khg")


@pytest.mark.parametrize("name", NAMES)
def test_its_imports_are_there(name, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    assert importlib.import_module(name).__doc__
