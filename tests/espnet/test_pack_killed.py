# SPDX-License-Identifier: Apache-2.0
"""A kill while ESPnet packs leaves the archive of before, and nothing that the next run keeps."""

import os
import signal
import sys
import types
import zipfile

import pytest
from children import in_child

from espnet_ext import files
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.pack import pack_asr


@pytest.fixture
def packed(tmp_path, monkeypatch):
    """Return ``packed(text, die)``: pack a model of that text, as ESPnet's packer writes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fastimport, "enable", lambda: None)
    funcs = types.ModuleType("espnet2.main_funcs.pack_funcs")
    for name in ("espnet2", "espnet2.main_funcs"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, funcs.__name__, funcs)

    def pack_it(text, die):
        def pack(files, yaml_files, option, outpath):
            assert outpath.suffix == ".zip"
            with zipfile.ZipFile(outpath, "w") as z:
                z.writestr("model.pth", text)
                if die:
                    z.fp.flush()
                    os.kill(os.getpid(), signal.SIGKILL)

        funcs.pack = pack
        pack_asr(tmp_path / "config.yaml", tmp_path / "m.pth", [], tmp_path / "exp/base/m.zip")

    return pack_it


@pytest.mark.parametrize("before", [None, "old"])
def test_the_archive_of_before_stays_and_the_next_run_packs(packed, tmp_path, before):
    out = tmp_path / "exp/base/m.zip"
    if before:
        packed(before, die=False)
    assert in_child(packed, "new", True) == -signal.SIGKILL
    assert out.exists() is bool(before)
    assert before is None or zipfile.ZipFile(out).read("model.pth") == before.encode()
    assert len(files.sweep(tmp_path, ["exp"])) == 1  # as run.sh does before its stages
    assert [p.name for p in out.parent.iterdir()] == [out.name] * bool(before)
    packed("new", die=False)
    assert zipfile.ZipFile(out).read("model.pth") == b"new"
    assert [p.name for p in out.parent.iterdir()] == [out.name]
