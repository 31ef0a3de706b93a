# SPDX-License-Identifier: Apache-2.0
"""Help on keys and the JSON schema say what the schema of recipe.yaml says."""

import dataclasses
import json
from pathlib import Path

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.recipe import keys, options
from espnet_ext.recipe.schema import Recipe
from espnet_ext.yamlfile import read

ROOT = Path(__file__).resolve().parents[2]
KEYS = {k.name: k for k in keys.all_keys()}


def test_every_key_says_what_it_is():
    assert len(KEYS) > 100
    for name, key in KEYS.items():
        assert key.type and key.default, name
        assert key.meaning or name.startswith("align."), name
    assert KEYS["align.hybrid.network"].meaning == "tdnn, or blstm as in the papers"
    for name in (f.name for f in dataclasses.fields(Recipe)):
        assert f"--{name} " in keys.summary()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("format.fs", ["Sampling rate in Hz", "int, at least 100", "default: 16000"]),
        ("--format.fs", ["--format.fs VALUE"]),
        ("format", ["--format.min_s", "Shortest training utterance"]),
        ("tokens.type", ["one of bpe, char, word", '"bpe"']),
        ("finetune.config", ["must be given"]),
        ("finetune.args", ["options of ESPnet's training"]),
        ("align.passes", ["list of str"]),
        ("format.speeds", ["list of float", "[1.0]"]),
        ("format.channel", ["int or null", "default: null"]),
        ("finetune.args.max_epoch", ["maximum number epoch", "default: 40"]),
        ("decode.args.beam_size", ["Speech2Text", "default: 20"]),
    ],
)
def test_help_of_a_key(name, says):
    told = keys.describe(name)
    for part in says:
        assert part in told


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("formt.speeds", "format.speeds"),
        ("format.sped", "format.speeds"),
        ("speeds", "format.speeds"),
        ("config", "finetune.config"),
        ("finetun.args.lr", "finetune.args.lr"),
        ("xyz.min_s", "format.min_s"),
        ("finetune.args.max_epok", "max_epoch"),
        ("decode.args.beam_sise", "beam_size"),
    ],
)
def test_unknown_keys_name_the_nearest(name, nearest):
    with pytest.raises(UsageError, match="did you mean") as e:
        keys.describe(name)
    assert f"'{nearest}'" in str(e.value)
    if ".args." in name:
        return
    with pytest.raises(UsageError) as e:
        options.parse([f"--{name}", "1"], {f.name for f in dataclasses.fields(Recipe)} - {"format"})
    assert f"'{nearest}'" in str(e.value)


def _problems(value, schema, root, where="") -> list[str]:
    """The part of JSON schema that is used here; what does not hold."""
    if "$ref" in schema:
        return _problems(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in schema:
        found = [_problems(value, s, root, where) for s in schema["anyOf"]]
        return min(found, key=len)
    kinds = {"string": str, "integer": int, "number": int | float, "boolean": bool,
             "object": dict, "array": list, "null": type(None)}  # fmt: skip
    kind = schema.get("type")
    if kind and (
        not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")
    ):
        return [f"{where}: {value!r} is no {kind}"]
    out = [f"{where}: {value!r}"] if "enum" in schema and value not in schema["enum"] else []
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        out += [f"{where}.{k} is missing" for k in schema.get("required", []) if k not in value]
        for k, v in value.items():
            if k in known:
                out += _problems(v, known[k], root, f"{where}.{k}")
            elif isinstance(rest, dict):
                out += _problems(v, rest, root, f"{where}.{k}")
            elif not rest:
                out.append(f"{where}.{k} is unknown")
    if isinstance(value, list):
        items = schema.get("items", {})
        out += [x for i, v in enumerate(value) for x in _problems(v, items, root, f"{where}[{i}]")]
    return out


def test_the_json_schema_takes_the_project_s_recipes_and_finds_mistakes():
    schema = json.loads(json.dumps(keys.json_schema()))
    recipes = sorted(ROOT.glob("egs2/*/*/recipe.yaml"))
    assert len(recipes) > 10
    for path in recipes:
        assert _problems(read(path), schema, schema) == [], path
    for wrong, says in (
        ({"formt": {}}, ".formt is unknown"),
        ({"format": {"fs": "fast"}}, "is no"),
        ({"tokens": {"type": "chra"}}, "chra"),
        ({"finetune": {"task": "asr"}}, ".config is missing"),
        ({"align": {"hybrid": {"layer": 2}}}, ".layer is unknown"),
    ):
        assert says in " ".join(_problems(wrong, schema, schema)), wrong
