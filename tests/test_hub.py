# SPDX-License-Identifier: Apache-2.0
"""What is a name on the hub and what is a path, and models that are fetched; without a network."""

import shutil

import pytest
import torch

from espnet_ext import hub
from espnet_ext.align import models
from espnet_ext.align.model import find
from espnet_ext.errors import DataError, SetupError
from espnet_ext.espnet.speech2text import Speech2Text


@pytest.mark.parametrize(
    ("model", "is_name"),
    [
        ("me/model", True),
        ("me/model@v1.0", True),
        ("model", False),
        ("exp/base", False),  # a path that does not exist yet, or was mistyped
        ("here/base", False),
        ("me/model.zip", False),
        ("./me/model", False),
        ("/me/model", False),
        ("a/b/c", False),
        ("~/model", False),
    ],
)
def test_names_and_paths(model, is_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    assert hub.is_name(model) == is_name


def test_what_the_hub_does_not_have_is_told(monkeypatch):
    def fail(name, revision):
        raise OSError("no such repository")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(SetupError, match=r"'me/model' is no local path.*no such repository"):
        hub.found("me/model")


def test_an_aligner_from_an_archive_and_from_the_hub(tmp_path, monkeypatch):
    own = models.folder(models.DEFAULT)
    archive = shutil.make_archive(str(tmp_path / "aligner"), "zip", own.parent, own.name)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, revision: str(own))
    for model in (archive, "me/aligner"):
        opened = find(model)
        assert opened.phones.names == find(models.DEFAULT).phones.names
        assert (opened.folder / "hybrid.npz").read_bytes() == (own / "hybrid.npz").read_bytes()


class Evil:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("old_format", [False, True])
def test_a_pickle_from_elsewhere_is_never_run(tmp_path, monkeypatch, old_format):
    monkeypatch.setenv("ESPNET_ALLOW_UNSAFE_TORCH_LOAD", "1")  # meant for the user's own files
    folder, ran = tmp_path / "hub", tmp_path / "ran"
    folder.mkdir()
    meta = "files: {asr_model_file: m.pth}\nyaml_files: {asr_train_config: config.yaml}\n"
    (folder / "meta.yaml").write_text(meta)
    (folder / "config.yaml").write_text("token_list: [a]\n")
    torch.save({"w": Evil(ran)}, folder / "m.pth", _use_new_zipfile_serialization=not old_format)
    with pytest.raises(DataError, match="does not hold tensors alone"):
        Speech2Text.from_pretrained(folder)
    assert not ran.exists()
