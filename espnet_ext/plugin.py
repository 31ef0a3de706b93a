# SPDX-License-Identifier: Apache-2.0
"""Objects that recipe.yaml names as ``module:name``."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet_ext.errors import UsageError


def load_object(name: str, where: str) -> Any:
    """Import ``module:name``.

    Args:
        name: For example ``espnet_ext.weak_align.task:WeakAlignTask``.
        where: The key of recipe.yaml, for the message.

    Raises:
        UsageError: The form is wrong, or there is no such module or name. An error inside the
            module itself is not hidden.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute or module_name.startswith("."):
        raise UsageError(f"'{name}' is not of the form module:name", where)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        if e.name and not f"{module_name}.".startswith(f"{e.name}."):
            raise
        raise UsageError(f"there is no module '{module_name}'", where) from None
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise UsageError(f"module '{module_name}' has no '{attribute}'", where) from None


def config_check(task: str) -> Callable[[dict[str, Any]], None]:
    """Return ``check_config(config)`` of the package that holds a task; it raises what is wrong."""
    return _of_package(task, "check_config") or (lambda config: None)


def complete_config(task: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return ``complete_config(config)`` of the package that holds a task.

    It adds to a training configuration what the task will settle by itself.
    """
    return _of_package(task, "complete_config") or (lambda config: config)


def further_needs(task: str) -> Callable[[str, dict[str, Any]], list[Path]]:
    """Return ``needs(task, config)`` of the package that holds a task: files a training reads."""
    return _of_package(task, "needs") or (lambda task, config: [])


def unread_streams(task: str) -> Callable[[str, dict[str, Any]], tuple[str, ...]]:
    """Return ``unread_streams(task, config)`` of the package that holds a task.

    It names streams of the phase that a training of this configuration does not look at: they need
    not exist.
    """
    return _of_package(task, "unread_streams") or (lambda task, config: ())


def extendable(task: str) -> frozenset[str]:
    """Return ``EXTENDABLE`` of the package that holds a task.

    It has the dotted names of options that do not change what is trained: a training that was
    stopped may go on with others.
    """
    return frozenset(_of_package(task, "EXTENDABLE") or ())


def phase_off(task: str) -> Callable[[str, dict[str, Any]], str]:
    """Return ``phase_off(task, config)`` of the package that holds a task.

    It tells why a training phase has nothing to do with a configuration; else an empty text.
    """
    return _of_package(task, "phase_off") or (lambda task, config: "")


def _of_package(task: str, name: str) -> Any:
    """Look up a name of the package of ``package.module:Class``; it imports nothing heavy."""
    package = task.partition(":")[0].rpartition(".")[0]
    if ":" not in task or not package:
        return None
    try:
        return getattr(importlib.import_module(package), name, None)
    except ModuleNotFoundError:  # the training says it better, with the name of the task
        return None
