# SPDX-License-Identifier: Apache-2.0
"""Are the products of a stage still whole? Known by counts that the stage's record keeps."""

import os
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import EspnetExtError

SHARED = ("RESULTS.md", "results")  # other experiments write there too
MANY = 1000  # files of a folder that are kept by name
Counts = dict[str, object]


def counts(makes: list[Path]) -> dict[str, Counts]:
    """Return ``{product: its sizes}`` for the record of a stage."""
    return {str(p): _count(p) for p in makes if p.parts[0] not in SHARED and p.exists()}


def _count(path: Path) -> Counts:
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())[:MANY]
        return {"files": {str(p.relative_to(path)): p.stat().st_size for p in files}}
    found: Counts = {"bytes": path.stat().st_size}
    if path.suffix in ("", ".scp", ".txt"):
        found["lines"] = _lines(path)
    if path.suffix == ".scp":
        found["audio"] = _audio(path)
    return found


def _lines(path: Path) -> int:
    with open(path, "rb") as f:
        return sum(block.count(b"\n") for block in iter(lambda: f.read(1 << 20), b""))


def _audio(path: Path) -> list[int]:
    """Return number and bytes of the files that lie in the recipe's folder."""
    number = size = 0
    try:
        for _, value in iter_table(path):
            if not os.path.isabs(value) and os.path.exists(value):
                number, size = number + 1, size + os.path.getsize(value)
    except EspnetExtError:
        return [-1, -1]
    return [number, size]


def damage(made: dict[str, Counts]) -> tuple[str, list[str]]:
    """Compare products with the counts of a record.

    Returns:
        What is damaged (empty if nothing is), and what a person seems to have edited: in ``data/``
        that is welcome as long as files end in a whole line.
    """
    edited = []
    for name, before in made.items():
        path = Path(name)
        said = _changed(path, before)
        if not said:
            continue
        if path.parts[0] == "data" and before.get("lines") and _ends_whole(path):
            edited.append(said)
        else:
            return said, []
    return "", edited


def _changed(path: Path, before: Counts) -> str:
    if "files" in before:
        for name, size in before["files"].items():
            file = path / name
            if not file.exists() or file.stat().st_size != size:
                return f"{file} is not what the stage made"
        return ""
    size = path.stat().st_size
    if size == before.get("bytes"):
        if "audio" in before and _audio(path) != before["audio"]:
            return f"the audio of {path} is not what the stage made"
        return ""
    if "lines" in before:
        return f"{path} has {_lines(path)} lines, {before['lines']} were made"
    return f"{path} has {size} bytes, {before['bytes']} were made"


def _ends_whole(path: Path) -> bool:
    with open(path, "rb") as f:
        return f.seek(0, os.SEEK_END) > 0 and f.seek(-1, os.SEEK_END) >= 0 and f.read() == b"\n"
