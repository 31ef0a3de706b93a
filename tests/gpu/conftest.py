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
    return _module(f"{folder}/conftest.py")


def _module(path):
    name = path.removesuffix(".py").replace("/", "_")
    spec = importlib.util.spec_from_file_location(f"{name}_of_tests", TESTS / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


METHODS = ("bl_just", "weak_align", "ml_lmcl", "dual_task")
_bl_just, _weak_align, _ml_lmcl, _dual_task = map(_fixtures, METHODS)
unlabelled_dir, bl_argv = _bl_just.unlabelled_dir, _bl_just.bl_argv
tiny_alignment, align_argv = _weak_align.tiny_alignment, _weak_align.align_argv
text_corpus = _ml_lmcl.text_corpus
dual_data, dual_argv = _dual_task.dual_data, _dual_task.dual_argv


@pytest.fixture(scope="session")
def dual_raw_argv(dual_argv, tmp_path_factory):
    """Options of a training on a converted speech encoder."""
    tiny = _module("dual_task/tiny_speech_encoder.py")
    folder = tmp_path_factory.mktemp("speech_encoder")
    return tiny.training(dual_argv, folder)
