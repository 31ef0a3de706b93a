# SPDX-License-Identifier: Apache-2.0
"""The one reader of YAML: what PyYAML lets pass in silence is refused with its line."""

import re
from pathlib import Path

import pytest
import yaml

from espnet_ext.errors import DataError, UsageError
from espnet_ext.yamlfile import MAX_DEPTH, parse, read, read_extended, read_section

ROOT = Path(__file__).resolve().parents[1]
DEEP = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3", 3, "the key 'a' stands twice, first in line 1"),
        ("x:\n  fs: 8000\n  fs: 16000", 3, "the key 'fs' stands twice, first in line 2"),
        ("[{a: 1, b: 2, a: 1}]", 1, "the key 'a' stands twice"),
        ("yes: 1\ntrue: 2", 2, "the key 'true' stands twice"),
        ("'a': 1\na: 2", 2, "the key 'a' stands twice"),
        (f"a: 1\nb: {DEEP}", 2, f"nested more than {MAX_DEPTH} levels deep"),
        ("b: " + "[" * 5000, 1, f"nested more than {MAX_DEPTH} levels deep"),
        ("a: &x\n  - *x", 2, "the alias *x stands inside its own anchor"),
        ("a: b: c", 1, "mapping values are not allowed here"),
        ("a: 1\n\tb: 2", 2, "not valid YAML"),
        ("a: !!python/object/apply:os.getcwd []", 1, "could not determine a constructor"),
        ("a: 2001-99-99", None, "not valid YAML"),
        ("a: \x00", None, "not valid YAML"),
    ],
)
def test_refused_with_its_line(text, line, says):
    with pytest.raises(UsageError) as e:
        parse(text, "x.yaml")
    assert says in e.value.what
    assert e.value.where == (f"x.yaml:{line}" if line else "x.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "a: {x: 1}\nb: {x: 1}",
        "base: &b {x: 1, y: 2}\nmore: &m\n  <<: *b\n  x: 3\nlast:\n  <<: *m\n  y: 4",
        "a: &x [1, 2]\nb: [*x, *x]",
        "1: a\n2: b",
        f"a: {DEEP[1:-1][: MAX_DEPTH - 1]}{']' * (MAX_DEPTH - 1)}",
        "",
        "1e-3: 1e-3",
    ],
)
def test_the_rest_is_read_as_ever(text):
    assert parse(text, "x") == yaml.safe_load(text)


def test_a_value_that_a_caller_changes_is_read_again_as_it_was():
    parse("a: [1]", "x")["a"].append(2)
    assert parse("a: [1]", "x") == {"a": [1]}


def test_files(tmp_path):
    path = tmp_path / "a.yaml"
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read(path, DataError)
    (tmp_path / "b.yaml").touch()
    with pytest.raises(UsageError, match=r"there are: .*b\.yaml"):
        read(path)
    path.write_bytes(b"a: \xff")
    with pytest.raises(UsageError, match="not UTF-8 at byte 3"):
        read(path)
    path.write_text("")
    assert read_section(path, "the file") == {}
    with pytest.raises(UsageError, match="the file must hold key: value lines"):
        read_section(path, "the file", empty=False)
    path.write_text("- a")
    with pytest.raises(UsageError, match="the file must hold key: value lines"):
        read_section(path, "the file")
    path.write_text("a: 1")
    assert read_section(path, "the file") == {"a": 1}


def test_nothing_reads_yaml_another_way():
    other = re.compile(r"yaml\.(safe_load|load|full_load|unsafe_load)\b")
    sources = [p for top in ("espnet_ext", "local", "egs2") for p in (ROOT / top).rglob("*.py")]
    found = [p for p in sources if other.search(p.read_text(encoding="utf-8"))]
    assert [p.relative_to(ROOT).as_posix() for p in found] == ["espnet_ext/yamlfile.py"]


def test_every_file_of_the_project_is_accepted():
    files = [*ROOT.glob("egs2/**/*.yaml"), *ROOT.glob("conf/*.yaml")]
    assert len(files) > 20
    for path in files:
        assert read(path) == yaml.safe_load(path.read_text(encoding="utf-8")), path


def test_a_file_stands_over_the_one_it_extends(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/a.yaml").write_text("a: {x: 1, y: [1, 2], z: {u: 1}}\nb: 1\nc: {x: 1}\n")
    (tmp_path / "shared/b.yaml").write_text("extends: a.yaml\na: {x: 2, z: {v: 2}}\nd: 4\n")
    path = tmp_path / "c.yaml"
    path.write_text("extends: shared/b.yaml\na: {y: [3]}\nc: null\n")
    assert read_extended(path, "x") == {
        "extends": "shared/b.yaml",
        "a": {"x": 2, "y": [3], "z": {"u": 1, "v": 2}}, "b": 1, "c": None, "d": 4,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("extends: c.yaml", "x extends itself"),
        ("extends: d.yaml", "x extends itself"),
        ("extends: nowhere.yaml", "the file cannot be read"),
        ("extends: [d.yaml]", "must be the path of a file"),
    ],
)
def test_what_cannot_be_extended(text, says, tmp_path):
    (tmp_path / "d.yaml").write_text("extends: c.yaml\n")
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DataError, match=says):
        read_extended(tmp_path / "c.yaml", "x", DataError)
