# SPDX-License-Identifier: Apache-2.0
"""The method of a model is told by its configuration, in a folder or an archive."""

import io
import tarfile
import zipfile

import pytest
import yaml

from espnet_ext.errors import DataError
from espnet_ext.espnet import model_kind
from espnet_ext.espnet.model_kind import method_of

METHODS = ("meth_a", "meth_b")
META = {"yaml_files": {"asr_train_config": "/x/exp/config.yaml"}, "files": {"asr_model_file": "m"}}


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as z:
        for name, value in members.items():
            z.writestr(name, value if isinstance(value, bytes) else yaml.safe_dump(value))
    return path


def tarred(path, members):
    with tarfile.open(path, "w:gz") as t:
        for name, value in members.items():
            data = yaml.safe_dump(value).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data))
    return path


def test_folders(tmp_path):
    for phase, method in (("pretrain", "meth_b"), ("finetune", "meth_a")):
        (tmp_path / "exp" / phase).mkdir(parents=True)
        (tmp_path / "exp" / phase / "config.yaml").write_text(f"{method}: {{a: 1}}\n")
    assert method_of(tmp_path / "exp", METHODS) == "meth_a"
    assert method_of(tmp_path / "exp/pretrain", METHODS) == "meth_b"


@pytest.mark.parametrize(("make", "name"), [(zipped, "a.zip"), (tarred, "a.tgz")])
def test_archives(tmp_path, make, name):
    of_espnet = {"meta.yaml": META, "x/exp/config.yaml": {"meth_b": {}}, "config.yaml": {}}
    assert method_of(make(tmp_path / name, of_espnet), METHODS) == "meth_b"
    own = {"meta.yaml": {"kind": "a thing"}, "config.yaml": {"meth_a": {}}}
    assert method_of(make(tmp_path / name, own), METHODS) == "meth_a"


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"config.yaml": {"meth_a": {}}}, "no trained model"),
        ({"meta.yaml": META}, "no trained model"),
        ({"meta.yaml": b"[1", "config.yaml": {"meth_a": {}}}, "'meta.yaml' cannot be read"),
        ({"meta.yaml": {}, "config.yaml": {"x": 1}}, "none of these methods: meth_a, meth_b"),
        ({"meta.yaml": {}, "config.yaml": b"\xff"}, "not UTF-8"),
        ({"meta.yaml": {}, "config.yaml": b"a: " + 500 * b" " + b"1"}, "larger than"),
        ({"meta.yaml": {"yaml_files": [1]}, "config.yaml": b"- 1\n"}, "none of these methods"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, members, says):
    monkeypatch.setattr(model_kind, "_LIMIT_BYTES", 400)
    with pytest.raises(DataError, match=says):
        method_of(zipped(tmp_path / "a.zip", members), METHODS)


def test_what_is_no_model(tmp_path):
    with pytest.raises(DataError, match="no such model"):
        method_of(tmp_path / "none", METHODS)
    with pytest.raises(DataError, match="the folder holds no trained model") as e:
        method_of(tmp_path, METHODS)
    assert "egs2/*/meth_a1 or egs2/*/meth_b1" in str(e.value)
    (tmp_path / "x").write_text("text")
    with pytest.raises(DataError, match="neither a zip nor a tar"):
        method_of(tmp_path / "x", METHODS)
