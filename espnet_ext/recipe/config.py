# SPDX-License-Identifier: Apache-2.0
"""recipe.yaml, a preset and ``--section.field value`` overrides into a checked :class:`Recipe`."""

import contextlib
import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

from espnet_ext import yamlfile
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe import presets
from espnet_ext.recipe.schema import PHASES, Phase, Recipe
from espnet_ext.settings import build, strip_none

EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def load(path: Path, overrides: list[tuple[str, str]] = ()) -> Recipe:
    """Read recipe.yaml, apply preset and overrides, check every key and type.

    A phase that they switch off (``--midtrain none``) is left out of the chain: a later phase that
    would start from it starts from what it would have started from.

    Args:
        path: The YAML file.
        overrides: ``(dotted key, text)`` in the order of the command line; the last wins.

    Raises:
        UsageError: No such file, broken YAML, unknown key (the nearest valid one is named),
            or a value of the wrong type; no such preset.
    """
    if not path.exists():
        raise UsageError("there is no recipe.yaml here", path, "enter egs2/<corpus>/<method>1")
    file = yamlfile.read_extended(path, "recipe.yaml", empty=False)
    name = presets.chosen(file, overrides)
    for other in _presets_of(file) - {name}:  # a mistake in one is told before it is wanted
        build(Recipe, _applied(file, other, []), f"{path}: presets.{other}", "")
    raw = _applied(file, name, overrides)
    notes = _leave_out(file, raw)
    try:
        recipe = build(Recipe, raw, str(path), "")
    except UsageError as e:
        raise _of_option(e, overrides) from None
    recipe.notes = notes
    off = [p for p in PHASES if getattr(recipe, p) is None and isinstance(file.get(p), dict)]
    recipe.left_out = tuple(build(Phase, file[p], str(path), p) for p in off)
    if not EXPERIMENT_NAME.fullmatch(recipe.name):
        raise UsageError(
            f"'{recipe.name}' cannot name an experiment (it names a folder below exp/)",
            "name",
            "use letters, digits, '.', '_' and '-'",
        )
    return recipe


def _of_option(error: UsageError, overrides: list[tuple[str, str]]) -> UsageError:
    """Return the error with the option in place of recipe.yaml, where an option is at fault."""
    key = error.what.partition("'")[2].partition("'")[0]
    given = [name for name, _ in overrides if key == name or key.startswith(f"{name}[")]
    return UsageError(error.what, f"--{given[-1]}", error.how) if given else error


def _presets_of(file: dict) -> set[str]:
    found = file.get(presets.SECTION)
    return {str(name) for name in found} if isinstance(found, dict) else set()


def _applied(file: dict, preset: str, overrides: list[tuple[str, str]]) -> dict:
    """Return the values of the file with the preset's over them, and the overrides over those."""
    raw = _unshared(file)
    if preset:
        if file.get(presets.KEY) != preset:  # else the file names its experiment itself
            raw["name"] = preset
        raw[presets.KEY] = preset
        for key, value, where in presets.values(file, preset):
            _override(raw, key.split("."), _unshared(value), where)
    for key, text in overrides:
        if key.partition(".")[0] in ("extends", presets.SECTION):
            how = "write it into recipe.yaml"
            raise UsageError(f"'{key}' is no option", f"--{key}", how)
        _override(raw, key.split("."), text, f"--{key}")
    return raw


def _unshared(value: Any) -> Any:
    """Copy a value; what YAML anchors share is copied for each: an option changes one section."""
    if isinstance(value, dict):
        return {k: _unshared(v) for k, v in value.items()}
    return [_unshared(v) for v in value] if isinstance(value, list) else value


def _leave_out(file: dict, raw: dict) -> list[str]:
    """Take phases that were switched off out of the chain; return what to tell of it."""
    notes = []
    for off in PHASES:
        was, now = file.get(off), raw.get(off)
        if now is not None or not isinstance(was, dict):
            continue
        for phase in PHASES[PHASES.index(off) + 1 :]:
            section = raw.get(phase) if isinstance(raw.get(phase), dict) else file.get(phase)
            if not isinstance(section, dict) or not isinstance(section.get("init"), list):
                continue
            before = section["init"]
            section["init"] = _without(off, before, was.get("init") or [])
            if section["init"] != before and raw.get(phase) is section:
                told = ", ".join(section["init"]) or "no earlier phase"
                notes.append(f"{off} is off: {phase} starts from {told}")
    return notes


def _without(off: str, init: list, instead: list) -> list:
    """Put what a phase would have started from in its place, with the same part of the model."""
    out = []
    for text in init:
        head, colon, rest = str(text).partition(":")
        found = [f"{str(t).partition(':')[0]}{colon}{rest}" for t in instead]
        out += found if head == off else [text]
    return [*dict.fromkeys(out)]


def _override(raw: dict, keys: list[str], text: Any, option: str) -> None:
    """Set a value: the text of an option, or what a preset has."""
    cls: Any = Recipe
    node = raw
    for depth, key in enumerate(keys):
        if dataclasses.is_dataclass(cls):
            fields = typing.get_type_hints(cls)
            if key not in fields:
                raise UsageError(f"unknown option {option}", None, nearest(key, fields))
            cls = strip_none(fields[key])
        else:  # below a free dictionary anything goes
            args = typing.get_args(cls)
            cls = args[1] if len(args) == 2 else Any
        if depth == len(keys) - 1:
            node[key] = _parse(text, cls, option) if isinstance(text, str) else text
            return
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]


def _parse(text: str, cls: Any, option: str) -> Any:
    """Turn the text of an option into the field's type; text stays text, whatever it holds."""
    if cls is str or (cls is Any and not text):
        return text
    plain = "\n" not in text and not text.rstrip().endswith(":")
    if text in ("null", "none", "") or (plain and text[:1] in "[{") or cls in (int, float, bool):
        try:
            return yamlfile.parse(text, option) if text != "none" else None
        except UsageError as e:
            shown = text if len(text) < 80 else f"{text[:77]}..."
            raise UsageError(f"'{shown}' is not a value for {option}", option, e.what) from None
    if typing.get_origin(cls) is list or cls is list:
        return [text]
    if dataclasses.is_dataclass(cls):
        raise UsageError(f"{option} is a section, not a value", option, f"{option}.FIELD VALUE")
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[-+]?[0-9.][0-9.eE+-]*", text):
        for number in (int, float):  # YAML 1.1 would read 1e-3 as text and 010 as 8
            with contextlib.suppress(ValueError):
                return number(text)
    return text
