# SPDX-License-Identifier: Apache-2.0
"""What espnet_ext/dual_task/README.md says: its example learns, its tables are the code's."""

import dataclasses
import re
from pathlib import Path

import pytest

from espnet_ext import cli
from espnet_ext.dual_task.options import CHOICES, DualTaskConf

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "espnet_ext/dual_task/README.md"
TEXT = PAGE.read_text(encoding="utf-8")
FIELDS = {f.name.rstrip("_"): f.default for f in dataclasses.fields(DualTaskConf)}


def rows(heading):
    """Return the cells of each line of a section's table."""
    section = TEXT.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_example_without_espnet_runs_and_learns_both(capsys):
    code = TEXT.split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    said = capsys.readouterr().out.splitlines()
    cosine, ctc = zip(*(map(float, re.findall(r"\d\.\d+", line)) for line in said), strict=True)
    assert cosine[-1] > 0.9 > cosine[0] and ctc[-1] < 0.6 < ctc[0]


def test_every_option_is_there_once_with_its_default():
    said = [(re.search(r"`(\w+)`", row[0]).group(1), row[1]) for row in rows("Options")]
    assert sorted(name for name, _ in said) == sorted(FIELDS)
    for name, value in said:
        default = FIELDS[name]
        shown = "null" if default is None else default
        if isinstance(default, bool):
            shown = str(default).lower()
        if isinstance(default, float):
            value, shown = float(value), float(default)
        assert str(value) == str(shown), name


def test_every_choice_is_named_in_its_row():
    by_key = {re.search(r"`(\w+)`", row[0]).group(1): " ".join(row) for row in rows("Options")}
    for key, choices in CHOICES.items():
        words = set(re.findall(r"\w+", by_key[key]))
        assert set(choices) <= words | {"phones_samu", "none"}, key


def test_every_option_has_a_provenance():
    for *_, provenance in rows("Options"):
        words = {w for w in re.split(r": \S+|, ", provenance) if w}
        assert words and words <= {"paper", "code", "recalled", "inferred", "own"}


def test_files_and_commands_exist():
    section = TEXT.split("\n## Files\n")[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", section)) - {"dual_task"}
    assert len(named) > 20 and named <= {p.stem for p in PAGE.parent.glob("*.py")}
    for path in re.findall(r"`(?:python )?((?:benchmarks|egs2|espnet_ext)/[\w./]+)`", TEXT):
        assert (ROOT / path).exists(), path
    for name in re.findall(r"    espnet-ext ([a-z-]+)", TEXT):
        assert name in cli.COMMANDS


@pytest.mark.parametrize("row", [1, 2])
def test_sizes_are_those_that_are_counted(row):
    section = TEXT.split("\n## Sizes\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    said = [float(x) for x in lines[row + 1].strip("|").split("|")[1:]]
    from espnet_ext.dual_task.counts import report

    totals = {name: sum(parts.values()) / 1e6 for name, parts in report().items()}
    both = totals["specialise"] + totals["slu"]
    wanted = [totals["dual"], totals["specialise"], totals["slu"], both]
    assert said == pytest.approx(wanted, abs=0.05 if row == 1 else 0.005)
