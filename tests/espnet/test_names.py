# SPDX-License-Identifier: Apache-2.0
"""The installed ESPnet has what the adapter uses, and what it lacked would be reported."""

import ast
from pathlib import Path

from espnet_ext.espnet import fastimport
from espnet_ext.espnet.names import USED, Name, check_names

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("espnet", "weak_align", "bl_just", "ml_lmcl", "dual_task", "multistage", "text")


def test_installed_release_has_all_names():
    fastimport.enable()
    assert check_names() == []


def test_right_entries_give_nothing():
    right = Name("json", "JSONEncoder.encode", "called", "o")
    assert check_names([right, Name("json", "dumps", "called", "obj indent")]) == []


def test_each_kind_of_lack_is_reported():
    lacks = check_names(
        [
            Name("json.no_such_module", "x", "called"),
            Name("json", "dumpss", "called"),
            Name("json", "JSONEncoder.encodes", "overridden"),
            Name("json", "dumps", "called", "obj no_such_parameter"),
            Name("json", "dumps", "called", "obj"),
        ]
    )
    assert len(lacks) == 4
    assert "json.no_such_module.x (called): the module cannot be imported" in lacks[0]
    assert "no 'dumpss'; did you mean 'dumps'?" in lacks[1]
    assert "no 'encodes'; did you mean 'encode'?" in lacks[2]
    assert "no parameter no_such_parameter; it has obj," in lacks[3]


def test_no_name_stands_twice():
    keys = [(name.module, name.attribute, name.use) for name in USED]
    assert len(keys) == len(set(keys))


def test_adapter_imports_only_listed_names():
    listed = {(name.module, name.attribute) for name in USED}
    unlisted = [
        f"{room}/{path.name}:{node.lineno}: from {node.module} import {alias.name}"
        for room in ROOMS
        for path in sorted((ROOT / "espnet_ext" / room).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("espnet2")
        for alias in node.names
        if (node.module, alias.name) not in listed
    ]
    assert unlisted == [], "add them to espnet_ext/espnet/names.py"
