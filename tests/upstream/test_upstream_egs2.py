# SPDX-License-Identifier: Apache-2.0
"""The layout egs2: what setup.sh makes, the method inside espnet2, options through model_conf."""

import os
from pathlib import Path

import pytest
import yaml
from conftest import git

from espnet_ext import cli
from espnet_ext.errors import DataError
from espnet_ext.upstream import checks, checks_egs2, dynamic, egs2
from espnet_ext.upstream.checks import Branch, Check

ROOT = Path(__file__).resolve().parents[2]
HERE = "egs2/an4/asr1_weak_align"


def run(checkout, recipe, monkeypatch, *more):
    for module, name in ((checks_egs2, "tests"), (checks_egs2, "dry_run"), (dynamic, "tests")):
        monkeypatch.setattr(module, name, lambda branch: Check("a run", checks.MISSING, "slow"))
    recipe = str(ROOT / "egs2" / recipe)
    return cli.main(["upstream", recipe, "--espnet", str(checkout), "--layout", "egs2", *more])


def test_weak_align(checkout_egs2, with_speeds, monkeypatch, capfd):
    assert run(checkout_egs2, with_speeds, monkeypatch) == 0, capfd.readouterr().out
    folder = checkout_egs2.with_name("espnet-ext-an4-weak_align")
    out = capfd.readouterr().out
    assert "12 files" in out and "12 made by setup.sh" in out and "8 links" in out
    recipe = folder / HERE
    assert os.readlink(recipe / "asr.sh") == "../../TEMPLATE/asr1/asr.sh"
    assert (recipe / "local/data.sh").is_file()
    assert os.access(recipe / "run.sh", os.X_OK)
    config = yaml.safe_load((recipe / "conf/train_asr_weak_align.yaml").read_text())
    page = (recipe / "README.md").read_text()
    assert "data/train_nodev data/train_dev --speeds 0.9 1.1\n" in page
    assert "aux" not in config and config["model"] == "weak_align"
    assert config["model_conf"]["align_conf"]["layer"] == 3
    assert config["batch_bins"] == 240000  # ESPnet2's options, as they are
    diff = git(folder, "diff", "--cached", "-U0", "master", "--", "espnet2/tasks/asr.py")
    added = [x[1:].strip() for x in diff.splitlines() if x.startswith("+") and x[1] != "+"]
    assert added == [
        "from espnet2.asr.weak_align_model import ESPnetWeakAlignASRModel",
        "weak_align=ESPnetWeakAlignASRModel,",
        'retval = retval + ["prompt", "align"]',
    ]
    assert not any("espnet_ext" in p.read_text() for p in (folder / "espnet2").rglob("*.py"))
    (recipe / "cmd.sh").write_text("changed\n")
    one = Branch(folder, HERE, (f"{HERE}/cmd.sh",), "")
    assert checks_egs2.copies(one).state == checks.FAILED
    assert checks_egs2.entries(one).state == checks.OK
    (folder / "egs2/README.md").write_text("")
    assert "no row of an4" in checks_egs2.entries(one).detail
    assert git(checkout_egs2, "status", "--porcelain") == ""


def test_asr_has_no_python(checkout_egs2, monkeypatch, capfd):
    assert run(checkout_egs2, "an4/asr1", monkeypatch) == 0, capfd.readouterr().out
    folder = checkout_egs2.with_name("espnet-ext-an4-asr")
    text = (folder / "egs2/an4/asr1_conformer/run.sh").read_text()
    assert '--speed_perturb_factors "0.9 1.0 1.1"' in text
    assert "align" not in text


def test_a_task_that_has_changed_is_told(wheel):
    task = (wheel / "espnet2/tasks/asr.py").read_text(encoding="utf-8")
    assert egs2.edited(task) != task
    with pytest.raises(DataError, match="not once"):
        egs2.edited(task.replace("pit_espnet=PITESPnetModel,", ""))


def test_a_corpus_that_espnet_does_not_have_is_refused(checkout_egs2, monkeypatch, capfd):
    assert run(checkout_egs2, "babel_tagalog/weak_align1", monkeypatch) == 2
    assert "data preparation of babel_tagalog" in capfd.readouterr().err
