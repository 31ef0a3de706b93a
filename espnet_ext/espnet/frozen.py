# SPDX-License-Identifier: Apache-2.0
"""The frozen encoder of any ESPnet model: front end, normalisation, encoder, and nothing else.

It is built from the parts that a configuration names, not from a task, so ASR, SSL and ST models
and those of this project load alike. Every tensor of these parts must come from the checkpoint.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import DataError, told
from espnet_ext.espnet import input_layers
from espnet_ext.espnet.archive import read_yaml
from espnet_ext.espnet.model_kind import find_config, find_model
from espnet_ext.frames import rate_hz
from espnet_ext.hub import found as found_model
from espnet_ext.packed import is_packed, unpacked

PARTS = ("frontend", "normalize", "preencoder", "encoder")
_GIVE = "give exp/<name>, the folder of a phase, or an archive of an ESPnet model with an encoder"
_AGAIN = "take configuration and checkpoint of the same training"


@contextmanager
def model_files(path: Path | str) -> Iterator[tuple[Path, Path]]:
    """Yield configuration and checkpoint of a trained model.

    Args:
        path: Experiment folder, folder of a phase, archive of any of ESPnet's tasks, or the folder
            or hub name of a published model.

    Raises:
        DataError: There is no model, or the archive is not usable.
    """
    path = found_model(path)
    if path.is_dir() and not is_packed(path):
        config = find_config(path)
        if config is None:
            raise DataError("the folder holds no trained model", path, _GIVE)
        yield config, find_model(config, read_yaml(config, "the configuration"))
        return
    if not is_packed(path):
        raise DataError("there is no such model", path, _GIVE)
    with unpacked(path) as root:
        metas = sorted(root.rglob("meta.yaml"), key=lambda p: len(p.parts))
        if not metas:
            raise DataError("the archive has no meta.yaml: it is no packed model", path, _GIVE)
        meta = read_yaml(metas[0], "meta.yaml of the archive")
        config = _named(root, meta.get("yaml_files"), "_train_config", path)
        yield config, _named(root, meta.get("files"), "_model_file", path)


def _named(root: Path, files: Any, ending: str, archive: Path) -> Path:
    """Return the first file of a kind: that of the model itself, before language models."""
    for key, name in (files if isinstance(files, dict) else {}).items():
        found = Path(os.path.normpath(root / str(name).lstrip("/")))  # its files may be links
        if str(key).endswith(ending) and found.is_relative_to(root) and found.is_file():
            return found
    raise DataError(f"the archive names no file '*{ending}', or lacks it", archive, _GIVE)


def load_frozen(config: Path, model_file: Path, device: str = "cpu") -> Any:
    """Load the encoder of a model, frozen and in evaluation mode.

    Args:
        config: ``config.yaml`` of the training; its statistics file need not exist.
        model_file: The checkpoint.
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        A module with ``frontend``, ``normalize``, ``preencoder`` (None where the model has none)
        and ``encoder``; ``fs`` (Hz) is its sampling rate.

    Raises:
        DataError: The model has no encoder, or the files do not fit together.
    """
    import torch

    from espnet_ext.espnet.checkpoint import load

    values = read_yaml(config, "the configuration")
    if not values.get("encoder"):
        raise DataError("the model has no encoder", config, _GIVE)
    try:
        state = load(model_file)
    except Exception as e:  # of torch, pickle, zipfile: each has its own
        raise DataError(
            f"the checkpoint cannot be loaded ({told(e)})", model_file, _AGAIN
        ) from None
    if not isinstance(state, dict) or not any(str(k).startswith("encoder.") for k in state):
        raise DataError("the checkpoint has no tensor encoder.*", model_file, _GIVE)
    try:
        parts = _build(values, state)
    except Exception as e:
        what = f"the encoder cannot be built ({told(e)})"
        raise DataError(what, config, "take the config.yaml that the training wrote") from e
    model = torch.nn.Module()
    for name, part in parts.items():
        setattr(model, name, part)
    wanted = {k: v for k, v in state.items() if k.partition(".")[0] in PARTS}
    try:
        model.load_state_dict(wanted)
    except RuntimeError as e:
        raise DataError(f"the checkpoint does not fit: {e}", model_file, _AGAIN) from None
    model.fs = int(rate_hz(values.get("frontend_conf") or {}))
    return model.requires_grad_(False).eval().to(device)


def _build(values: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    from espnet_ext.espnet.compat import prepare_espnet, quiet_import

    prepare_espnet()
    with quiet_import():
        from espnet2.tasks.asr import (
            encoder_choices,
            frontend_choices,
            normalize_choices,
            preencoder_choices,
        )
    choices = {
        "frontend": frontend_choices,
        "normalize": normalize_choices,
        "preencoder": preencoder_choices,
        "encoder": encoder_choices,
    }

    def part(name: str, *args: Any, **more: Any) -> Any:
        kind = values.get(name)
        if kind is None:
            return None
        return choices[name].get_class(kind)(
            *args, **{**(values.get(f"{name}_conf") or {}), **more}
        )

    with tempfile.TemporaryDirectory(prefix="espnet_ext_") as folder:
        more = {}
        if values.get("normalize") == "global_mvn":
            more["stats_file"] = _stand_in(Path(folder), state["normalize.mean"].numel())
        parts = {"frontend": part("frontend"), "normalize": part("normalize", **more)}
    size = parts["frontend"].output_size() if parts["frontend"] else values.get("input_size")
    parts["preencoder"] = part("preencoder")
    if parts["preencoder"] is not None:
        size = parts["preencoder"].output_size()
    layer = input_layers.own_layer(values)
    more = {"input_layer": input_layers.STAND_IN} if layer else {}
    parts["encoder"] = part("encoder", input_size=size, **more)
    if layer:
        input_layers.install(parts["encoder"], layer, size)
    return parts


def _stand_in(folder: Path, size: int) -> str:
    """Write statistics of the right size; the true ones come with the checkpoint."""
    zeros = np.zeros(size, np.float32)
    np.savez(folder / "stats.npz", count=1, sum=zeros, sum_square=zeros + 1)
    return str(folder / "stats.npz")


def hidden_input(model: Any, speech: Any, lengths: Any) -> tuple[Any, Any]:
    """Return what the encoder is given of ``speech (B, N)``: features ``(B, T, F)``, lengths."""
    feats = speech[:, : int(lengths.max())]
    for name in PARTS[:-1]:
        part = getattr(model, name)
        if part is not None:
            feats, lengths = part(feats, lengths)
    return feats, lengths
