# SPDX-License-Identifier: Apache-2.0
"""What espnet_ext/ml_lmcl/README.md says: its example runs, its tables are those of the code."""

import dataclasses
import re
from pathlib import Path

import pytest

from espnet_ext import cli
from espnet_ext.ml_lmcl.options import CHOICES, PRESETS, MlLmclConf, resolve

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "espnet_ext/ml_lmcl/README.md"
TEXT = PAGE.read_text(encoding="utf-8")
FIELDS = {f.name: f.default for f in dataclasses.fields(MlLmclConf) if f.name != "preset"}


def rows(heading):
    """Return the cells of each line of a section's table."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_example_without_espnet_runs_and_learns(capsys):
    code = TEXT.split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    loss, accuracy = re.findall(r"[\d.]+", capsys.readouterr().out.replace(", ", " "))
    assert 0 < float(loss) < 10 and float(accuracy) > 0.9  # chance: 0.25


def test_every_option_is_there_once_with_its_default():
    said = {}
    for keys, defaults, *_ in rows("Options"):
        names = re.findall(r"`(\w+)`", keys)
        values = defaults.split(", ") if len(names) > 1 else [defaults]
        assert not said.keys() & set(names)
        said |= dict(zip(names, values, strict=True))
    assert said.keys() == FIELDS.keys()
    for name, value in said.items():
        default = FIELDS[name]
        words = {None: "null", True: "true", False: "false"}  # 0 equals False, but is a number
        shown = words[default] if default is None or isinstance(default, bool) else default
        if isinstance(default, float):
            value, shown = float(value), float(default)
        assert str(value) == str(shown), name


def test_every_choice_is_named_in_its_row():
    by_key = {re.search(r"`(\w+)`", row[0]).group(1): " ".join(row) for row in rows("Options")}
    for key, choices in CHOICES.items():
        words = set(re.findall(r"\w+", by_key[key]))
        assert set(choices) - {"asr", "logits"} <= words, key


def test_every_option_has_a_provenance():
    for *_, provenance in rows("Options"):
        words = {w for w in re.split(r": \S+|, ", provenance) if w}
        assert words and words <= {"paper", "code", "recalled", "inferred", "own"}


def test_every_preset_is_there_with_its_classifiers():
    said = {row[0].strip("`"): tuple(row[1].split(", ")) for row in rows("Presets")}
    assert said == {name: resolve({"preset": name}).model_names for name in PRESETS}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"espnet-ext ([a-z-]+)", TEXT))))
def test_commands_exist(name):
    assert name in cli.COMMANDS


def test_files_and_options_of_the_commands_exist():
    for path in re.findall(r"`((?:egs2|espnet_ext)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path
    from espnet_ext.ml_lmcl import decode_command
    from espnet_ext.ml_lmcl.simulate import command

    known = f"{decode_command.__doc__} {command._speak_parser().format_help()} --wer --seed"
    lines = [line for line in TEXT.splitlines() if line.startswith("    espnet-ext")]
    for option in re.findall(r"--[a-z-]+", " ".join(lines)):
        assert option in known, option
