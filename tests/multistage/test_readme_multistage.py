# SPDX-License-Identifier: Apache-2.0
"""What espnet_ext/multistage/README.md says: its example learns, its table is the code's."""

import dataclasses
import re
from pathlib import Path
from typing import get_type_hints

from espnet_ext import cli
from espnet_ext.multistage.options import MultistageConf

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "espnet_ext/multistage/README.md"
TEXT = PAGE.read_text(encoding="utf-8")
CONF = MultistageConf()


def rows():
    """Return the cells of each line of the table of options."""
    section = TEXT.split("\n## Options\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [[key.strip("`"), *others] for key, *others in cells]


def test_the_example_without_espnet_runs_and_learns_both(capsys):
    code = TEXT.split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    last = capsys.readouterr().out.splitlines()[-1]
    error, mean, found = map(float, re.findall(r"\d\.\d+", last))
    assert error < 0.6 * mean and found > 0.8  # chance: 0.03


def test_every_option_is_there_once_with_its_default():
    said = [(key, value) for key, value, *_ in rows()]
    assert [key for key, _ in said] == [f.name for f in dataclasses.fields(CONF)]
    for name, value in said:
        default = getattr(CONF, name)
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert value == shown, name


def test_every_choice_is_named_in_its_row():
    hints = get_type_hints(MultistageConf, include_extras=True)
    for key, default, meaning, _ in rows():
        for limits in hints[key].__metadata__[1:]:
            said = {default, *re.findall(r"`([\w+]+)`", meaning)}
            assert set(limits.one_of or ()) <= said, key


def test_every_option_has_a_provenance():
    assert {provenance for *_, provenance in rows()} == {"paper", "code", "inferred", "own"}


def test_files_and_commands_exist():
    section = TEXT.split("\n## Files\n")[1]
    named = set(re.findall(r"`(\w+)`", section))
    there = {p.stem for p in PAGE.parent.iterdir() if p.suffix in ("", ".py")}
    assert named == {name for name in there if not name.startswith("__")}
    recipes = re.search(r"egs2/{(.*?)}/multistage1", TEXT).group(1).split(",")
    made = {p.parent.name for p in (ROOT / "egs2").glob("*/multistage1")}
    assert set(recipes) == made - {"TEMPLATE"}
    for name in re.findall(r"`espnet-ext ([a-z-]+)", TEXT):
        assert name in cli.COMMANDS
