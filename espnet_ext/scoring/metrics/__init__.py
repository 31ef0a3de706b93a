# SPDX-License-Identifier: Apache-2.0
"""Metrics, one file each: ``NAME.py`` holds ``METRIC``, a :class:`~.base.Metric` of that name.

recipe.yaml names them in ``score.metrics``: by name, or as ``module:object`` for one of the recipe
(``local.per:METRIC`` is in ``local/per.py``). The object is a :class:`~.base.Metric`, or a function
``f(reference, hypothesis) -> (errors, units)`` of one utterance.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import UsageError, nearest
from espnet_ext.plugin import load_object
from espnet_ext.scoring.metrics.base import Better, Metric, Scored, percent

__all__ = ["Better", "Metric", "Scored", "built_in", "find", "load", "own_files", "percent"]
_WHERE = "score.metrics"


def built_in() -> tuple[str, ...]:
    """Return the names of the metrics of this package."""
    return tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def find(name: str, folder: Path | str = ".") -> Metric:
    """Return a metric.

    Args:
        name: As recipe.yaml writes it: a name, or ``module:object``.
        folder: The recipe's folder, where a module is looked up first.

    Raises:
        UsageError: There is no such metric, or the object is not one.
    """
    if ":" in name:
        return _metric(_own(name, Path(folder)), name)
    if name not in built_in():
        how = f"{nearest(name, built_in())}, or module:object"
        raise UsageError(f"there is no metric '{name}'", _WHERE, how)
    return importlib.import_module(f"{__name__}.{name}").METRIC


def load(names: Iterable[str], folder: Path | str = ".") -> dict[str, Metric]:
    """Return metrics by their name, in order.

    Raises:
        UsageError: See :func:`find`; also if two have the same name.
    """
    metrics: dict[str, Metric] = {}
    for name in names:
        metric = find(name, folder)
        if metric.name in metrics:
            raise UsageError(f"the metric '{metric.name}' is named twice", _WHERE)
        metrics[metric.name] = metric
    return metrics


def own_files(names: Iterable[str], folder: Path | str = ".") -> list[Path]:
    """Return the files of a recipe's own metrics: scores depend on them."""
    return [path for name in names if ":" in name and (path := _file(name, folder)).is_file()]


def _file(name: str, folder: Path | str) -> Path:
    return Path(folder) / f"{name.partition(':')[0].replace('.', '/')}.py"


def _own(name: str, folder: Path) -> Any:
    """Load ``module:object``; a file of the recipe apart from those of other recipes."""
    module, _, attribute = name.partition(":")
    path = _file(name, folder)
    if not attribute or not path.is_file():
        return load_object(name, _WHERE)
    spec = importlib.util.spec_from_file_location(f"_metric_{module.replace('.', '_')}", path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    try:
        return getattr(loaded, attribute)
    except AttributeError:
        raise UsageError(f"{path} has no '{attribute}'", _WHERE) from None


def _metric(found: Any, name: str) -> Metric:
    if isinstance(found, Metric):
        return found
    if callable(found):
        return _of_function(found, name.rpartition(":")[2])
    raise UsageError(
        f"'{name}' is neither a Metric nor a function", _WHERE, "see espnet_ext.scoring.metrics"
    )


def _of_function(function: Callable[[str, str], tuple[int, int]], name: str) -> Metric:
    """Make an error rate of a function that counts errors and units of one utterance."""

    def score(refs: list[str], hyps: list[str]) -> np.ndarray:
        return np.array([function(r, h) for r, h in zip(refs, hyps, strict=True)])

    note = " ".join((function.__doc__ or "").partition("\n")[0].split())
    return Metric(name.lower(), name, "lower", ("errors", "units"), score, note=note)
