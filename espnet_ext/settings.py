# SPDX-License-Identifier: Apache-2.0
"""Sections of YAML into dataclasses: every key and every type is checked."""

import dataclasses
import math
import re
import types
import typing
from typing import Any

from espnet_ext.errors import UsageError, nearest


@dataclasses.dataclass(frozen=True)
class Limits:
    """What values a field may have; stands in ``Annotated[type, "meaning", Limits(...)]``."""

    one_of: tuple = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    pattern: str | None = None

    def problem(self, value: Any) -> str | None:
        """Return what ``value`` must be, or None if it is allowed."""
        if self.one_of and value not in self.one_of:
            known = [str(x) for x in self.one_of]
            hint = nearest(str(value), known)
            meant = f" ({hint})" if hint.startswith("did") else ""  # else it lists them again
            return f"one of {', '.join(known)}{meant}"
        if self.at_least is not None and not value >= self.at_least:
            return f"at least {self.at_least:g}"
        if self.above is not None and not value > self.above:
            return f"above {self.above:g}"
        if self.at_most is not None and not value <= self.at_most:
            return f"at most {self.at_most:g}"
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return f"of the form {self.pattern}"
        return None


def strip_none(cls: Any) -> Any:
    """Return ``X`` of the type ``X | None``, any other type as it is."""
    if _is_optional(cls):
        return next(a for a in typing.get_args(cls) if a is not type(None))
    return cls


def _is_optional(cls: Any) -> bool:
    return isinstance(cls, types.UnionType) or typing.get_origin(cls) is typing.Union


def build(cls: Any, value: Any, path: str, where: str = "") -> Any:
    """Check ``value`` against type ``cls`` and return it, sections as dataclasses.

    Args:
        cls: A type; a dataclass stands for a section.
        value: What YAML gave.
        path: File or option that holds it, for messages.
        where: Dotted key of the value, for messages.

    Raises:
        UsageError: An unknown key (the nearest is named), a missing one, or another type.
    """
    if typing.get_origin(cls) is typing.Annotated:
        all_limits = [x for x in cls.__metadata__ if isinstance(x, Limits)]
        if value is None and any("none" in limits.one_of for limits in all_limits):
            value = "none"  # the command line reads this word as null
        built = build(cls.__origin__, value, path, where)
        for limits in all_limits:
            problem = limits.problem(built)
            _expect(problem is None, str(problem), value, path, where)
        return built
    if _is_optional(cls) and value is None:
        return None
    cls = strip_none(cls)
    if typing.get_origin(cls) is typing.Annotated:
        return build(cls, value, path, where)
    if dataclasses.is_dataclass(cls):
        return _build_section(cls, value, path, where)
    origin, args = typing.get_origin(cls), typing.get_args(cls)
    if origin is list:
        _expect(isinstance(value, list), "a list", value, path, where)
        return [build(args[0], v, path, f"{where}[{i}]") for i, v in enumerate(value)]
    if origin is dict:
        _expect(isinstance(value, dict), "key: value lines", value, path, where)
        return {k: build(args[1], v, path, f"{where}.{k}") for k, v in value.items()}
    if cls is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            value = float(value)
        except ValueError:
            _expect(False, "a number", value, path, where)
    if cls is float and isinstance(value, float):
        _expect(not math.isnan(value), "a number", value, path, where)
    number_or_text = cls is not int or not isinstance(value, bool)
    _expect(isinstance(value, cls) and number_or_text, cls.__name__, value, path, where)
    return value


def _build_section(cls: type, value: Any, path: str, where: str) -> Any:
    value = {} if value is None else value
    _expect(isinstance(value, dict), "a section with key: value lines", value, path, where)
    hints = typing.get_type_hints(cls, include_extras=True)
    for key in value:
        if key not in hints:
            dotted = f"{where}.{key}" if where else str(key)
            raise UsageError(f"unknown key '{dotted}'", path, nearest(str(key), hints))
    for f in dataclasses.fields(cls):
        if f.default is f.default_factory is dataclasses.MISSING and f.name not in value:
            raise UsageError(f"'{where}.{f.name}' is missing", path, f"add '{f.name}:' to {where}")
    built = {k: build(hints[k], v, path, f"{where}.{k}" if where else k) for k, v in value.items()}
    return cls(**built)


def _expect(ok: bool, what: str, value: Any, path: str, where: str) -> None:
    if not ok:
        shown = repr(value) if len(repr(value)) < 80 else repr(value)[:77] + "..."
        raise UsageError(f"'{where}' must be {what}, not {shown}", path)
