# SPDX-License-Identifier: Apache-2.0
"""The files of a trained intent model: found in an experiment's folder, packed, unpacked."""

import json
import platform
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from espnet_ext.errors import DataError
from espnet_ext.espnet.archive import read_yaml
from espnet_ext.files import atomic_path
from espnet_ext.hub import found
from espnet_ext.packed import is_packed, portable, unpacked

KIND = "ml_lmcl intent classifier"
FORMAT = 1
NORMALIZE = "normalize_text"  # key of a packed configuration
MODELS = ("model.pth", "valid.acc.best.pth", "valid.acc.ave.pth")  # in order of preference
# What a tokenizer and the shape of an encoder need; the weights are in model.pth.
ENCODER_FILES = ("about.json", "config.json", "tokenizer.json")
MORE_ENCODER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "vocab.*", "merges.txt")
_MAKES = "recipes egs2/*/ml_lmcl1 make such a model: give exp/<name> or its archive"
_PACKAGES = ("torch", "transformers", "espnet")
_DATE = (1980, 1, 1, 0, 0, 0)  # equal content gives equal bytes


@contextmanager
def located(path: Path | str) -> Iterator[tuple[Path, Path]]:
    """Yield configuration (its paths absolute) and checkpoint of a trained intent model.

    Args:
        path: Archive of stage 10, folder or hub name of a published model, experiment folder
            ``exp/<name>``, or the folder of its last phase.

    Yields:
        ``config.yaml`` and a ``.pth`` file; the configuration, and what came out of an archive,
        are gone afterwards.

    Raises:
        DataError: There is nothing, it is damaged, or it is not an intent model.
    """
    path = found(path)
    if is_packed(path):
        with unpacked(path) as root:
            _check_meta(root, path)
            yield _resolved(root / "config.yaml", root, [root], path), root / "model.pth"
        return
    if not path.is_dir():
        raise DataError("there is no such model", path, _MAKES)
    config = _find_config(path)
    model = find_model(config.parent)
    # Paths of a training are relative to the recipe's folder, which is above exp/<name>.
    bases = [config.parent, Path.cwd(), *config.resolve().parents]
    with tempfile.TemporaryDirectory(prefix="espnet_ext_") as folder:
        yield _resolved(config, Path(folder), bases, path), model


def _check_meta(root: Path, archive: Path) -> None:
    meta = root / "meta.yaml"
    about = read_yaml(meta, "meta.yaml") if meta.is_file() else {}
    if about.get("kind") != KIND:
        has = ", ".join([*(about.get("yaml_files") or {}), *(about.get("files") or {})])
        what = f"the archive holds no intent model{f', but {has}' if has else ''}"
        raise DataError(what, archive, _MAKES)
    if about.get("format") != FORMAT:
        what = f"the archive has format {about.get('format')}, and this version reads {FORMAT}"
        raise DataError(what, archive, "install the version that packed it, or pack it again")
    for name in ("config.yaml", "model.pth"):
        if not (root / name).is_file():
            raise DataError(f"the archive lacks {name}", archive, "pack the model again")


def _find_config(folder: Path) -> Path:
    phases = ("", "finetune")
    for config in (folder / phase / "config.yaml" for phase in phases):
        if config.is_file() and is_intent_config(read_yaml(config, "the configuration")):
            return config
    if any((folder / p / "config.yaml").is_file() for p in phases):
        raise DataError("the folder holds a model, but no intent model", folder, _MAKES)
    raise DataError("the folder holds no trained model", folder, _MAKES)


def is_intent_config(config: dict[str, Any]) -> bool:
    """Tell whether a training configuration is that of an intent model."""
    return all(config.get(key) for key in ("text_encoder", "labels")) and "ml_lmcl" in config


def find_model(folder: Path) -> Path:
    """Return the checkpoint to use of a phase's folder.

    Raises:
        DataError: There is none of the usual names.
    """
    for name in MODELS:
        if (folder / name).is_file():
            return folder / name
    have = ", ".join(sorted(p.name for p in folder.glob("*.pth"))) or "none"
    raise DataError(f"there is no {' or '.join(MODELS)}", folder, f"there are: {have}")


def _resolved(config: Path, folder: Path, bases: list[Path], where: Path) -> Path:
    """Write the configuration with absolute paths into ``folder``; return the new file."""
    values = read_yaml(config, "the configuration")
    if not is_intent_config(values):
        raise DataError("the configuration is not that of an intent model", where, _MAKES)
    for key in ("text_encoder", "labels"):
        given = PurePosixPath(str(values[key]))
        if bases == [folder] and (given.is_absolute() or ".." in given.parts):
            how = "do not use it; get it from its publisher"
            raise DataError(f"'{key}: {given}' leads out of the archive", where, how)
        found = next((p for b in bases if (p := b / given).is_dir()), None)
        if found is None:
            how = "run stages 2 and 4 of the recipe again, or pack the model where they are"
            raise DataError(f"the folder '{given}' ({key}) is missing", where, how)
        values[key] = str(found.resolve())
    out = folder / "config.resolved.yaml"
    out.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return out


def normalization(config: Path) -> str:
    """Return how the transcripts that a model was trained on were normalised.

    Args:
        config: A configuration of :func:`located`.
    """
    values = read_yaml(config, "the configuration")
    if NORMALIZE in values:
        return str(values[NORMALIZE])
    # Stage 2 of the recipe, which made the labels, has noted it.
    record = Path(values["labels"]).parents[1] / ".stages" / "format.json"
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["settings"]["normalize"])
    except (OSError, ValueError, KeyError, TypeError):
        return "none"


def pack_classifier(
    config: Path,
    model: Path,
    text_encoder: Path,
    labels: Path,
    out: Path,
    normalize: str = "none",
    about: dict[str, Any] | None = None,
) -> None:
    """Write one zip with all that classification needs; equal content gives equal bytes.

    It holds ``config.yaml`` (paths relative to the archive), ``model.pth`` (parameters only),
    ``text_encoder/`` (configuration and tokenizer, no weights), ``labels/<head>.txt`` and
    ``meta.yaml``.

    Args:
        config: ``config.yaml`` of the training.
        model: Its checkpoint, a dictionary of tensors.
        text_encoder: Folder of the encoder that training started from.
        labels: Folder with the labels of each head, ``<head>.txt``.
        out: The archive, written atomically.
        normalize: How the transcripts were normalised.
        about: Further entries of ``meta.yaml``.

    Raises:
        DataError: A file is missing, or the checkpoint holds more than tensors.
    """
    encoder = [text_encoder / name for name in ENCODER_FILES]
    encoder += sorted(p for x in MORE_ENCODER_FILES for p in text_encoder.glob(x))
    heads = sorted(p for p in labels.glob("*.txt") if not p.name.startswith("."))
    for path in (*encoder, *(heads or [labels / "<head>.txt"])):
        if not path.is_file():
            raise DataError("a file of the model is missing", path, "run stages 2 and 4 again")
    values = portable(read_yaml(config, "the configuration"), Path.cwd())
    values |= {"text_encoder": "text_encoder", "labels": "labels", NORMALIZE: normalize}
    meta = {"kind": KIND, "format": FORMAT, **(about or {}), "versions": versions()}
    counts = {p.stem: len(p.read_text(encoding="utf-8").split()) for p in heads}
    meta["heads"] = {head: n for head, n in counts.items() if head != "heads"}  # their order
    with atomic_path(out) as tmp, zipfile.ZipFile(tmp, "w") as z:
        _add(z, "meta.yaml", yaml.safe_dump(meta, sort_keys=False))
        _add(z, "config.yaml", yaml.safe_dump(values, allow_unicode=True))
        for folder, files in (("text_encoder", encoder), ("labels", heads)):
            for p in files:
                _add(z, f"{folder}/{p.name}", p.read_bytes())
        _add_model(z, model)


def versions() -> dict[str, str]:
    """Return the versions that matter for loading a model elsewhere."""
    from espnet_ext import __version__

    found = {"espnet_ext": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _add(z: zipfile.ZipFile, name: str, content: str | bytes) -> None:
    z.writestr(_info(name, zipfile.ZIP_DEFLATED), content)


def _info(name: str, compression: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _DATE)
    info.compress_type, info.external_attr = compression, 0o644 << 16
    return info


def _add_model(z: zipfile.ZipFile, model: Path) -> None:
    import torch

    from espnet_ext.espnet.checkpoint import load

    state = load(model)
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        how = "give the parameters (valid.acc.best.pth), not checkpoint.pth"
        raise DataError("the checkpoint holds more than the model's parameters", model, how)
    with tempfile.TemporaryFile() as f:
        torch.save(dict(state), f)
        f.seek(0)
        # Floating point numbers do not compress.
        info = _info("model.pth", zipfile.ZIP_STORED)
        with z.open(info, "w", force_zip64=True) as target:
            shutil.copyfileobj(f, target, 1 << 20)
