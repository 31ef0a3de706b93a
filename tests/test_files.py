# SPDX-License-Identifier: Apache-2.0
"""Files and folders are the old or the new, at whatever moment the writer dies."""

import errno
import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext import files
from espnet_ext.errors import DataError, EspnetExtError, SetupError, UsageError, exit_code


class Killed(BaseException):
    """Stands for a kill: no handler of ours expects it."""


def test_atomic_path(tmp_path):
    path = tmp_path / "new/folder/x"
    with files.atomic_path(path) as tmp:
        tmp.write_text("1")
        assert not path.exists()
    with pytest.raises(Killed), files.atomic_path(path) as tmp:
        tmp.write_text("2")
        raise Killed
    assert path.read_text() == "1"
    assert os.listdir(path.parent) == ["x"]


def test_atomic_dir(tmp_path):
    path = tmp_path / "d"
    for name in ("a", "b"):
        with files.atomic_dir(path) as tmp:
            assert list(tmp.iterdir()) == []
            (tmp / name).touch()
        assert os.listdir(path) == [name]
    assert os.listdir(tmp_path) == ["d"]
    with pytest.raises(Killed), files.atomic_dir(path) as tmp:
        (tmp / "half").touch()
        raise Killed
    assert os.listdir(path) == ["b"]
    with files.atomic_dir(path) as tmp:
        assert list(tmp.iterdir()) == []  # nothing of the half one
    assert os.listdir(tmp_path) == ["d"]


@pytest.mark.parametrize("survive", range(3))
def test_atomic_dir_killed_between_its_renames(tmp_path, monkeypatch, survive):
    """After a kill at any rename the next call finds the old or the new content."""
    path = tmp_path / "d"
    with files.atomic_dir(path) as tmp:
        (tmp / "old").touch()
    real, calls = os.replace, []

    def replace(a, b):
        if len(calls) == survive:
            raise Killed
        calls.append(a)
        real(a, b)

    with monkeypatch.context() as m:
        m.setattr(files.os, "replace", replace)
        if survive < 2:
            with pytest.raises(Killed), files.atomic_dir(path) as tmp:
                (tmp / "new").touch()
        else:
            with files.atomic_dir(path) as tmp:
                (tmp / "new").touch()
    with pytest.raises(Killed), files.atomic_dir(path):
        raise Killed  # only its tidying up counts here
    assert os.listdir(path) == ["old" if survive < 2 else "new"]


@settings(max_examples=30)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_and_json_arrive_as_they_are(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "text"
    files.write_text(path, text)
    assert path.read_bytes() == text.encode()
    files.write_json(path, {"b": text, "a": [1, None]})
    assert json.loads(path.read_bytes()) == {"b": text, "a": [1, None]}


def test_hashes(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256_file(path) == known
    assert files.sha256_json({"a": 1, "b": Path("x")}) == files.sha256_json(
        {"b": Path("x"), "a": 1}
    )
    assert files.sha256_json({"a": 1}) != files.sha256_json({"a": 2})


def test_what_killed_writes_left_is_swept(tmp_path):
    for name in (
        "d/.a.txt.tmp123",
        "d/.b.tmp/x",
        "d/.c.old/x",
        "d/c/x",
        "d/.lost.old/x",
        ".R.tmp7",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for kept in ("d/a.tmp1", "d/.hidden", "e/.x.tmp1"):
        (tmp_path / kept).parent.mkdir(exist_ok=True)
        (tmp_path / kept).touch()
    swept = files.sweep(tmp_path, ["d", "none"])
    names = {".R.tmp7", "d/.a.txt.tmp123", "d/.b.tmp", "d/.c.old", "d/.lost.old"}
    assert {str(p.relative_to(tmp_path)) for p in swept} == names
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"d/c/x", "d/lost/x", "d/a.tmp1", "d/.hidden", "e/.x.tmp1"}
    assert files.sweep(tmp_path, ["d"]) == []


def test_a_folder_that_could_not_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), files.atomic_dir(tmp_path / "x") as tmp:
        (tmp / "part").touch()
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cls", "code"), [(EspnetExtError, 1), (UsageError, 2), (DataError, 3), (SetupError, 3)]
)
def test_errors(cls, code, capsys):
    error = cls("It broke", Path("a:3"), "mend it")
    assert str(error) == "It broke\n  where: a:3\n  fix:   mend it"
    assert str(cls("It broke")) == "It broke"
    again = pickle.loads(pickle.dumps(error))  # it comes out of worker processes so
    assert (type(again), str(again), again.exit_code) == (cls, str(error), code)

    def fail():
        raise error

    assert exit_code(fail) == code and capsys.readouterr().err == f"error: {error}\n"


def test_ctrl_c_and_a_full_disk_are_no_tracebacks(capsys):
    def act(error):
        raise error

    assert exit_code(lambda: act(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"
    assert exit_code(lambda: act(OSError(errno.ENOSPC, "x", "out"))) == 3
    assert capsys.readouterr().err.startswith("error: the disk is full\n  where: out\n  fix:")
    with pytest.raises(FileNotFoundError):
        exit_code(lambda: act(FileNotFoundError(errno.ENOENT, "x", "out")))


def test_exit_codes_of_commands_without_such_an_error():
    assert (exit_code(lambda: None), exit_code(lambda: 4)) == (0, 4)
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)
