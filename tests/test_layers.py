# SPDX-License-Identifier: Apache-2.0
"""The rules of the house, read from the sources: who may import whom, sizes, first lines, paths."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "espnet_ext"
NOT_METHODS = {
    "recipe", "data", "align", "lang", "text", "espnet", "scoring", "report", "upstream",
}  # fmt: skip
FILE_LINES, FUNCTION_LINES = 350, 50
LICENCE = "# SPDX-License-Identifier: Apache-2.0"
ESPNET = ("espnet", "espnet2", "espnet3")
# A machine's own folders; put together here, else this file would hold them.
MACHINE_PATH = re.compile(
    r"(?<![\w.$}-])/(?:" + "|".join(("work", "root", "home/[a-z]")) + r")\b/?"
)


def imports(path: Path, module: str) -> Iterator[tuple[str, int]]:
    """Yield ``(dotted name, line)`` of every import, those inside functions too."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:  # the name may be a module
                yield f"{base}.{alias.name}", node.lineno


def below(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{p}.") for p in packages)


def own(*parts: str) -> tuple[str, ...]:
    return tuple(f"{PACKAGE}.{p}" for p in parts)


def room_of(path: Path) -> str:
    """Return the first folder below the package; empty for the package's own modules."""
    return path.parts[0] if len(path.parts) > 1 else ""


def is_method(room: str) -> bool:
    return bool(room) and room not in NOT_METHODS


def may_use_espnet(path: Path) -> bool:
    room = room_of(path)
    return room == "espnet" or (is_method(room) and path.name in ("model.py", "task.py"))


# Each rule: its text, which files it binds (path below the package), what it forbids them.
RULES: list[tuple[str, Callable[[Path], bool], Callable[[Path, str], bool]]] = [
    (
        "loss.py, align/, lang/ and text/ stand on torch and numpy, not on ESPnet or its adapter",
        lambda p: p.name == "loss.py" or room_of(p) in ("align", "lang", "text"),
        lambda p, name: below(name, *ESPNET, *own("espnet")),
    ),
    (
        "ESPnet is imported in espnet/ and in methods' model.py and task.py only",
        lambda p: not may_use_espnet(p),
        lambda p, name: below(name, *ESPNET),
    ),
    (
        "methods do not import one another",
        lambda p: is_method(room_of(p)),
        lambda p, name: is_other_method(name, room_of(p)),
    ),
    (
        "data/ and scoring/ know no torch, recipe or adapter",
        lambda p: room_of(p) in ("data", "scoring"),
        lambda p, name: below(name, "torch", "torchaudio", *own("recipe", "espnet")),
    ),
    (
        "report/ reads what runs have left: it knows no recipe and no adapter",
        lambda p: room_of(p) == "report",
        lambda p, name: below(name, *own("recipe", "espnet")),
    ),
    (
        "espnet/ does not know recipes",
        lambda p: room_of(p) == "espnet",
        lambda p, name: below(name, *own("recipe")),
    ),
    (
        "only methods import methods: recipes name them, data and losses do not know them",
        lambda p: not is_method(room_of(p)),
        lambda p, name: is_other_method(name, ""),
    ),
    (
        "lang/ and text/ serve several methods: they know no recipe, aligner or score",
        lambda p: room_of(p) in ("lang", "text"),
        lambda p, name: below(name, *own("recipe", "align", "scoring")),
    ),
    (
        "lang/ knows no torch",
        lambda p: room_of(p) == "lang",
        lambda p, name: below(name, "torch", "torchaudio"),
    ),
    (
        "nothing imports cli",
        lambda p: True,
        lambda p, name: below(name, *own("cli")),
    ),
]


def is_other_method(name: str, room: str) -> bool:
    parts = name.split(".")
    if len(parts) < 2 or parts[0] != PACKAGE or parts[1] == room:
        return False
    return (METHODS_AT / parts[1]).is_dir() and is_method(parts[1])


METHODS_AT = ROOT / PACKAGE  # where a name is looked up; the synthetic tree sets its own


def broken_rules(root: Path) -> list[str]:
    """Return ``file:line: name: rule`` for each import below ``root/espnet_ext`` against a rule."""
    out = []
    for path in sorted((root / PACKAGE).rglob("*.py")):
        local = path.relative_to(root / PACKAGE)
        module = ".".join([PACKAGE, *local.with_suffix("").parts]).removesuffix(".__init__")
        for name, line in imports(path, module):
            out += [
                f"{local}:{line}: {name}: {text}"
                for text, binds, forbids in RULES
                if binds(local) and forbids(local, name)
            ]
    return out


def too_long(path: Path) -> list[str]:
    """Return what is over the limits: the file, or a function of it."""
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    out = [f"{path}: {lines} lines"] if lines > FILE_LINES else []
    for node in ast.walk(ast.parse(text)) if path.suffix == ".py" else ():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = node.end_lineno - node.lineno + 1
            if size > FUNCTION_LINES:
                out.append(f"{path}:{node.lineno}: {node.name} has {size} lines")
    return out


def lacks_licence(path: Path) -> bool:
    """Whether the first line (below a shebang) is not the licence."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return (lines[1:] if lines and lines[0].startswith("#!") else lines)[:1] != [LICENCE]


def machine_paths(path: Path) -> list[str]:
    """Return ``file:line`` of each line with a path of some machine; binary files have none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        return []
    return [f"{path}:{n}: {x.strip()}" for n, x in enumerate(lines, 1) if MACHINE_PATH.search(x)]


def repository_files() -> list[Path]:
    """Return what git has or would take; outside a checkout, the sources."""
    command = [
        "git",
        "-C",
        str(ROOT),
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode == 0:
        paths = [ROOT / x for x in listed.stdout.split("\0") if x]
    else:
        tops = (PACKAGE, "tests", "egs2", "conf", "local", "utils")
        paths = [p for top in tops for p in (ROOT / top).rglob("*")]
    return sorted(p for p in paths if p.is_file() and "__pycache__" not in p.parts)


FILES = repository_files()
SOURCES = [p for p in FILES if p.suffix in (".py", ".sh", ".yaml", ".yml") or p.name == "run.sh"]


def test_layers():
    assert broken_rules(ROOT) == []


def test_sizes():
    code = [p for p in FILES if p.suffix in (".py", ".sh")]
    assert len(code) > 50
    assert [x for p in code for x in too_long(p)] == []
    runs = [p for p in FILES if p.name == "run.sh"]
    assert runs
    assert [p for p in runs if len(p.read_text().splitlines()) > 40] == []


def test_licence_lines():
    assert [str(p.relative_to(ROOT)) for p in SOURCES if lacks_licence(p)] == []


def test_no_machine_paths():
    assert [x for p in FILES for x in machine_paths(p)] == []


# One file against each rule, as (path, content, part of the rule), and the same done rightly.
WRONG = [
    ("meth_a/loss.py", "import espnet2", "loss.py, align/"),
    ("align/hmm.py", "from espnet_ext.espnet import task", "loss.py, align/"),
    ("align/tree.py", "def f():\n    from espnet2.tasks import asr", "loss.py, align/"),
    ("recipe/steps/x.py", "import espnet2.bin.pack as p", "ESPnet is imported in"),
    ("meth_a/data.py", "from espnet2.train import dataset", "ESPnet is imported in"),
    ("model.py", "import espnet2", "ESPnet is imported in"),
    ("scoring/y.py", "import espnet.utils", "ESPnet is imported in"),
    ("meth_a/task.py", "from espnet_ext.meth_b.loss import f", "one another"),
    ("meth_a/x.py", "from espnet_ext import meth_b", "one another"),
    ("meth_a/y.py", "from ..meth_b import loss", "one another"),
    ("data/z.py", "def f():\n    import torch.nn", "data/ and scoring/"),
    ("scoring/z.py", "from espnet_ext.recipe.stages import Plan", "data/ and scoring/"),
    ("data/sub/z.py", "from ...espnet import infer", "data/ and scoring/"),
    ("espnet/z.py", "from espnet_ext import recipe", "espnet/ does not know"),
    ("recipe/z.py", "import espnet_ext.meth_a.task", "only methods"),
    ("scoring/m.py", "from espnet_ext.meth_a import loss", "only methods"),
    ("report/a.py", "from espnet_ext.recipe.stages import Plan", "report/ reads"),
    ("lang/a.py", "import torch", "lang/ knows no torch"),
    ("lang/b.py", "from espnet_ext.align.options import AlignOptions", "lang/ and text/ serve"),
    ("text/a.py", "from espnet_ext.recipe.console import say", "lang/ and text/ serve"),
    ("text/b.py", "def f():\n    from espnet2.text import x", "loss.py, align/"),
    ("text/c.py", "from espnet_ext.meth_a import task", "only methods"),
    ("meth_b/z.py", "from espnet_ext import cli", "nothing imports cli"),
    ("z.py", "from .cli import main", "nothing imports cli"),
]
RIGHT = [
    ("meth_a/__init__.py", "from . import loss"),
    ("meth_b/loss.py", "import torch, numpy"),
    ("meth_b/model.py", "from espnet2.asr import x\nfrom espnet_ext.meth_b.loss import f"),
    ("meth_b/task.py", "from espnet_ext.espnet.task import ExtTask\nimport espnet2.tasks.asr"),
    ("align/viterbi.py", "import torch\nfrom espnet_ext.data.tables import read_table"),
    ("espnet/decode.py", "import espnet2\nimport torch"),
    ("text/encoder.py", "import torch\nfrom espnet_ext.data.tables import read_table"),
    ("lang/lexicon.py", "import numpy\nfrom espnet_ext.errors import DataError"),
    ("recipe/steps/train.py", "from espnet_ext.espnet.train import run\nimport espnet_extra"),
    ("data/fix.py", "from espnet_ext.errors import DataError\nfrom . import tables"),
    ("cli.py", "from espnet_ext.recipe import runner"),
]


def test_the_rules_catch_each_wrong_import_and_only_those(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "METHODS_AT", tmp_path / PACKAGE)
    for name, content, *_ in [*WRONG, *RIGHT]:
        path = tmp_path / PACKAGE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    found = broken_rules(tmp_path)
    for name, _, rule in WRONG:
        assert [x for x in found if x.startswith(f"{name}:") and rule in x], (name, rule)
    assert {x.split(":")[0] for x in found} == {name for name, _, _ in WRONG}


def test_sizes_are_counted(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f():\n" + "    x = 1\n" * 49 + "x = 1\n" * 300)
    assert too_long(path) == []
    path.write_text("def f():\n" + "    x = 1\n" * 50 + "x = 1\n" * 300)
    assert too_long(path) == [f"{path}: 351 lines", f"{path}:1: f has 51 lines"]


@pytest.mark.parametrize(
    ("text", "lacks"),
    [
        (LICENCE + "\nx", False),
        ("#!/bin/sh\n" + LICENCE, False),
        ("", True),
        ("#!/bin/sh\n", True),
        ("\n" + LICENCE, True),
    ],
)
def test_licence_is_looked_for(tmp_path, text, lacks):
    path = tmp_path / "x"
    path.write_text(text)
    assert lacks_licence(path) is lacks


def test_machine_paths_are_found(tmp_path):
    path = tmp_path / "x"
    found = ["cd /{}/main", "'/{}'", "PATH=/{}/bin", "file:///{}/x"]
    path.write_text("\n".join(x.format(w) for x in found for w in ("work", "root")))
    assert len(machine_paths(path)) == 8
    allowed = ["${}/x", "my/{}/x", "../{}/x", "/{}shop", "https://a.b/{}.html", "/path/to/it"]
    path.write_text("\n".join(x.format(w) for x in allowed for w in ("work", "root")))
    assert machine_paths(path) == []
