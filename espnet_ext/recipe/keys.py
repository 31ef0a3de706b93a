# SPDX-License-Identifier: Apache-2.0
"""All keys of recipe.yaml with type, default and meaning: help, completion and a JSON schema."""

import dataclasses
import inspect
import json
import re
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from espnet_ext.align.options import AlignOptions
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe.schema import PHASES, Recipe
from espnet_ext.settings import Limits

FREE = {  # sections whose keys others define
    "args": "options of ESPnet's training",
    "decode.args": "options of espnet2.bin.asr_inference.Speech2Text",
    **{f"{phase}.args": "options of ESPnet's training" for phase in PHASES},
}
_COMMENT = re.compile(r"^    (\w+): [^#\n]*  # (.+)$", re.M)
_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


@dataclass(frozen=True)
class Key:
    """One key: ``name`` is dotted, ``default`` is as YAML has it."""

    name: str
    type: str
    default: str
    meaning: str
    section: type | None = None

    def line(self) -> str:
        """Return the key on one line."""
        return f"  --{self.name:28s} {self.meaning}".rstrip()


def all_keys() -> list[Key]:
    """Return every key that has a name of its own, sections before their fields."""
    return list(_walk(Recipe, ""))


def _walk(cls: type, prefix: str) -> Iterator[Key]:
    hints, comments = typing.get_type_hints(cls, include_extras=True), _comments(cls)
    for f in dataclasses.fields(cls):
        kind, meaning, limits = _unpack(hints[f.name])
        section = AlignOptions if (cls, f.name) == (Recipe, "align") else _section(kind)
        name = prefix + f.name
        yield Key(
            name,
            _type_text(kind) + "".join(f", {_limit_text(x)}" for x in limits),
            _default(f),
            meaning or comments.get(f.name, ""),
            section,
        )
        if section is not None:
            yield from _walk(section, f"{name}.")


def _unpack(hint: Any) -> tuple[Any, str, list[Limits]]:
    """Return type, meaning and limits of an annotation."""
    if typing.get_origin(hint) is not typing.Annotated:
        return hint, "", []
    extras = hint.__metadata__
    meaning = next((x for x in reversed(extras) if isinstance(x, str)), "")
    return hint.__origin__, meaning, [x for x in extras if isinstance(x, Limits)]


def _comments(cls: type) -> dict[str, str]:
    """Return the comments behind the fields of a plain dataclass."""
    return dict(_COMMENT.findall(inspect.getsource(cls)))


def _section(kind: Any) -> type | None:
    kinds = [x for x in (typing.get_args(kind) or (kind,)) if dataclasses.is_dataclass(x)]
    return kinds[0] if kinds and typing.get_origin(kind) not in (list, dict) else None


def _type_text(kind: Any) -> str:
    kind = _unpack(kind)[0]
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type_text(a) for a in args)
    if origin in (list, dict):
        return f"{origin.__name__} of {_type_text(args[-1])}"
    if dataclasses.is_dataclass(kind):
        return "section"
    return "null" if kind is types.NoneType else getattr(kind, "__name__", str(kind))


def _limit_text(limits: Limits) -> str:
    told = [f"one of {', '.join(map(str, limits.one_of))}"] if limits.one_of else []
    for word, bound in (("at least", limits.at_least), ("above", limits.above),
                        ("at most", limits.at_most)):  # fmt: skip
        told += [f"{word} {bound:g}"] if bound is not None else []
    told += [f"of the form {limits.pattern}"] if limits.pattern else []
    return ", ".join(told)


def _default_value(f: dataclasses.Field) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    if f.default_factory is not dataclasses.MISSING:
        value = f.default_factory()
        plain = dataclasses.is_dataclass(value)
        rows = isinstance(value, list) and any(dataclasses.is_dataclass(x) for x in value)
        return None if plain else [vars(x) for x in value] if rows else value
    return dataclasses.MISSING


def _default(f: dataclasses.Field) -> str:
    value = _default_value(f)
    return "must be given" if value is dataclasses.MISSING else json.dumps(value)


def summary() -> str:
    """Return all keys, a line each; those of a phase once, and those of the aligner not at all."""
    lines = []
    for key in all_keys():
        head, _, rest = key.name.partition(".")
        if rest and head == PHASES[0]:
            lines.append(dataclasses.replace(key, name=f"PHASE.{rest}").line())
        elif not rest or head not in (*PHASES, "align"):
            lines.append(key.line())
    return "\n".join([*lines, f"PHASE: {', '.join(PHASES)}; --help align lists the aligner's keys"])


def describe(name: str) -> str:
    """Return type, default and meaning of a key, and what is below it.

    Raises:
        UsageError: There is no such key; the nearest is named.
    """
    known = {k.name: k for k in all_keys()}
    name = name.removeprefix("--")
    if name not in known:
        parent = next((p for p in FREE if name.startswith(f"{p}.")), None)
        if parent is None:
            raise UsageError(f"there is no key '{name}'", "--help", suggest(name, set(known)))
        return _free(parent, name.removeprefix(f"{parent}."))
    key = known[name]
    lines = [f"{key.name}: {key.meaning}" if key.meaning else key.name]
    lines += [f"  type:    {key.type}", f"  default: {key.default}"]
    if key.section is None:
        lines += [f"  option:  --{key.name} VALUE"]
    if key.name in FREE:
        lines += [f"  holds:   {FREE[key.name]}; --help {key.name}.OPTION tells of one"]
    below = [k for k in known.values() if k.name.startswith(f"{name}.")]
    return "\n".join(lines + [k.line() for k in below if "." not in k.name[len(name) + 1 :]])


def _free(parent: str, option: str) -> str:
    """Return what ESPnet says of an option; importing it takes some seconds."""
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import quiet_import

    fastimport.enable()
    with quiet_import():
        from espnet_ext.espnet import options, search_options

        tell = search_options.beam_help if parent == "decode.args" else options.option_help
        told = tell(option.partition(".")[0])
    return f"{parent}.{option}: {told}"


def suggest(name: str, known: set[str]) -> str:
    """Return the most likely meant key: one with another first part, the same last part, or near.

    >>> suggest("formt.speeds", {"format.speeds", "format", "data"})
    "did you mean 'format.speeds'?"
    """
    head, dot, rest = name.partition(".")
    tops = {k for k in known if "." not in k}
    if head in tops:
        return nearest(name, known)
    same = sorted(k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2])
    same = [k for k in same if k.startswith("finetune.")] or same
    close = nearest(head, tops)
    if same and not dot:
        return f"did you mean '{same[0]}'?"
    if close.startswith("did you mean"):
        return close.replace("'?", f".{rest}'?") if dot else close
    return f"did you mean '{same[0]}'?" if same else close


def json_schema() -> dict[str, Any]:
    """Return a JSON schema of recipe.yaml, for editors."""
    defs: dict[str, Any] = {}
    top = _object(Recipe, defs)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "recipe.yaml of espnet_ext", **top, "$defs": defs,
    }  # fmt: skip


def _object(cls: type, defs: dict[str, Any]) -> dict[str, Any]:
    hints, comments = typing.get_type_hints(cls, include_extras=True), _comments(cls)
    fields = dataclasses.fields(cls)
    properties = {}
    for f in fields:
        kind = AlignOptions | None if (cls, f.name) == (Recipe, "align") else hints[f.name]
        properties[f.name] = {
            "description": _unpack(hints[f.name])[1] or comments.get(f.name, ""),
            **_schema(kind, defs),
        }
        value = _default_value(f)
        if value is not dataclasses.MISSING:
            properties[f.name]["default"] = value
    required = [f.name for f in fields if _default_value(f) is dataclasses.MISSING]
    return {
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": False,
    }  # fmt: skip


def _schema(hint: Any, defs: dict[str, Any]) -> dict[str, Any]:
    kind, _, limits = _unpack(hint)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_schema(a, defs) for a in args]}
    if origin is list:
        return {"type": "array", "items": _schema(args[0], defs)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(args[1], defs)}
    if dataclasses.is_dataclass(kind):
        if kind.__name__ not in defs:
            defs[kind.__name__] = {}
            defs[kind.__name__] = _object(kind, defs)
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if kind is types.NoneType:
        return {"type": "null"}
    out: dict[str, Any] = {"type": _JSON[kind]} if kind in _JSON else {}
    if kind is list:
        out = {"type": "array"}
    for x in limits:
        names = {"minimum": x.at_least, "exclusiveMinimum": x.above, "maximum": x.at_most}
        out |= {k: v for k, v in names.items() if v is not None}
        out |= {"enum": list(x.one_of)} if x.one_of else {}
        out |= {"pattern": f"^(?:{x.pattern})$"} if x.pattern else {}
    return out
