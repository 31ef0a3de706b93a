# SPDX-License-Identifier: Apache-2.0
"""Which method made a model, and where its files are; the weights are not read."""

import tarfile
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any

from espnet_ext import yamlfile
from espnet_ext.errors import DataError
from espnet_ext.espnet.archive import read_yaml
from espnet_ext.hub import found as found_model
from espnet_ext.packed import DAMAGE, is_packed

PHASES = ("finetune", "midtrain", "pretrain")  # the last one first: its model is the final one
_LIMIT_BYTES = 64 << 20  # of a configuration; token lists are in it


def method_of(path: Path | str, methods: Collection[str]) -> str:
    """Return the method of a trained model: the name of a section of its configuration.

    Args:
        path: Packed model, experiment folder ``exp/<name>``, the folder of a phase, or the folder
            or hub name of a published model.
        methods: Names to choose from.

    Raises:
        DataError: There is no model, it is damaged, or it is of none of these methods.
    """
    path, recipes = found_model(path), " or ".join(f"egs2/*/{m}1" for m in sorted(methods))
    how = f"give exp/<name> or the archive of a recipe {recipes}"
    if path.is_dir() and not is_packed(path):
        config = find_config(path)
        values = read_yaml(config, "the configuration") if config else None
    elif is_packed(path):
        values = _packed_config(path)
    else:
        raise DataError("there is no such model", path, how)
    if values is None:
        raise DataError(f"the {'folder' if path.is_dir() else 'archive'} holds no trained model",
                        path, how)  # fmt: skip
    found = [m for m in sorted(methods) if m in values]
    if not found:
        what = f"the model is of none of these methods: {', '.join(sorted(methods))}"
        raise DataError(what, path, how)
    return found[0]


def find_config(folder: Path) -> Path | None:
    """Return the configuration of the last phase of an experiment, or of a phase's folder."""
    places = (folder, *(folder / phase for phase in PHASES))
    return next((p / "config.yaml" for p in places if (p / "config.yaml").is_file()), None)


def find_model(config: Path, values: dict[str, Any]) -> Path:
    """Return the checkpoint of a training: the one that its recipe takes, else the best.

    Raises:
        DataError: There is none.
    """
    folder = config.parent
    names = [f"{part}.{key}.{kind}.pth" for kind in ("ave", "best")
             for part, key, *_ in values.get("best_model_criterion") or ()]  # fmt: skip
    recipe = folder.resolve().parents[2] / "recipe.yaml"  # exp/<name>/<phase>
    if folder.name in PHASES and recipe.is_file():
        phase = yamlfile.read_extended(recipe, "recipe.yaml", DataError).get(folder.name)
        if isinstance(phase, dict) and phase.get("model"):
            names.insert(0, str(phase["model"]))
    for name in names:
        if (folder / name).is_file():
            return folder / name
    have = ", ".join(sorted(p.name for p in folder.glob("*.pth"))) or "none"
    what = f"there is no checkpoint {' or '.join(names) or 'of the usual names'}"
    raise DataError(what, folder, f"there are: {have}")


def _packed_config(archive: Path) -> dict[str, Any] | None:
    """Return the configuration in an archive of stage 10 or of ESPnet; None without one."""
    if archive.is_dir():
        members = {str(p.relative_to(archive)): p for p in archive.rglob("*") if p.is_file()}
        return _config(archive, members, lambda p: p.open("rb"))
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as z:
                return _config(archive, {m.filename: m for m in z.infolist()}, z.open)
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as t:
                return _config(archive, {m.name: m for m in t}, t.extractfile)
    except (*DAMAGE, RuntimeError) as e:  # RuntimeError: encrypted
        how = "pack the model again, or copy the archive again"
        raise DataError(f"the archive is damaged ({e})", archive, how) from None
    raise DataError("neither a zip nor a tar archive", archive, "give a packed model")


def _config(archive: Path, members: dict[str, Any], opened: Any) -> dict[str, Any] | None:
    metas = sorted((n for n in members if Path(n).name == "meta.yaml"), key=lambda n: n.count("/"))
    if not metas:
        return None
    meta = _parsed(archive, metas[0], opened(members[metas[0]]))
    named = meta.get("yaml_files")
    name = str((named if isinstance(named, dict) else {}).get("asr_train_config", "config.yaml"))
    name = name.lstrip("/")  # ESPnet names absolute paths, and archives drop the slash
    return _parsed(archive, name, opened(members[name])) if name in members else None


def _parsed(archive: Path, name: str, file: IO[bytes] | None) -> dict[str, Any]:
    content = file.read(_LIMIT_BYTES + 1) if file else b""
    if len(content) > _LIMIT_BYTES:
        raise DataError(f"'{name}' is larger than any configuration", archive, "do not use it")
    try:
        value = yamlfile.parse(content.decode("utf-8"), f"{archive}: {name}", DataError)
    except UnicodeDecodeError:
        raise DataError(f"'{name}' cannot be read (not UTF-8)", archive) from None
    except DataError as e:
        raise DataError(f"'{name}' cannot be read ({e.what})", e.where) from None
    return value if isinstance(value, dict) else {}
