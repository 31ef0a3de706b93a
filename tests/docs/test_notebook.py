# SPDX-License-Identifier: Apache-2.0
"""The notebook of the demo runs from its first cell to its last, on less speech than it says."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks/demo.ipynb"
TINY = [
    "--prepare.args="
    "[--train-minutes, '0.4', --train-speakers, '2', --dev-utts, '2', --test-utts, '3']",
    "--finetune.args.max_epoch=1",
    "--finetune.args.encoder_conf={num_blocks: 1, output_size: 32, linear_units: 32}",
    "--finetune.args.decoder_conf={linear_units: 32}",
    "--ngpu=0",
    "--force",  # packs a model that recognises nothing
]


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A tree with the recipe, and the environment of this process for the kernel."""
    for folder in ("egs2/synth/asr1", "utils"):
        made = shutil.ignore_patterns("data", "dump", "exp", ".stages", "results", "RESULTS.md")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=made)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def test_the_demo_runs(clone):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    options = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", ()))
    options.source = f"OPTIONS = {TINY!r}"
    (clone / "notebooks").mkdir()
    where = {"metadata": {"path": str(clone / "notebooks")}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where)
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable  # whatever kernels the user has
    client.execute()
    shown = [o for c in notebook.cells for o in c.get("outputs", ())]
    text = "".join(o.get("text", "") for o in shown)
    assert "stage 10/10 pack: done" in text and text.count("heard: ") == 3
    kinds = {kind for o in shown for kind in o.get("data", {})}
    assert {"text/markdown", "image/png", "text/html"} <= kinds


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not c.outputs and c.execution_count is None
               for c in notebook.cells if c.cell_type == "code")  # fmt: skip
