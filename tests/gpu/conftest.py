# SPDX-License-Identifier: Apache-2.0
"""Where the tests of this folder run: on a GPU, or with GPU_TESTS_ON=cpu their logic on a CPU."""

import importlib.util
import os
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
ON_CPU = os.environ.get("GPU_TESTS_ON") == "cpu"


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available() or ON_CPU:
        return
    skip = pytest.mark.skip(reason="no GPU here; GPU_TESTS_ON=cpu runs the same steps on a CPU")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(skip)


def _fixtures(folder):
    spec = importlib.util.spec_from_file_location(
        f"{folder}_fixtures", TESTS / folder / "conftest.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_bl_just, _weak_align, _ml_lmcl = (_fixtures(x) for x in ("bl_just", "weak_align", "ml_lmcl"))
unlabelled_dir, bl_argv = _bl_just.unlabelled_dir, _bl_just.bl_argv
tiny_alignment, align_argv = _weak_align.tiny_alignment, _weak_align.align_argv
text_corpus = _ml_lmcl.text_corpus
