# SPDX-License-Identifier: Apache-2.0
"""Evidence is data: every system and seed is run, what is done is skipped, the plan tells hours."""

import json
import re
from pathlib import Path

import pytest
import yaml

from espnet_ext.cli import main as cli
from espnet_ext.errors import UsageError
from espnet_ext.files import write_json
from espnet_ext.recipe import config, evidence, experiment, experiments, runner
from espnet_ext.recipe.schema import Recipe

RECIPE = {
    "recipe": "toy/asr1",
    "finetune": {"config": "conf/train.yaml"},
    "decode": {},
    "score": {},
    "presets": {"with_lm": {"decode.method": "beam"}, "longer": {"finetune.args.x": 9}},
}
FILE = {
    "seeds": [1, 2],
    "systems": {
        "base": {"finetune.args.x": 0},
        "method": {"finetune.args.x": 1},
        "no_part": {"finetune.init": "exp/method_s{seed}/pretrain/m.pth"},
        "extra": {"finetune.args.x": 2},
    },
    "base": {"finetune.args.max_epoch": 5},
    "after": {"no_part": "method"},
    "optional": ["no_part", "extra"],
}


def record(recipe, updates=100):
    scores = {"title": "WER", "better": "lower", "value": 10.0}
    scores["totals"] = {"errors": 1, "ref": 10, "sub": 1, "del": 0, "ins": 0}
    scores["per_utt"] = {"errors": [1], "ref": [10]}
    decoded = {"utterances": 1, "decode_wall_s": 100.0, "metrics": {"wer": scores}}
    decoded |= {"ids_sha256": "ef" * 32, "ref_sha256": "ab" * 32, "hyp_sha256": "cd" * 32}
    fields = {"schema": 2, "recipe": "toy/asr1", "title": "", "date": "2026-01-31"}
    fields |= {"name": recipe.name, "group": recipe.group, "seed": recipe.seed}
    fields |= {"commit": "unknown", "dirty": False, "command": "./run.sh", "device": "CPU"}
    phase = {"task": "asr", "wall_s": 1700.0, "train_wall_s": 1700.0, "peak_rss_mb": 1.0}
    phase |= {"peak_gpu_mb": 0.0, "params": 1, "params_trained": 1, "epochs": 1, "updates": updates}
    fields |= {"config_sha256": "12" * 32, "versions": {}, "phases": {"finetune": phase}}
    return fields | {"budget": {"updates": updates}, "sets": {"test": {"greedy_ctc": decoded}}}


class FakeRunner:
    """Takes the place of ``runner.main``: leaves a record, does nothing where it is done."""

    def __init__(self):
        self.seen, self.trained, self.kill_at, self.updates = [], [], "", {}

    def __call__(self, argv):
        opts = runner.options.parse(argv, {*Recipe.__dataclass_fields__})
        recipe = config.load(Path("recipe.yaml"), opts.overrides)
        self.seen.append((recipe, opts))
        if recipe.name == self.kill_at:
            raise KeyboardInterrupt
        done = Path("exp") / recipe.name / ".stages/score.json"
        if not done.exists():
            self.trained.append(recipe.name)
            made = record(recipe, self.updates.get(recipe.group, 100))
            write_json(Path("results") / f"{recipe.name}.json", made)
            write_json(done, {})
        return 0


@pytest.fixture
def fake(folder, monkeypatch):
    folder.recipe(**RECIPE)
    fake = FakeRunner()
    monkeypatch.setattr(runner, "main", fake)
    monkeypatch.setattr(experiments, "build_all", lambda *args: None)
    monkeypatch.setattr(experiment, "_changed", lambda *args: None)  # its stages leave no records
    fake.lines = []
    for module in (evidence, experiments):
        monkeypatch.setattr(module, "say", fake.lines.append)
    return fake


def write(**changes):
    content = {k: v for k, v in {**FILE, **changes}.items() if v is not None}
    Path("evidence.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return "evidence.yaml"


def test_every_system_and_seed_is_run_and_the_page_is_written(fake):
    assert cli(["evidence", write(), "--nj", "2"]) == 0
    assert [r.name for r, _ in fake.seen] == ["base_s1", "method_s1", "base_s2", "method_s2"]
    recipe, opts = fake.seen[-1]
    assert (recipe.group, recipe.seed) == ("method", 2)
    assert recipe.finetune.args == {"max_epoch": 5, "x": 1}
    assert (opts.stop_stage, opts.nj) == ("score", 2)
    assert "WER" in Path("RESULTS.md").read_text()
    assert fake.lines[-1].startswith("results: ")


def test_after_a_kill_it_goes_on_where_it_stopped(fake):
    fake.kill_at = "base_s2"
    with pytest.raises(KeyboardInterrupt):
        evidence.main([write()])
    fake.kill_at = ""
    assert evidence.main([write()]) == 0
    assert fake.trained == ["base_s1", "method_s1", "base_s2", "method_s2"]  # none twice


def test_the_plan_tells_state_and_hours(fake):
    path = write()
    fake(["--name", "base_s1", "--group", "base", "--seed", "1"])
    write_json(Path("exp/method_s9/finetune/phase.json"), {"train_wall_s": 3600.0})
    write_json(Path("exp/method_s9_old/finetune/phase.json"), {"train_wall_s": 1.0})
    fake.seen.clear()
    assert evidence.main([path, "--dry-run", "--systems", "base,method,extra"]) == 0
    assert not fake.seen and not Path("RESULTS.md").exists()
    head, *runs, total = fake.lines
    assert head == "evidence toy/asr1: 3 systems, seeds 1, 2"
    told = [line.partition("./run.sh")[0].split() for line in runs]
    assert told[0] == ["done", "30", "min", "00", "s"]  # 1700 s of training, 100 s of decoding
    assert told[1] == ["to", "run", "1", "h", "00", "min"]
    assert told[2] == ["to", "run", "unknown", "time"]
    assert total == (
        "6 runs, 5 without a record yet, 5 to run here, about 2.5 h, 2 of unknown time"
    )


def test_a_run_whose_record_is_gone_is_not_done(fake):
    fake(["--name", "base_s1", "--group", "base", "--seed", "1"])
    Path("results/base_s1.json").unlink()
    assert evidence.main([write(), "--dry-run", "--systems", "base"]) == 0
    assert fake.lines[1].startswith("started") and "2 to run here" in fake.lines[-1]


def test_what_a_system_starts_from_is_run_before_it_with_the_same_seed(fake):
    assert evidence.main([write(), "--systems", "no_part", "--seeds", "3"]) == 0
    assert [r.name for r, _ in fake.seen] == ["method_s3", "no_part_s3"]
    assert fake.seen[1][0].finetune.init == ["exp/method_s3/pretrain/m.pth"]


def test_keys_of_the_recipe_on_the_command_line_hold_for_every_run(fake):
    assert evidence.main([write(), "--seeds=1", "--finetune.args.max_epoch", "7"]) == 0
    assert {r.finetune.args["max_epoch"] for r, _ in fake.seen} == {7}


def test_a_file_that_any_value_names_is_made_before_jobs_begin_what_reads_it(fake):
    """A search that reads another system's model starts from it as a training does."""
    systems = {"lm": {}, "base": {"decode.args.lm_file": "exp/lm_s{seed}/finetune/m.pth"}}
    loaded = evidence.load(Path(write(systems=systems, after={}, optional=[])))
    runs = evidence.expand(loaded, Path("evidence.yaml"), ["base"], [4])
    needs = [(r.name, experiment.needs(r, [])) for r in runs]
    assert needs == [("lm_s4", set()), ("base_s4", {"lm_s4"})]


@pytest.mark.parametrize("code", [0, 1])
def test_runs_at_the_same_time_are_told_what_they_start_from(fake, monkeypatch, capsys, code):
    """The runs themselves: test_turn.py."""
    asked = []

    class Jobs:
        def __init__(self, runs, passed_on, title, count, ngpu):
            asked.append((passed_on, count, ngpu))
            self.runs = runs

        def run(self):
            for run in self.runs:
                asked.append((run.name, experiment.needs(run, [])))
                fake(run.argv([]))
            return code

    monkeypatch.setattr(experiments, "Jobs", Jobs)
    argv = [write(), "--systems", "no_part,extra", "--seeds=3", "--jobs", "4", "--ngpu=2"]
    assert evidence.main(argv) == code
    assert asked[0] == (["--ngpu=2"], 4, 2)
    needs = [("method_s3", set()), ("no_part_s3", {"method_s3"}), ("extra_s3", set())]
    assert asked[1:] == needs
    assert Path("RESULTS.md").exists() is not bool(code)
    assert ("again: espnet-ext evidence evidence.yaml" in capsys.readouterr().err) is bool(code)


@pytest.mark.parametrize(("equal", "warned"), [(["base", "method"], True), (["base"], False)])
def test_budgets_that_should_be_equal_and_are_not_are_told(fake, equal, warned):
    fake.updates = {"method": 110}
    assert evidence.main([write(budget={"unit": "updates", "equal": equal})]) == 0
    assert "  method: 110 updates" in fake.lines
    assert ("warning: unequal updates: base 100, method 110" in fake.lines) is warned


def test_a_file_may_stand_on_another(fake):
    write()
    Path("more.yaml").write_text("from: evidence.yaml\nseeds: [7]\noptional: []\n")
    made = evidence.load(Path("more.yaml"))
    assert made.seeds == [7] and [*made.systems] == [*FILE["systems"]] and not made.optional
    Path("more.yaml").write_text("from: more.yaml\n")
    with pytest.raises(UsageError, match="from"):
        evidence.load(Path("more.yaml"))


def test_the_planned_comparison_is_that_of_the_page(fake, folder):
    planned = {"system": "method", "against": "base"}
    path = write(planned=planned)
    with pytest.raises(UsageError, match=r"results: \{planned: \{system: method, against: base"):
        evidence.main([path, "--dry-run"])
    folder.recipe(**RECIPE, results={"planned": planned})
    assert evidence.main([path, "--dry-run"]) == 0
    assert "planned: method against base" in fake.lines
    path = write(planned=planned | {"ablations": ["no_part"]})
    with pytest.raises(UsageError, match=r"against: base, ablations: \[no_part\]"):
        evidence.main([path, "--dry-run"])
    folder.recipe(**RECIPE, results={"planned": planned | {"ablations": ["no_prat"]}})
    with pytest.raises(UsageError, match="another planned comparison"):
        evidence.main([write(planned=planned), "--dry-run"])
    with pytest.raises(UsageError, match="no system 'no_prat'"):
        evidence.main([write(planned=planned | {"ablations": ["no_prat"]}), "--dry-run"])


@pytest.mark.parametrize(
    ("changes", "argv", "message"),
    [
        ({"seads": [1]}, [], "unknown key 'seads'.*did you mean 'seeds'"),
        ({"budget": {"unt": "x"}}, [], "unknown key 'budget.unt'.*'unit'"),
        ({"seeds": []}, [], "'seeds' is not usable"),
        ({"seeds": [1, 1]}, [], "two runs would be named 'base_s1'"),
        ({"systems": {"../x": {}}}, [], "cannot name a system"),
        ({"systems": {"base": {"finetun.args.x": 1}}, "after": {}, "optional": []}, [],
         "unknown option --finetun"),
        ({"systems": {"base": {"seed": 1}}, "after": {}, "optional": []}, [],
         "'seed' cannot be set here"),
        ({"after": {"no_part": "mehtod"}}, [], "no system 'mehtod'.*'method'"),
        ({"after": {"base": "method", "method": "base"}}, [], "starts from itself"),
        ({"last_stage": "scoer"}, [], "no stage 'scoer'.*'score'"),
        ({"searches": ["whit_lm"]}, [], "no preset 'whit_lm'.*'with_lm'"),
        ({"searches": ["longer"]}, [], "'finetune.args.x', which is no option of the search"),
        ({"searches": ["with_lm"], "last_stage": "finetune"}, [], "nothing is decoded"),
        ({}, ["--systems", "bse"], "no system 'bse'.*did you mean 'base'"),
        ({}, ["--seeds", "one"], "whole number"),
        ({}, ["--stop-stage", "3"], "no option --stop-stage"),
        ({}, ["--name", "x"], "no option --name"),
        ({}, ["--jobs", "0"], "--jobs must be a whole number from 1, not '0'"),
        ({}, ["--jobs=two"], "not 'two'"),
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_found_before_any_run(fake, changes, argv, message):
    with pytest.raises(UsageError) as e:
        evidence.main([write(**changes), *argv])
    assert re.search(message, str(e.value), re.DOTALL), str(e.value)
    assert not fake.seen


def test_help_and_wrong_use(fake, capsys):
    assert cli(["evidence", "--help"]) == 0 and "FILE.yaml holds" in capsys.readouterr().out
    assert cli(["evidence"]) == 2
    assert cli(["evidence", "--dry-run"]) == 2


def test_an_unreadable_record_gives_no_estimate(fake):
    Path("results").mkdir()
    Path("results/x.json").write_text("{")
    Path("results/y.json").write_text(json.dumps({"group": "base", "phases": {}}))
    assert experiments.estimate_s("base") is None
