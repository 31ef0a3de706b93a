# SPDX-License-Identifier: Apache-2.0
"""A trained model from its files: an experiment's folder, an archive, or configuration and weights.

Every tensor must come from the file: a model whose Bi-LSTM was left as initialised would answer.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from espnet_ext.dual_task.options import SECTION, resolve
from espnet_ext.errors import DataError, EspnetExtError, told
from espnet_ext.espnet.archive import asr_files, read_yaml
from espnet_ext.espnet.model_kind import find_config, find_model, method_of
from espnet_ext.hub import found
from espnet_ext.packed import AGAIN, is_packed

MAKES = "recipes egs2/*/dual_task1 make such a model: give exp/<name> or its archive"


class Files(NamedTuple):
    """Where the parts of a model are.

    Attributes:
        config: ``config.yaml`` of the training.
        model: Its checkpoint.
        about: The description of the sentence encoder; None if it is not there.
        base: Folder that relative paths in them are meant from.
    """

    config: Path
    model: Path
    about: Path | None
    base: Path


@contextmanager
def located(path: Path | str) -> Iterator[Files]:
    """Yield the files of a trained model; what came out of an archive is gone afterwards.

    Args:
        path: Archive of stage 10, folder or hub name of a published model, experiment folder
            ``exp/<name>``, or the folder of a phase.

    Raises:
        DataError: There is nothing, it is damaged, or it is the model of another method.
    """
    path = found(path)
    if is_packed(path):
        method_of(path, [SECTION])
        with asr_files(path) as (config, model, _):
            check_config(config, path)
            yield _of_base(config, model, _root(config))
        return
    if not path.is_dir():
        raise DataError("there is no such model", path, MAKES)
    config = find_config(path)
    if config is None:
        raise DataError("the folder holds no trained model", path, MAKES)
    values = check_config(config, path)
    files = of_config(config, find_model(config, values))
    with tempfile.TemporaryDirectory(prefix="espnet_ext_") as folder:
        yield files._replace(config=_from_anywhere(config, values, Path(folder)))


def _from_anywhere(config: Path, values: dict[str, Any], folder: Path) -> Path:
    """Return the configuration; a copy where a file of features is meant from another folder."""
    conf = values.get("normalize_conf") or {}
    stats = Path(str(conf.get("stats_file") or config))
    if stats.exists():
        return config
    found = next((b / stats for b in config.resolve().parents if (b / stats).is_file()), None)
    if found is None:
        how = "./run.sh --stage finetune, or give the archive of stage 10"
        raise DataError("the statistics of the model's features are missing", stats, how)
    values = {**values, "normalize_conf": {**conf, "stats_file": str(found)}}
    out = folder / "config.yaml"
    out.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    return out


def of_config(config: Path, model: Path) -> Files:
    """Return the files of a training in the folder of its recipe."""
    store = resolve(_section(read_yaml(config, "the configuration"))).sentences
    bases = (Path.cwd(), *config.resolve().parents)  # paths are relative to the recipe's folder
    base = next((b for b in bases if (b / store / "about.json").is_file()), None)
    about = None if base is None else base / store / "about.json"
    return Files(config, model, about, base or Path.cwd())


def check_config(config: Path, where: object) -> dict[str, Any]:
    """Return a configuration that is one of this method.

    Raises:
        DataError: It is not.
    """
    values = read_yaml(config, "the configuration")
    if not isinstance(values.get(SECTION), dict):
        raise DataError(f"the model was not trained by {SECTION}", where, MAKES)
    return values


def load_model(config: Path, model_file: Path, device: str = "cpu") -> tuple[Any, Any]:
    """Load a model in evaluation mode; no network and no data of the training are used.

    Returns:
        The model, and the training's options as a namespace.

    Raises:
        DataError: The files do not fit together, or are damaged.
    """
    if "resolved" not in check_config(config, config)[SECTION]:
        what = "the configuration lacks what the training read (dual_task.resolved)"
        raise DataError(what, config, "take the config.yaml that the training wrote")
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import quiet_import

    fastimport.enable()
    with quiet_import():
        from espnet_ext.dual_task.task import DualTask
        from espnet_ext.espnet.checkpoint import load
    try:
        model, args = DualTask.build_model_from_file(config, None, device)
    except EspnetExtError:
        raise
    except Exception as e:  # a configuration that was changed by hand
        what = f"the model cannot be built ({told(e)})"
        raise DataError(what, config, "take the config.yaml that the training wrote") from e
    try:
        state = load(model_file, device)
    except Exception as e:  # of torch, pickle, zipfile: each has its own
        what = f"the checkpoint cannot be loaded ({told(e)})"
        raise DataError(what, model_file, AGAIN) from None
    if not isinstance(state, dict):
        raise DataError("the checkpoint holds no parameters", model_file, AGAIN)
    try:
        model.load_state_dict(state)
    except RuntimeError as e:
        how = "take configuration and checkpoint of the same training"
        raise DataError(f"the checkpoint does not fit: {e}", model_file, how) from None
    return model.eval(), args


def _root(config: Path) -> Path:
    """Return the folder into which an archive was unpacked: the one that holds meta.yaml."""
    return next((p for p in config.parents if (p / "meta.yaml").is_file()), config.parent)


def _of_base(config: Path, model: Path, base: Path) -> Files:
    store = str(resolve(_section(read_yaml(config, "the configuration"))).sentences)
    about = Path(os.path.normpath(base / store.lstrip("/") / "about.json"))  # it may be a link
    inside = about.is_file() and about.is_relative_to(base)
    return Files(config, model, about if inside else None, base)


def _section(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values[SECTION].items() if k != "resolved"}
