# SPDX-License-Identifier: Apache-2.0
"""Modules of this package as files that stand alone: the parts that are named, imports rewritten.

The sources stay the only copy. What a file takes from another module of this package is either in
the same file, or in another vendored file, or provided by a text in front; anything else is an
error, so that no import of this package can be left.
"""

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import espnet_ext
from espnet_ext.errors import EspnetExtError

PACKAGE = "espnet_ext"
OWN = ("egs3", "espnet2", "espnet3")  # sorted last by isort in a checkout of ESPnet


class VendorError(EspnetExtError):
    """A module cannot be made to stand alone."""


@dataclass(frozen=True)
class Piece:
    """A part of a module.

    Attributes:
        module: Dotted name.
        names: Top-level definitions to take; all when empty.
        leave: Definitions not to take.
    """

    module: str
    names: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


@dataclass(frozen=True)
class File:
    """A vendored file.

    Attributes:
        name: Without ``.py``.
        pieces: What it holds, in this order; the docstring is that of the last one.
        front: Text before the pieces, with the names that it provides.
        provides: Names defined in ``front``.
    """

    name: str
    pieces: tuple[Piece, ...]
    front: str = ""
    provides: tuple[str, ...] = ()


@dataclass
class _Parts:
    """What is taken of a module: its docstring, imports and ``(name, text)`` definitions."""

    docstring: str
    imports: list[ast.Import | ast.ImportFrom]
    definitions: list[tuple[str, str]]


def vendored(files: Sequence[File], base: str, renamed: Mapping[str, str]) -> dict[str, str]:
    """Return ``{name.py: text}``.

    Args:
        files: What to make.
        base: Package of the files, for the imports among them.
        renamed: Text replaced in the definitions, e.g. names of options.

    Raises:
        VendorError: A definition is missing, or something of this package would still be imported.
    """
    parts = {p: _parts(p) for f in files for p in f.pieces}
    homes = {
        (piece.module, name): file.name
        for file in files
        for piece in file.pieces
        for name, _ in parts[piece].definitions
    }
    return {f"{f.name}.py": _text(f, parts, homes, base, renamed) for f in files}


def _text(
    file: File,
    parts: Mapping[Piece, _Parts],
    homes: Mapping[tuple[str, str], str],
    base: str,
    renamed: Mapping[str, str],
) -> str:
    body = "\n\n\n".join(text for p in file.pieces for _, text in parts[p].definitions)
    body = body.replace("  # fmt: skip", "")
    for old, new in renamed.items():
        body = body.replace(old, new)
    if file.front:
        body = f"{file.front.strip()}\n\n\n{body}"
    used = {n.id for n in ast.walk(ast.parse(body)) if isinstance(n, ast.Name)}
    lines = set()
    for piece in file.pieces:
        for node in parts[piece].imports:
            lines |= set(_import_lines(node, file, homes, base, used))
    docstring = parts[file.pieces[-1]].docstring
    return f"{docstring}\n\n{_sorted_imports(lines)}\n\n\n{body}\n"


def _import_lines(
    node: ast.Import | ast.ImportFrom,
    file: File,
    homes: Mapping[tuple[str, str], str],
    base: str,
    used: set[str],
) -> Iterator[str]:
    """Yield the imports that stay, one name each."""
    for alias in node.names:
        bound = alias.asname or alias.name.split(".")[0]
        suffix = f" as {alias.asname}" if alias.asname else ""
        if bound not in used:
            continue
        module = node.module if isinstance(node, ast.ImportFrom) else None
        if not f"{module or alias.name}.".startswith(f"{PACKAGE}."):
            start = f"from {module} " if module else ""
            yield f"{start}import {alias.name}{suffix}"
            continue
        home = homes.get((module or "", alias.name))
        if home is None and alias.name not in file.provides:
            raise VendorError(
                f"'{alias.name}' of {module} is not vendored", f"{file.name}.py",
                "name it among the pieces of a file, or provide it",
            )  # fmt: skip
        if home not in (None, file.name):
            yield f"from {base}.{home} import {alias.name}{suffix}"


def _sorted_imports(lines: Iterable[str]) -> str:
    """Return imports as ``isort --profile black`` orders them, names of a module together."""
    groups: list[dict[str, list[str]]] = [{}, {}, {}]
    for line in sorted(lines):
        words = line.split()
        top = words[1].split(".")[0]
        group = 2 if top in OWN else 0 if top in sys.stdlib_module_names else 1
        start, _, name = line.partition(" import ") if words[0] == "from" else ("", "", line)
        groups[group].setdefault(start, []).append(name)
    texts = []
    for group in groups:
        plain = group.pop("", [])
        named = [f"{start} import {', '.join(names)}" for start, names in sorted(group.items())]
        if plain or named:
            texts.append("\n".join([*plain, *named]))
    return "\n\n".join(texts)


def _parts(piece: Piece) -> _Parts:
    path = Path(espnet_ext.__file__).parent.joinpath(*piece.module.split(".")[1:])
    source = path.with_suffix(".py").read_text(encoding="utf-8")
    tree, lines = ast.parse(source), source.splitlines()
    imports = [n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    docstring, found = "", []
    for node in tree.body:
        if isinstance(node, ast.Expr) and not docstring:
            docstring = "\n".join(lines[node.lineno - 1 : node.end_lineno])
        name = _name(node)
        if name is None or name in piece.leave or (piece.names and name not in piece.names):
            continue
        found.append((name, "\n".join(lines[_start(node, lines) : node.end_lineno])))
    missing = set(piece.names) - {name for name, _ in found}
    if missing:
        raise VendorError(f"there is no {', '.join(sorted(missing))}", piece.module)
    return _Parts(docstring, imports, found)


def _name(node: ast.stmt) -> str | None:
    """Return what a statement defines; None for another kind."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _start(node: ast.stmt, lines: Sequence[str]) -> int:
    """Return the first line (from 0) of a definition with its decorators and comments above."""
    decorators = [d.lineno for d in getattr(node, "decorator_list", [])]
    first = min([node.lineno, *decorators]) - 1
    while first and lines[first - 1].startswith("#"):
        first -= 1
    return first
