# SPDX-License-Identifier: Apache-2.0
"""What a process has read of a file is given up when the file is another of the same time."""

import json
import os
import shutil
from pathlib import Path

import pytest

from espnet_ext.align.corpus import load_pronunciations
from espnet_ext.align.passes.kept import forget, kept, stamp
from espnet_ext.align.passes.shard import load_tree


def replace(path: Path) -> None:
    """Put other bytes of the same size and time there, as ``cp -p`` and ``rsync -t`` may."""
    before, held = path.stat(), json.loads(path.read_text(encoding="utf-8"))
    data = json.dumps(dict(reversed(held.items())), ensure_ascii=False).encode()
    text = data.ljust(before.st_size).decode()
    assert len(text.encode()) == before.st_size and text != path.read_text(encoding="utf-8")
    other = path.with_name("other")
    other.write_text(text, encoding="utf-8")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.fixture
def work(trained, tmp_path):
    """A folder with the pronunciations and the tree of a training."""
    shutil.copy(trained.root / "work/pronunciations.json", tmp_path)
    shutil.copy(trained.session.models["tri"].tree, tmp_path / "tree.json")
    yield tmp_path
    forget()


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("pronunciations.json", lambda path: load_pronunciations(str(path.parent))),
        ("tree.json", lambda path: load_tree(str(path))),
        (
            "tree.json",
            lambda path: kept(
                {"work": "w", "keep": "k"}, "tree", stamp(path), lambda: path.read_bytes()
            ),
        ),
    ],
    ids=["pronunciations", "tree", "kept"],
)
def test_another_file_of_the_same_size_and_time_is_read_again(work, name, read):
    first = read(work / name)
    assert read(work / name) is first
    replace(work / name)
    assert read(work / name) is not first
