# SPDX-License-Identifier: Apache-2.0
"""Is a trained model complete for stock ESPnet? Its own loading would not tell what is missing."""

import difflib
import logging
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import EspnetExtError, told
from espnet_ext.espnet.checkpoint import load


@dataclass
class Verdict:
    """Names of parameters and buffers: in stock only, in the file only, of another shape."""

    missing: list[str]
    extra: list[str]
    reshaped: list[str]
    total: int


def compare(stock: dict, trained: dict) -> Verdict:
    """Compare two state dictionaries by name and shape."""
    both = stock.keys() & trained.keys()
    return Verdict(
        missing=sorted(stock.keys() - trained.keys()),
        extra=sorted(trained.keys() - stock.keys()),
        reshaped=sorted(
            f"{k} {tuple(trained[k].shape)} != {tuple(stock[k].shape)}"
            for k in both
            if trained[k].shape != stock[k].shape
        ),
        total=len(stock),
    )


def verify_stock(config: Path, model_file: Path, task: type | None = None) -> Verdict:
    """Check that ESPnet's own inference gets every parameter of its model from the file.

    Args:
        config: The ``config.yaml`` that training wrote.
        model_file: The checkpoint to be decoded with.
        task: ESPnet's task that inference uses; default: the ASR task.

    Raises:
        EspnetExtError: A parameter is missing, renamed or of another shape, each named; or the
            configuration asks for a model that stock ESPnet does not have.
    """
    if task is None:
        from espnet2.tasks.asr import ASRTask as task

    try:
        model, _ = task.build_model_from_file(config, None)
    except Exception as e:
        raise EspnetExtError(
            f"stock ESPnet cannot build the model: {told(e)}",
            config,
            "keep 'model: espnet' and put the method's settings under further top-level keys",
        ) from e
    verdict = compare(model.state_dict(), load(model_file))
    if verdict.missing or verdict.reshaped:
        lines = [_missing_line(name, verdict.extra) for name in verdict.missing]
        lines += [f"other shape: {line}" for line in verdict.reshaped]
        shown = "\n    ".join(lines[:20] + ([f"... {len(lines) - 20} more"] if lines[20:] else []))
        raise EspnetExtError(
            f"stock ESPnet would leave {len(lines)} of {verdict.total} parameters as initialised:"
            f"\n    {shown}",
            model_file,
            "swap the model's class after super().build_model; do not wrap or rename",
        )
    for name in verdict.extra:
        logging.info(f"ignored by stock ESPnet: {name}")
    return verdict


def _missing_line(name: str, extra: list[str]) -> str:
    suffix = [e for e in extra if e.endswith(f".{name}")]
    close = suffix or difflib.get_close_matches(name, extra, n=1, cutoff=0.8)
    return f"missing: {name}" + (f" (renamed to {close[0]}?)" if close else "")
