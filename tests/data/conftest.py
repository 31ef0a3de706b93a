# SPDX-License-Identifier: Apache-2.0
import pytest


@pytest.fixture
def src(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    d = tmp_path / "src"
    d.mkdir()
    return d
