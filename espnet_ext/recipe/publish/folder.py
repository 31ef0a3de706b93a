# SPDX-License-Identifier: Apache-2.0
"""The folder: what stage 10 packed, without the paths of this machine, and nothing else."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import DataError
from espnet_ext.packed import META, portable, unpacked
from espnet_ext.yamlfile import read

KEPT = ("token_list",)  # a token may look like a path
LARGE = ("*.pth", "*.npz", "*.safetensors", "*.model")
RECORD = "run_record.json"


def write(archive: Path, record: Path, out: Path, place: str) -> None:
    """Write the files of a packed model and of its run record into a folder.

    Args:
        archive: Of stage 10.
        record: The run record.
        out: An empty folder.
        place: Where files go that the archive names by a path of this machine, e.g. ``exp/base``.

    Raises:
        DataError: The archive is not usable.
    """
    with unpacked(archive) as root:
        shutil.copytree(root, out, dirs_exist_ok=True)
    files = {out / META: _yaml(out / META)}
    files |= {path: _yaml(path) for path in configs(out, files[out / META])}
    names = _elsewhere([*files.values()], out)
    moved = {real: _move(out, real, place) for real in sorted(set(names.values()))}
    moved = {name: moved[real] for name, real in names.items()}
    for path, values in files.items():
        tokens = {k: v for k, v in values.items() if k in KEPT}
        values = portable(_replaced(values, moved), Path.cwd()) | tokens
        text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False)
        path.write_text(text, encoding="utf-8")
    text = record.read_text(encoding="utf-8")
    (out / RECORD).write_text(text.replace(f"{Path.cwd()}/", ""), encoding="utf-8")
    lines = [f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LARGE]
    (out / ".gitattributes").write_text("".join(lines))


def configs(folder: Path, meta: dict[str, Any]) -> list[Path]:
    """Return the training configurations of a packed model."""
    named = meta.get("yaml_files") or {"": "config.yaml"}
    return [folder / str(name) for name in named.values()]


def _yaml(path: Path) -> dict[str, Any]:
    return read(path, DataError)


def _elsewhere(value: Any, out: Path) -> dict[str, Path]:
    """Return names of files that the archive has under another one, with their real paths.

    ESPnet's packer follows links, as of an exp that is on another disk, and then notes absolute
    names, of which archives drop the slash; a configuration may still name them by the link.
    """
    if isinstance(value, dict):
        parts = [v for k, v in value.items() if k not in KEPT]
    elif isinstance(value, list):
        parts = value
    else:
        if not isinstance(value, str) or "/" not in value or (out / value.strip("/")).is_dir():
            return {}
        real = Path(value).resolve()
        there = (out / real.relative_to("/")).is_file()
        return {value: real} if there and value != str(real.relative_to("/")) else {}
    return {name: real for part in parts for name, real in _elsewhere(part, out).items()}


def _move(out: Path, real: Path, place: str) -> str:
    """Move such a file; return its new name."""
    path, target = out / real.relative_to("/"), out / place / real.name
    if target.exists():
        raise DataError("two files of one name are packed", real, "rename one of them")
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    while path.parent != out and not any(path.parent.iterdir()):
        path = path.parent
        path.rmdir()
    return str(target.relative_to(out))


def _replaced(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _replaced(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_replaced(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def check(out: Path) -> None:
    """Check a folder offline: its card, its files, tensors only, no path of this machine.

    Raises:
        DataError: Something is not as it must be.
    """
    from huggingface_hub import ModelCard

    from espnet_ext.espnet.checkpoint import check_tensors

    try:
        data = ModelCard.load(out / "README.md").data
    except Exception as e:  # of YAML and of the hub's own checks
        raise DataError(f"the card's front matter is not valid ({e})", out / "README.md") from None
    if not data.license or not data.eval_results:
        raise DataError("the card lacks a licence or scores", out / "README.md")
    meta = _yaml(out / META)
    for name in [v for k in ("files", "yaml_files") for v in (meta.get(k) or {}).values()]:
        if not (out / name).is_file():
            raise DataError("the folder lacks a file that meta.yaml names", out / name)
    check_tensors(*out.rglob("*.pth"))
    for path in (p for p in out.rglob("*") if p.suffix in (".yaml", ".md", ".json", ".txt")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for private in (str(Path.cwd()), str(Path.home())):
            if f"{private}/" in text and len(private) > 1:
                raise DataError(f"a path of this machine would be published: {private}", path,
                                "train again with relative paths, or edit the file")  # fmt: skip
