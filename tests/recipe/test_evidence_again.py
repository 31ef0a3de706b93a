# SPDX-License-Identifier: Apache-2.0
"""Evidence of which a part has changed or is gone: the plan says so, and only that runs again.

The runner is the real one; its three stages are stand-ins that train a line of text.
"""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from espnet_ext.errors import UsageError
from espnet_ext.files import write_json
from espnet_ext.recipe import evidence, experiments, preflight, stages
from espnet_ext.recipe.stages import Plan, Stage

STAGES = ("pretrain", "finetune", "score")
FILE = {
    "seeds": [1, 2],
    "systems": {
        "scratch": {"pretrain": "null", "finetune.init": []},
        "part": {"pretrain": "null", "finetune.init": ["exp/full_s{seed}/pretrain/m.pth"]},
        "full": {"finetune.init": ["pretrain"]},
    },
}


class Trains(Stage):
    """A stage that writes down what it was trained from."""

    def code(self, recipe):
        return SimpleNamespace(plan=self.plan, run=self.run)

    def plan(self, ctx):
        made = ctx.exp / self.name / "m.pth"
        if self.name == "score":
            path = Path("results") / f"{ctx.recipe.name}.json"
            return Plan([ctx.exp / "finetune/m.pth"], [path])
        phase = getattr(ctx.recipe, self.name)
        before = [ctx.exp / "pretrain/m.pth" if f == "pretrain" else Path(f) for f in phase.init]
        return Plan(before, [made], {"args": phase.args})

    def run(self, ctx, plan):
        trained.append(f"{ctx.recipe.name} {self.name}")
        if self.name == "score":
            write_json(plan.makes[0], {"name": ctx.recipe.name})
        else:
            plan.makes[0].parent.mkdir(parents=True, exist_ok=True)
            texts = [p.read_text() for p in plan.needs]
            plan.makes[0].write_text(f"{self.name} {plan.settings} {ctx.recipe.seed} {texts}")


trained = []


@pytest.fixture
def run(folder, monkeypatch):
    """Return ``run(*argv, **changes of FILE) -> (stages that ran, lines of the plan)``."""
    rows = [Trains(n, name, "", name) for n, name in enumerate(STAGES, 1)]
    monkeypatch.setattr(stages, "STAGES", tuple(rows))
    monkeypatch.setattr(preflight, "check", lambda *args: None)
    monkeypatch.setattr(experiments, "build_all", lambda *args: None)
    monkeypatch.setattr(evidence, "_finish", lambda *args: 0)
    folder.recipe(
        **{p: {"config": "conf/train.yaml", "args": {"x": 0}} for p in STAGES[:2]}, score={}
    )
    lines = []
    for module in (evidence, experiments):
        monkeypatch.setattr(module, "say", lines.append)

    def call(*argv, **changes):
        Path("e.yaml").write_text(yaml.safe_dump({**FILE, **changes}, sort_keys=False))
        trained.clear(), lines.clear()
        assert evidence.main(["e.yaml", *argv]) == 0
        return list(trained), list(lines)

    return call


def told(lines):
    """Return the state of each run, by name."""
    rows = [line for line in lines if "./run.sh" in line]
    return {r.partition("--name ")[2].split()[0]: r[:8].strip() for r in rows}


def test_what_a_value_names_is_run_before_it(run):
    done, _ = run("--systems", "part", "--seeds", "1")
    assert done == [f"full_s1 {s}" for s in STAGES] + ["part_s1 finetune", "part_s1 score"]
    done, _ = run()
    assert done[:2] == ["scratch_s1 finetune", "scratch_s1 score"]  # the rest of seed 1 is done
    assert done.index("full_s2 pretrain") < done.index("part_s2 finetune")
    own = {"own": {"finetune.init": ["exp/own_s{seed}/pretrain/m.pth"]}}  # a phase of its own
    assert run("--seeds", "1", systems=own)[0] == [f"own_s1 {s}" for s in STAGES]


def test_a_changed_system_and_those_that_start_from_it_are_not_done(run):
    run()
    assert set(told(run("--dry-run")[1]).values()) == {"done"}
    changed = FILE["systems"] | {"full": FILE["systems"]["full"] | {"pretrain.args.x": 1}}
    _, lines = run("--dry-run", "--seeds", "1", systems=changed)
    assert told(lines) == {"scratch_s1": "done", "full_s1": "changed", "part_s1": "changed"}
    shown = "\n".join(lines)
    assert "stage 1 (pretrain) changed: args.x" in shown
    assert "it starts from exp/full_s1/pretrain/m.pth, which is made again" in shown
    assert "2 to run here" in lines[-1]
    done, _ = run("--seeds", "1", systems=changed)
    assert done == [f"full_s1 {s}" for s in STAGES] + ["part_s1 finetune", "part_s1 score"]


def test_a_run_that_is_only_scored_again_does_not_change_those_that_start_from_it(run):
    run("--seeds", "1")
    Path("results/full_s1.json").unlink()
    _, lines = run("--dry-run", "--seeds", "1")
    assert told(lines) == {"scratch_s1": "done", "full_s1": "started", "part_s1": "done"}
    assert run("--seeds", "1")[0] == ["full_s1 score"]


def test_without_exp_all_that_is_needed_is_trained_again(run):
    run()
    shutil.rmtree("exp")
    _, lines = run("--dry-run")
    assert set(told(lines).values()) == {"recorded"}
    assert "6 to run here" in lines[-1]
    done, _ = run("--systems", "part", "--seeds", "2")
    assert done == [f"full_s2 {s}" for s in STAGES] + ["part_s2 finetune", "part_s2 score"]


def test_a_checkpoint_that_is_gone_is_made_again_from_the_run_that_had_it(run):
    run("--seeds", "1")
    shutil.rmtree("exp/full_s1/pretrain")
    _, lines = run("--dry-run", "--seeds", "1")
    assert told(lines)["full_s1"] == "changed"
    assert "stage 1 (pretrain) exp/full_s1/pretrain/m.pth is gone" in "\n".join(lines)
    done, _ = run("--seeds", "1")
    assert done == ["full_s1 pretrain"]  # it came back the same, so nothing else changed


@pytest.mark.parametrize(
    ("file", "argv", "words"),
    [
        ("exp/other/m.pth", [], ["'new_s1'", "exp/other/m.pth", "run.sh --name other and its own"]),
        ("exp/full_s7/pretrain/m.pth", [], ["e.yaml --systems full --seeds 7"]),
    ],
)
def test_what_no_run_makes_is_told_before_any_run(run, file, argv, words):
    systems = FILE["systems"] | {"new": {"pretrain": "null", "finetune.init": [file]}}
    with pytest.raises(UsageError) as e:
        run(*argv, systems=systems)
    assert all(w in str(e.value) for w in words), str(e.value)
    assert not trained
    Path(file).parent.mkdir(parents=True)
    Path(file).write_text("kept")
    assert "new_s1 finetune" in run(*argv, systems=systems)[0]
