# SPDX-License-Identifier: Apache-2.0
"""How a folder makes one vector of an encoder's output: pooling, and maybe a dense layer.

Folders of sentence-transformers say so in ``modules.json`` and ``1_Pooling/config.json``; those of
transformers alone say nothing.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError
from espnet_ext.files import write_json

MODULES = "modules.json"
POOLINGS = ("auto", "pooled", "mean", "cls")
FILES = (  # that an embedding depends on
    "config.json", "*.safetensors", "model.safetensors.index.json", "tokenizer*.json", "vocab.*",
    "merges.txt", "*.model", "special_tokens_map.json", "added_tokens.json", MODULES,
    "*_Pooling/config.json", "*_Dense/config.json", "*_Dense/model.safetensors",
    "*_Dense/pytorch_model.bin",
)  # fmt: skip
_KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")
_MODES = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
_OFFSET = ("roberta", "camembert")  # number positions from the padding sub-word on


@dataclass(frozen=True)
class Layout:
    """Pooling (``pooled``, ``mean`` or ``cls``), and the folder of a dense layer if there is one.

    Attributes:
        pooling: What becomes of ``(B, T, D)``.
        dense: Folder below the encoder's, or empty.
        tanh: Whether the dense layer ends in tanh.
    """

    pooling: str
    dense: str = ""
    tanh: bool = False

    @property
    def name(self) -> str:
        """The pooling that, asked for with this folder, gives this layout again."""
        return "auto" if self.dense else self.pooling


def files(folder: Path) -> list[Path]:
    """Return the files of a folder that its embeddings depend on."""
    return sorted({p for pattern in FILES for p in folder.glob(pattern)})


def read(folder: Path, pooling: str) -> Layout:
    """Return the layout; ``auto`` is decided by the folder, else it stays what is given.

    Raises:
        DataError: The folder's own description is damaged, or of a form that is not supported.
    """
    if not (folder / MODULES).exists():
        return Layout("pooled" if pooling == "auto" else pooling)
    own = _described(folder)
    if pooling == "auto":
        return own
    if pooling == "pooled" and own.dense:
        what = "this folder's embedding is made by its Dense module, not by the model's pooler"
        raise DataError(what, folder / MODULES, "pooling: auto")
    return Layout(pooling)


def _described(folder: Path) -> Layout:
    kinds = {}
    for module in _json(folder / MODULES, list):
        kind = str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else ""
        if kind not in _KNOWN or kind in kinds:
            what = f"{'a second' if kind in kinds else 'the'} module '{kind}' is not supported"
            raise DataError(what, folder / MODULES, f"supported: {', '.join(_KNOWN)}")
        kinds[kind] = str(module.get("path", ""))
    modes = _json(folder / kinds.get("Pooling", "1_Pooling") / "config.json", dict)
    named = modes.get("pooling_mode")
    found = [_MODES.get(k, k) for k, v in modes.items() if k.startswith("pooling_mode_") and v]
    found = [named] if isinstance(named, str) else found
    if len(found) != 1 or found[0] not in _MODES.values():
        what = f"the pooling {', '.join(map(str, found)) or 'none'} is not supported"
        raise DataError(what, folder / kinds.get("Pooling", ""), "pooling: mean, cls or pooled")
    dense = kinds.get("Dense", "")
    if not dense:
        return Layout(found[0])
    activation = str(_json(folder / dense / "config.json", dict).get("activation_function", ""))
    ending = activation.rpartition(".")[2]
    if ending not in ("Tanh", "Identity"):
        raise DataError(f"the activation '{activation}' is not supported", folder / dense)
    return Layout(found[0], dense, ending == "Tanh")


def _json(path: Path, kind: type) -> Any:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise DataError(f"not readable as JSON: {e}", path, "copy the folder again") from None
    if not isinstance(found, kind):
        raise DataError(f"a {kind.__name__} was expected", path, "copy the folder again")
    return found


def read_dense(folder: Path, layout: Layout, device: str) -> tuple[Any, Any] | None:
    """Return weight ``(E, D)`` and bias ``(E,)`` of the dense layer, if there is one.

    Raises:
        DataError: Its weights are missing or of another form.
    """
    if not layout.dense:
        return None
    import torch
    from safetensors.torch import load_file

    path = folder / layout.dense / "model.safetensors"
    try:
        if path.exists():
            tensors = load_file(path, device=device)
        else:  # tensors and nothing else: other content of the pickle is refused
            path = path.with_name("pytorch_model.bin")
            tensors = torch.load(path, map_location=device, weights_only=True)
        return tensors["linear.weight"], tensors["linear.bias"]
    except Exception as e:  # the packages have classes of their own
        how = "copy the whole folder again; setu4993/LaBSE needs no such module"
        raise DataError(f"no weights of the Dense module: {e}", path, how) from None


def write(folder: Path, width: int) -> None:
    """Describe an encoder with mean pooling, so that ``auto`` and sentence-transformers know."""
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds)
    ]
    write_json(folder / MODULES, modules)
    modes = {key: kind == "mean" for key, kind in _MODES.items()}
    write_json(folder / "1_Pooling/config.json", {"word_embedding_dimension": width, **modes})


def pool(out: Any, mask: Any, pooling: str) -> Any:
    """Return ``(B, D)`` of an encoder's output; ``mask`` ``(B, T)`` is true at sub-words."""
    if pooling == "pooled":
        return out.pooler_output
    hidden = out.last_hidden_state
    if pooling == "cls":
        return hidden[:, 0]
    return (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def max_tokens(config: Any) -> int:
    """Return how many sub-words a text may have; the rest is cut."""
    limit = int(getattr(config, "max_position_embeddings", 512))
    if any(kind in config.model_type for kind in _OFFSET):
        limit -= (config.pad_token_id or 0) + 1
    return min(limit, 512)
