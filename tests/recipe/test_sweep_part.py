# SPDX-License-Identifier: Apache-2.0
"""What of a sweep is run: a part of it, and nothing of one that cannot be run as a whole."""

import re
from pathlib import Path

import pytest
import sweep_toy
import yaml
from sweep_toy import EVIDENCE, LR, write

from espnet_ext.cli import main as cli
from espnet_ext.errors import UsageError
from espnet_ext.recipe import sweep

fake = sweep_toy.fake


def test_a_part_is_run_and_told_and_leaves_the_picture_of_the_whole(fake, monkeypatch):
    lines = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.say", lines.append)
    path = write(x=[5, 7])
    assert sweep.main([str(path)]) == 0
    picture = Path("results/sweep_lr.png")
    picture.write_bytes(b"of the whole")
    fake.seen.clear()
    lines.clear()
    assert sweep.main([str(path), "--values", "2e-3", "--seeds=2,3"]) == 0
    assert [r.name for r, _ in fake.seen] == ["sweep_lr_0.002_s2", "sweep_lr_0.002_s3"]
    assert re.fullmatch(r"\| *7 \|.*\| 2, 3 *\|", lines[-1])
    assert picture.read_bytes() == b"of the whole"
    assert sweep.main([str(path), "--values", "0.001,0.002"]) == 0
    assert picture.read_bytes() != b"of the whole"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (["--values", "0.01"], "no value '0.01'.*'0.001'"),
        (["--values", "fast"], "no value 'fast'"),
        (["--seeds", "one"], "whole number"),
        (["--seeds", "1,1"], "two runs would be named"),
        (["--values.x", "0.001"], "no option --values.x"),
        (["--vaules", "0.001"], "no option --vaules.*'values'"),
    ],
)
def test_a_part_that_is_not_there_is_refused(fake, part, message):
    with pytest.raises(UsageError, match=f"(?s){message}"):
        sweep.main([str(write()), *part])
    assert not fake.seen


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seads": [1]}, "unknown key 'seads'.*did you mean 'seeds'"),
        ({"curves": {"key": "a", "value": [1]}}, "unknown key 'curves.value'.*mean 'values'"),
        ({"values": None}, "'values' is not usable"),
        ({"values": [True]}, "no numbers"),
        ({"values": ["x", 1]}, "all must be numbers, or all names"),
        ({"values": [None]}, "'values"),
        ({"values": [1, 1.0]}, "a value stands twice"),
        ({"seeds": [1, 1]}, "two runs would be named 'sweep_lr_0.001_s1'"),
        ({"name": "../x"}, "'name' is not usable"),
        ({"also": ["wer"]}, "a metric stands twice"),
        ({"also": ["wor"]}, "does not score by 'wor'"),
        ({"x": [1, 2, 3]}, "'x'.*one number for each"),
        ({"x": [1, 1]}, "no number twice"),
        ({"curves": {"key": "a"}}, "give key and values, or systems"),
        ({"curves": {"systems": {"a": {LR["key"]: 1}}}}, "set twice"),
        ({"metric": "wor"}, "does not score by 'wor'.*did you mean 'wer'"),
        ({"metric": "accuracy"}, "does not score by 'accuracy'.*metric"),
        ({"last_stage": "scoer"}, "no stage 'scoer'.*did you mean 'score'"),
        ({"key": "finetun.args.lr"}, "unknown option --finetun.args.lr.*'finetune'"),
        ({"key": "seed"}, "sets 'seed' itself"),
        ({"base": {LR["key"]: 1}}, "is set twice"),
        ({"system": "method"}, "'system' stands without 'evidence'"),
        ({"evidence": "set-up/evidence.yaml", "system": "metod"}, "no system.*'method'"),
        ({"evidence": "none.yaml"}, "none.yaml"),
        ({"set": "tset"}, "set 'tset' is not decoded.*'test'"),
        ({"method": "beam"}, r"decodes by 'greedy_ctc'.*base: {decode.method: beam}"),
    ],
)
def test_what_cannot_be_run_is_found_before_any_run(fake, changes, message):
    if "value" in changes.get("curves", {}):
        changes["curves"]["values"] = [1]
    Path("set-up").mkdir()
    Path("set-up/evidence.yaml").write_text(yaml.safe_dump(EVIDENCE))
    with pytest.raises(UsageError) as e:
        sweep.main([str(write(**changes))])
    assert re.search(message, str(e.value), re.DOTALL), str(e.value)
    assert not fake.seen and "grid.yaml" in str(e.value)


@pytest.mark.parametrize(
    "argv", [["none.yaml"], ["--dry-run", "grid.yaml"], ["grid.yaml", "--name=x"]]
)
def test_wrong_command_lines_are_refused(fake, argv):
    write()
    assert cli(["sweep", *argv]) == 2 and not fake.seen


def test_broken_yaml_is_refused(fake):
    Path("grid.yaml").write_text("name: [")
    with pytest.raises(UsageError, match="not valid YAML"):
        sweep.main(["grid.yaml"])
