# SPDX-License-Identifier: Apache-2.0
"""Report how many parameters a system optimises, from models without weights.

    python -m espnet_ext.dual_task.counts                                  # the paper's sizes
    python -m espnet_ext.dual_task.counts --encoder FOLDER --symbols 75 --blstm-layers 1 --cells 64

The speech encoder is built from its ``config.json`` by transformers, without a folder XLS-R-300M;
the heads are this package's classes. All of it lies on torch's meta device: seconds, no download,
no memory. Three systems are shown: ``specialise`` (encoder and pooling head), ``dual``, and
``slu``, the SLU step of the sequential baseline. Its two steps are added up, as the paper does,
although they train the same encoder: that sum is no size of a model.

The paper's numbers include what does not learn: the convolutions, which are frozen unless
``train_cnn`` is set, the mask vector, and the pooling head in the SLU step.
Source: arXiv 2406.12141 gives 316.2, 385.6, 387.8 and 704 M; which layers and symbols make them up
was inferred: 141 symbols and one linear block for ``dual``, 212 and three for ``slu``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet_ext.dual_task.pooling import AttentivePooling
from espnet_ext.dual_task.slu_head import SluHead
from espnet_ext.errors import DataError, UsageError, exit_code

# XLS-R-300M, as transformers names the values that differ from wav2vec 2.0 base.
XLSR_300M = {
    "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
    "intermediate_size": 4096, "do_stable_layer_norm": True, "feat_extract_norm": "layer",
    "conv_bias": True,
}  # fmt: skip
CONVOLUTIONS, MASK = "convolutions", "mask vector"
NAMES = {
    "feature_extractor": CONVOLUTIONS,
    "feature_projection": "projection of their output",
    "encoder": "Transformer",
    "masked_spec_embed": MASK,
}  # of wav2vec2-type models in transformers; other names are shown as they are


@dataclass(frozen=True)
class Sizes:
    """Sizes of the heads; None: the width of the encoder.

    Attributes:
        embedding_dim: Width of the sentence vectors; 0: no pooling head.
        symbols: Of the output layer, V; 0: no SLU head either.
        blstm_layers, cells, linear_blocks, width: Of the SLU head.
    """

    embedding_dim: int = 768
    symbols: int = 141
    blstm_layers: int = 3
    cells: int | None = None
    linear_blocks: int = 1
    width: int | None = None


PAPER = {
    "specialise": Sizes(symbols=0),
    "dual": Sizes(),
    "slu": Sizes(symbols=212, linear_blocks=3),
}


def build_encoder(folder: Path | str | None) -> tuple[nn.Module, int]:
    """Return a speech encoder without weights and its width.

    Args:
        folder: With the ``config.json`` of a model that transformers knows; None: XLS-R-300M.

    Raises:
        DataError: There is no such configuration.
    """
    from transformers import AutoConfig, AutoModel, Wav2Vec2Config

    if folder is None:
        config: Any = Wav2Vec2Config(**XLSR_300M)
    else:
        if not (Path(folder) / "config.json").is_file():
            raise DataError("no config.json of a speech encoder", folder, "name its folder")
        try:
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError) as e:
            raise DataError(f"transformers cannot read the configuration: {e}", folder) from None
    width = getattr(config, "hidden_size", None)
    if not isinstance(width, int) or getattr(config, "conv_dim", None) is None:
        how = "wav2vec 2.0, XLS-R, HuBERT, WavLM"
        raise DataError(f"'{config.model_type}' is no wav2vec2-type encoder", folder, how)
    with torch.device("meta"):
        return AutoModel.from_config(config), width


def build(encoder: nn.Module, dim: int, sizes: Sizes) -> nn.ModuleDict:
    """Return encoder and heads on the meta device.

    Args:
        encoder: See :func:`build_encoder`.
        dim: Its width.
        sizes: Of the heads.
    """
    model = nn.ModuleDict({"encoder": encoder})
    with torch.device("meta"):
        if sizes.embedding_dim:
            model["pooling"] = AttentivePooling(dim, sizes.embedding_dim)
        if sizes.symbols:
            layers = (sizes.blstm_layers, sizes.cells, sizes.linear_blocks, sizes.width)
            model["slu"] = SluHead(dim, *layers)
            model["ctc"] = nn.Linear(model["slu"].output_size, sizes.symbols)
    return model


def count(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(p.numel() for p in module.parameters())


def count_parts(model: nn.ModuleDict) -> dict[str, int]:
    """Return the number of parameters by part; their sum is that of the model."""
    parts = {}
    encoder = model["encoder"]
    for name, module in encoder.named_children():
        parts[f"encoder: {NAMES.get(name, name)}"] = count(module)
    for name, p in encoder.named_parameters(recurse=False):
        parts[f"encoder: {NAMES.get(name, name)}"] = p.numel()
    if "pooling" in model:
        parts["pooling"] = count(model["pooling"].score)
        parts["projection"] = count(model["pooling"].projection)
    if "slu" in model:
        parts["Bi-LSTM"] = count(model["slu"].blstm) if model["slu"].blstm is not None else 0
        parts["linear blocks"] = count(model["slu"].blocks)
        parts["output layer"] = count(model["ctc"])
    if sum(parts.values()) != count(model):
        raise RuntimeError("parts share parameters")
    return parts


def report(
    folder: Path | str | None = None, systems: dict[str, Sizes] | None = None
) -> dict[str, dict[str, int]]:
    """Return ``{system: {part: parameters}}``.

    Args:
        folder: See :func:`build_encoder`.
        systems: By name; the paper's if left out.

    Raises:
        DataError: There is no such encoder.
    """
    encoder, dim = build_encoder(folder)
    chosen = (systems or PAPER).items()
    return {name: count_parts(build(encoder, dim, sizes)) for name, sizes in chosen}


def table(counted: dict[str, dict[str, int]]) -> str:
    """Return the report in Markdown."""
    rows = list(dict.fromkeys(part for parts in counted.values() for part in parts))
    totals = {name: sum(parts.values()) for name, parts in counted.items()}
    lines = ["| part | " + " | ".join(counted) + " |", "|---|" + "---:|" * len(counted)]
    for part in rows:
        cells = [f"{parts[part]:,}" if part in parts else "-" for parts in counted.values()]
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    lines.append("| **all** | " + " | ".join(f"{n:,}" for n in totals.values()) + " |")
    lines.append("| in millions | " + " | ".join(millions(n) for n in totals.values()) + " |")
    if {"specialise", "slu", "dual"} <= totals.keys():
        dual, both = totals["dual"], totals["specialise"] + totals["slu"]
        lines += ["", f"sequential, both steps: {millions(both)} M optimised; dual: "
                  f"{millions(dual)} M, {100 * dual / both:.1f} % of it"]  # fmt: skip
    return "\n".join(lines)


def millions(number: int) -> str:
    """Return a number in millions, two decimals."""
    return f"{number / 1e6:.2f}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    about = "Report how many parameters each system optimises; defaults are the paper's."
    parser = argparse.ArgumentParser(
        prog="python -m espnet_ext.dual_task.counts", description=about
    )
    parser.add_argument("--encoder", metavar="FOLDER", help="with config.json; else XLS-R-300M")
    for name, text in (
        ("embedding-dim", "width of the sentence vectors (768)"),
        ("symbols", "of the output layer (141 for dual, 212 for slu)"),
        ("blstm-layers", "layers of the Bi-LSTM (3)"),
        ("cells", "cells a direction (the encoder's width)"),
        ("linear-blocks", "linear layers with LeakyReLU (1 for dual, 3 for slu)"),
        ("width", "of the linear blocks (the encoder's width)"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the report.

    Raises:
        UsageError: A size is not possible.
        DataError: There is no such encoder.
    """
    args = vars(parse(argv))
    folder, as_json = args.pop("encoder"), args.pop("json")
    given = {k: v for k, v in args.items() if v is not None}
    for key, value in given.items():
        if value < (0 if key in ("blstm_layers", "linear_blocks") else 1):
            raise UsageError(f"a size of {value}", f"--{key.replace('_', '-')}")
    systems = {name: replace(sizes, **given) for name, sizes in PAPER.items()}
    systems["specialise"] = replace(systems["specialise"], symbols=0)
    counted = report(folder, systems)
    print(json.dumps(counted, indent=1) if as_json else table(counted))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
