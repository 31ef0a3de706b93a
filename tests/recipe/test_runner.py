# SPDX-License-Identifier: Apache-2.0
"""The runner with stages that are stand-ins: order, reasons, messages, exit codes, logs."""

import errno
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from espnet_ext.errors import DataError, EspnetExtError, SetupError, UsageError
from espnet_ext.recipe import records, runner, stages
from espnet_ext.recipe.stages import Plan, Stage

NAMES = ("format", "tokens", "decode", "score")


class FakeStage(Stage):
    """A stage whose code is ``fakes[name]``: a file out/<name> from the one before."""

    def code(self, recipe):
        return SimpleNamespace(plan=self.plan, run=self.run)

    def plan(self, ctx):
        before = NAMES.index(self.name) - 1
        return Plan(
            needs=[Path("out") / NAMES[before]] if before >= 0 else [],
            makes=[Path("out") / self.name],
            settings={"seed": ctx.recipe.seed},
            disk_mb=3,
            stock=[f"python -m espnet2.bin.{self.name}", f"bash {self.name}"],
        )

    def run(self, ctx, plan):
        ran.append(self.name)
        print(f"output of {self.name}")
        if self.name in fail:
            fail[self.name]()
        Path("out").mkdir(exist_ok=True)
        if self.name not in forget:
            (Path("out") / self.name).write_text(f"{self.name} {ctx.recipe.seed}")


ran, fail, forget = [], {}, set()


@pytest.fixture
def main(folder, monkeypatch, capfd):
    """Return ``main(*argv) -> (exit code, stdout, stderr, stages run)``."""
    fakes = tuple(FakeStage(i, name, f"makes {name}", name) for i, name in enumerate(NAMES, 1))
    monkeypatch.setattr(stages, "STAGES", fakes)
    for state in (ran, fail, forget):
        state.clear()
    folder.recipe(format={}, tokens={}, decode={}, score={})

    def call(*argv: str) -> tuple[int, str, str, list[str]]:
        ran.clear()
        code = runner.main(list(argv))
        out, err = capfd.readouterr()
        return code, out, err, list(ran)

    return call


def raising(error: BaseException):
    def act(*_, **__):
        raise error

    return act


def test_order_then_up_to_date(main):
    code, out, err, done = main()
    assert (code, done, err) == (0, list(NAMES), "")
    assert "stage 1/4 format: makes format ... running (first run)" in out
    assert "done: 4 stage(s)" in out
    assert "output of" not in out
    code, out, _, done = main()
    assert (code, done) == (0, [])
    assert out.count("up to date") == 4


def test_only_what_changed_runs(main):
    main()
    Path("out/tokens").unlink()
    code, out, _, done = main()
    assert (code, done) == (0, ["tokens"])  # its product came back the same
    assert "stage 2/4 tokens: makes tokens ... running (out/tokens is gone)" in out
    code, out, _, done = main("--seed", "2", "--stage", "format", "--stop-stage", "tokens")
    assert done == ["format", "tokens"]
    assert "(changed: seed)" in out
    assert "(changed: seed, out/format)" in out


def test_range_force_and_sections_that_are_off(main, folder):
    main()
    assert main("--stage", "2", "--stop-stage", "decode", "--force")[3] == ["tokens", "decode"]
    assert main("--stage=score", "--force")[3] == ["score"]
    code, out, _, done = main("--tokens", "null", "--force")
    assert (code, done) == (0, ["format", "decode", "score"])
    assert "stage 2/4 tokens: off, recipe.yaml has no 'tokens' section" in out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EspnetExtError("It broke", "file:3", "mend it"), 1),
        (UsageError("It broke", "file:3", "mend it"), 2),
        (DataError("It broke", "file:3", "mend it"), 3),
        (SetupError("It broke", "file:3", "mend it"), 3),
    ],
)
def test_failure_tells_all_once(main, error, code):
    fail["tokens"] = raising(error)
    argv = ["--title", "it's $(x)", "--nj=2", "--stage=1", "--stop_stage", "score"]
    got, _, err, done = main(*argv)
    assert (got, done) == (code, ["format", "tokens"])
    lines = err.splitlines()
    assert lines[0] == "error: stage 2 (tokens) failed: It broke"
    assert lines[1:3] == ["  where: file:3", "  fix:   mend it"]
    assert lines[3].startswith("  log:   exp/base/log/02_tokens.log")
    assert lines[4].startswith("  rerun: ./run.sh ")
    assert len(lines) == 5
    again = shlex.split(lines[4].removeprefix("  rerun: ./run.sh "))
    assert again == ["--stage", "2", "--stop-stage", "2", "--title", "it's $(x)", "--nj=2"]
    log = Path("exp/base/log/02_tokens.log").read_text()
    assert "Traceback" in log
    fail.clear()
    assert main(*again)[3] == ["tokens"]


def test_traceback_only_with_debug(main):
    fail["format"] = raising(ValueError("odd"))
    code, _, err, _ = main()
    assert code == 1
    assert "failed: ValueError: odd" in err
    assert "where: test_runner.py:" in err
    assert "Traceback" not in err
    code, _, err, _ = main("--debug")
    assert code == 1
    assert "Traceback" in err
    assert err.count("rerun:") == 1


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space", "dump/x"), "the disk is full\n  where: dump/x\n  fix:"),
        (OSError(errno.EROFS, "Read-only", "dump/x"), "the disk is read-only\n  where: dump/x"),
        (PermissionError(errno.EACCES, "no", "a.wav"), "permission denied\n  where: a.wav"),
    ],
)
def test_what_the_system_refuses_is_one_message(main, monkeypatch, error, says):
    def wrapped():
        try:
            raise error
        except OSError as e:
            raise RuntimeError("a library's own words") from e

    for act in (raising(error), wrapped):
        fail["format"] = act
        code, _, err, _ = main()
        assert code == 3
        assert f"error: stage 1 (format) failed: {says}" in err
        assert "Traceback" not in err and "words" not in err
    monkeypatch.setattr(Path, "mkdir", raising(error))  # the runner's own first write
    code, _, err, _ = main()
    assert code == 3
    assert err.startswith(f"error: {says}")


def test_a_full_disk_is_found_behind_an_error_that_does_not_tell(main, monkeypatch):
    fail["format"] = raising(RuntimeError("PytorchStreamWriter failed writing file data/0"))
    assert main()[0] == 1

    def fill():
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
        raise RuntimeError("PytorchStreamWriter failed writing file data/0")

    fail["format"] = fill
    code, _, err, _ = main()
    assert code == 3 and "the disk is full" in err and "Stream" not in err


def test_a_program_that_calls_exit_is_a_failure(main):
    def act():
        print("prog: error: argument --max_epoch: invalid int value: 'abc'")
        raise SystemExit(2)

    fail["format"] = act
    code, _, err, done = main()
    assert (code, done) == (1, ["format"])
    assert "invalid int value: 'abc'" in err
    assert not Path(".stages/format.json").exists()


def test_an_error_between_stages_has_no_traceback_either(main, monkeypatch):
    monkeypatch.setattr(records, "write", lambda *_: 1 / 0)
    code, _, err, _ = main()
    assert code == 1
    assert err.startswith("error: ZeroDivisionError: division by zero\n  where: test_runner.py:")
    with pytest.raises(ZeroDivisionError):
        main("--debug")


def test_interrupt_leaves_a_state_to_go_on_from(main):
    fail["tokens"] = raising(KeyboardInterrupt())
    code, _, err, _ = main()
    assert code == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    fail.clear()
    assert main()[3] == ["tokens", "decode", "score"]


def test_a_stage_that_forgets_its_product_fails(main):
    forget.add("tokens")
    code, _, err, done = main()
    assert (code, done) == (1, ["format", "tokens"])
    assert "without making what it should" in err
    assert "out/tokens" in err
    assert main()[3] == ["tokens"]


def test_a_failed_rerun_forgets_that_it_was_done(main):
    main()
    fail["format"] = raising(EspnetExtError("x"))
    assert main("--stage", "1", "--stop-stage", "1", "--force")[0] == 1
    fail.clear()
    assert main()[3] == ["format"]


def test_missing_input_names_the_stage_to_run(main):
    code, _, err, done = main("--stage", "decode")
    assert (code, done) == (3, [])
    assert "stage 3 (decode) needs a missing file\n  where: out/tokens" in err
    assert "./run.sh --stage 2\n" in err


def test_the_stage_to_run_is_named_with_the_other_options(main):
    _, _, err, _ = main("--stage", "decode", "--seed", "2", "--stop-stage=4", "--name", "try2")
    assert "fix:   ./run.sh --stage 2 --seed 2 --name try2\n" in err


def test_log_has_a_header_and_the_earlier_one_is_kept(main):
    main("--title", "first run")
    main("--force")
    log = Path("exp/base/log/01_format.log").read_text().splitlines()
    head = {x[2:].partition(": ")[0]: x.partition(": ")[2] for x in log if x.startswith("# ")}
    assert head["command"] == "./run.sh --force"
    assert {"commit", "versions", "date", "host"} <= head.keys()
    assert "torch=" in head["versions"]
    assert "output of format" in log
    old = Path("exp/base/log/01_format.old.log").read_text()
    assert "command: ./run.sh --title 'first run'" in old


@pytest.mark.parametrize("argv", [["--list"], ["--dry-run"], ["--help"]])
def test_showing_changes_nothing(main, argv):
    before = sorted(Path().rglob("*"))
    code, out, _, done = main(*argv)
    assert (code, done) == (0, [])
    assert sorted(Path().rglob("*")) == before
    if argv == ["--dry-run"]:
        assert "needs: out/format" in out
        assert "makes: out/tokens" in out
        assert "  stock: python -m espnet2.bin.tokens\n  own:   bash tokens\n" in out
        assert "disk in all: about 12 MB" in out
    if argv == ["--help"]:
        assert "--stop-stage N" in out


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--stage", "abc"], "there is no stage 'abc'"),
        (["--stage", "0"], "there is no stage '0'"),
        (["--stage", "token"], "did you mean 'tokens'?"),
        (["--stage", "3", "--stop-stage", "2"], "nothing to run"),
        (["--name", "../x"], "cannot name an experiment"),
        (["--dry-run", "--executor", "dusk"], "did you mean 'dask'?"),
        (["--dry-run", "--track", "tensorbord"], "did you mean 'tensorboard'?"),
    ],
)
def test_wrong_usage(main, argv, says):
    code, _, err, done = main(*argv)
    assert (code, done) == (2, [])
    assert says in err
    assert not Path(".stages").exists()
