# SPDX-License-Identifier: Apache-2.0
"""The files of a packed model of ESPnet's, from an archive or from a folder of the hub."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from espnet_ext import yamlfile
from espnet_ext.errors import DataError
from espnet_ext.hub import found
from espnet_ext.packed import AGAIN, META, how_packed, unpacked


def read_yaml(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that must hold ``key: value`` lines.

    Args:
        path: The file.
        what: What the file is, for the message.

    Raises:
        DataError: Not readable, or something else.
    """
    try:
        value = yamlfile.read(path, DataError)
    except DataError as e:
        raise DataError(f"{what} cannot be read ({e.what})", e.where, AGAIN) from None
    if not isinstance(value, dict):
        raise DataError(f"{what} does not hold key: value lines", path, AGAIN)
    return value


@contextmanager
def asr_files(archive: Path | str) -> Iterator[tuple[Path, Path, dict[str, str]]]:
    """Yield configuration, checkpoint and further files of a packed ESPnet ASR model.

    The archive is one of ESPnet's: of this project's stage 10, of ``espnet2.bin.pack asr``, or of
    a public collection; or a folder with its files, as ``espnet-ext publish`` writes it, or a name
    on the hub. Paths inside the configuration are made absolute.

    Yields:
        ``config.yaml``, the checkpoint, and options of ``Speech2Text`` for the rest, e.g.
        ``lm_file`` and ``lm_train_config``. All are gone afterwards.

    Raises:
        DataError: The archive is not usable, or holds no ASR model.
    """
    with unpacked(found(archive)) as root:
        meta = read_yaml(_meta(root, archive), "meta.yaml of the archive")
        named = {**(meta.get("yaml_files") or {}), **(meta.get("files") or {})}
        if "asr_train_config" not in named or "asr_model_file" not in named:
            kind = meta.get("kind") or ", ".join(map(str, named)) or "nothing"
            how = "give an archive that stage 10 of an ASR recipe (egs2/*/asr1) made"
            raise DataError(f"the archive holds no ESPnet ASR model, but {kind}", archive, how)
        inside = {str(p.relative_to(root)): p for p in root.rglob("*") if p.is_file()}
        files = {key: _member(inside, str(name), archive) for key, name in named.items()}
        for key in meta.get("yaml_files") or {}:
            config = read_yaml(files[key], f"'{named[key]}' of the archive")
            text = yaml.safe_dump(_absolute(config, inside), allow_unicode=True)
            files[key].unlink()  # it may be a link
            files[key].write_text(text, encoding="utf-8")
        rest = {k: str(p) for k, p in files.items() if not k.startswith("asr_")}
        yield files["asr_train_config"], files["asr_model_file"], rest


def _meta(root: Path, archive: Path | str) -> Path:
    found = sorted(root.rglob(META), key=lambda p: len(p.parts))
    if not found:
        kind = "folder" if Path(archive).is_dir() else "archive"
        what = f"the {kind} has no meta.yaml: it is no packed model"
        raise DataError(what, archive, how_packed(archive))
    return found[0]


def _member(inside: dict[str, Path], name: str, archive: Path | str) -> Path:
    # ESPnet notes absolute names of files from outside the folder it was started in, and zip and
    # tar archives drop the leading slash.
    if name.lstrip("/") not in inside:
        raise DataError(f"the archive lacks '{name}', which it names", archive, AGAIN)
    return inside[name.lstrip("/")]


def _absolute(value: Any, inside: dict[str, Path]) -> Any:
    """Put the unpacked path in place of each text that is the name of a member."""
    if isinstance(value, dict):
        return {k: _absolute(v, inside) for k, v in value.items()}
    if isinstance(value, list):
        return [_absolute(v, inside) for v in value]
    if isinstance(value, str) and value and str(Path(value)).lstrip("/") in inside:
        return str(inside[str(Path(value)).lstrip("/")])
    return value
