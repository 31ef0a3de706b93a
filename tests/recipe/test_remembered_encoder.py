# SPDX-License-Identifier: Apache-2.0
"""An encoder that a variable named once is not forgotten by a run that is killed."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

from espnet_ext.recipe import runner, stages
from espnet_ext.recipe.stages import Plan, Stage
from espnet_ext.text.source import SENTENCE, encoder_source

MADE = Path("out/format")


class Teacher(Stage):
    """The stage before: it may be killed as well."""

    def code(self, recipe):
        return SimpleNamespace(plan=lambda ctx: Plan(makes=[Path("data")]), run=self.run)

    def run(self, ctx, plan):
        if Path("kill_first").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        Path("data").mkdir(exist_ok=True)


class Format(Stage):
    """A stage that writes which encoder it was told, or is killed."""

    def code(self, recipe):
        return SimpleNamespace(plan=self.plan, run=self.run)

    def plan(self, ctx):
        return Plan(makes=[MADE], settings={SENTENCE.key: encoder_source(SENTENCE)})

    def run(self, ctx, plan):
        if Path("kill").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        MADE.parent.mkdir(exist_ok=True)
        MADE.write_text(plan.settings[SENTENCE.key])


@pytest.fixture
def run(folder, monkeypatch):
    """Return ``run(encoder or None) -> what the stage was told``, of a process of its own."""
    fakes = (Teacher(1, "prepare", "data", "prepare"), Format(2, "format", "sets", "format"))
    monkeypatch.setattr(stages, "STAGES", fakes)
    folder.recipe(prepare={"script": "x"}, format={})

    def call(encoder=None):
        if (child := os.fork()) == 0:
            try:
                os.environ.pop(SENTENCE.variable, None)
                if encoder is not None:
                    os.environ[SENTENCE.variable] = encoder
                os._exit(runner.main([]))
            finally:
                os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return call


@pytest.mark.parametrize("where", ["kill", "kill_first"])
def test_a_killed_run_remembers_what_it_was_told(run, where):
    Path(where).touch()
    assert run("some/encoder") == -signal.SIGKILL
    Path(where).unlink()
    assert run() == 0 and MADE.read_text() == "some/encoder"


def test_another_encoder_and_none_are_remembered_too(run):
    assert run("some/encoder") == 0 and run("other/one") == 0 and MADE.read_text() == "other/one"
    Path("kill").touch()
    assert run("none") == -signal.SIGKILL
    Path("kill").unlink()
    assert run() == 0 and MADE.read_text() == ""
