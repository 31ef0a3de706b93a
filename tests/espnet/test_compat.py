# SPDX-License-Identifier: Apache-2.0
"""What smooths ESPnet's edges: a silent import, and editdistance where it has no wheel."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from espnet_ext.espnet import compat


def test_imports_are_silent_and_errors_are_not_swallowed(capsys):
    with compat.quiet_import():
        print("noise")
        print("noise", file=sys.stderr)
    with pytest.raises(ImportError), compat.quiet_import():
        raise ImportError
    assert capsys.readouterr() == ("", "")


def test_recognising_in_a_process_of_its_own_says_nothing(tmp_path):
    torch.save({}, tmp_path / "empty.pth")  # a lost one would be told before ESPnet is imported
    code = "from espnet_ext.espnet.recognise import Beam\ntry:\n"
    code += "    Beam('no.yaml', 'empty.pth', {})\nexcept FileNotFoundError: pass"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("a", "b", "distance"), [("kitten", "sitting", 3), ([1, 2, 3], [1, 3], 1), ("", "ab", 2)]
)
def test_the_substitute_for_editdistance_computes_the_same(monkeypatch, a, b, distance):
    monkeypatch.delitem(sys.modules, "editdistance", raising=False)
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *x: None if name == "editdistance" else find(name, *x),
    )
    compat.provide_editdistance()
    import editdistance

    assert editdistance.eval(a, b) == distance
    monkeypatch.delitem(sys.modules, "editdistance")
