# SPDX-License-Identifier: Apache-2.0
"""espnet-ext upstream: a branch in a worktree, checked; the checkout stays as it is."""

import contextlib
import io
import json
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import git

from espnet_ext import cli
from espnet_ext.upstream import checks, dynamic, worktree
from espnet_ext.upstream.checks import Check

ROOT = Path(__file__).resolve().parents[2]
WEAK = "egs3/an4/esp2_asr_weak_align"


@contextlib.contextmanager
def without_runs():
    """Leave out what starts ESPnet."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("tests", "dry_run"):
            patch.setattr(dynamic, name, lambda branch: Check("a run", checks.MISSING, "slow"))
        yield


@pytest.fixture(scope="module")
def branch(checkout, with_speeds):
    """The weak-alignment recipe on its branch: the worktree, what was printed, the command."""
    argv = ["upstream", str(with_speeds), "--espnet", str(checkout)]
    with without_runs(), contextlib.redirect_stdout(io.StringIO()) as out:
        assert cli.main([*argv, "--force"]) == 0, out.getvalue()
    return checkout.with_name("espnet-ext-an4-weak_align"), out.getvalue(), argv


def word_errors(records: list[dict]) -> str:
    """Return mean and spread of the WER on test, counted from each utterance's errors."""
    found = [r["sets"]["test"]["greedy_ctc"]["metrics"]["wer"]["per_utt"] for r in records]
    percent = [100 * sum(x["errors"]) / sum(x["ref"]) for x in found]
    return f"{statistics.mean(percent):.2f} ± {statistics.stdev(percent):.2f}"


def test_tree(branch, checkout):
    folder, out, _ = branch
    staged = git(folder, "diff", "--cached", "--name-only").splitlines()
    assert len(staged) <= 20
    assert f"{WEAK}/src/weak_align/model.py" in staged
    assert "espnet-ext" not in git(checkout, "branch", "--list", "master")
    body = (folder / "PR_BODY.md").read_text(encoding="utf-8")
    for heading in ("What?", "Why?", "Is your PR small enough?", "Additional context"):
        assert f"## {heading}" in body
    assert "@" not in body.replace("@sw005320", "").replace("@Masao-Someki", "")
    assert "PR_BODY.md" not in staged
    page = (folder / WEAK / "README.md").read_text(encoding="utf-8")
    paths = sorted((ROOT / "egs2/an4/weak_align1/results").glob("weak_tri_s*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    assert f"| weak_tri | 1-3 | {word_errors(records)} |" in page
    assert "[DEVIATION]" in page and "not yet of this port" in page
    training = yaml.safe_load((folder / WEAK / "conf/training.yaml").read_text())
    (classes,) = {r["alignment"]["num_classes"] for r in records}
    assert training["model"]["model_conf"]["align_conf"]["num_classes"] == classes
    assert training["model"]["specaug_conf"]["apply_time_warp"] is False
    # The preprocessor would change the speed of the speech alone.
    assert training["dataset"]["train"] == [
        {"data_src_args": {"split": "train", "speeds": [1.0, 0.9, 1.1]}}
    ]
    assert "data_aug_effects" not in training["dataset"]["preprocessor"]
    assert " ok  size: 20 files" in out and " ok  no espnet_ext left" in out
    # Style by ruff, which is what is installed here; black and flake8 are asked where they are.
    style = ["--isolated", "--select", "E,F,W,D1,D2,D4", "--line-length", "88"]
    own = ["--ignore", "D104,D202,D203,D205,D212,D213,D401,D404,D407,D413,D406,D107,D105"]
    ruff = [sys.executable, "-m", "ruff", "check", *style, *own, "egs3/an4", "test"]
    done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_checkout_is_untouched(branch, checkout):
    assert git(checkout, "branch", "--show-current") == "master"
    assert git(checkout, "status", "--porcelain") == ""
    assert git(checkout, "rev-list", "--all", "--count") == "1"


def test_a_branch_starts_from_its_base_or_from_where_it_was_rebased_to(tmp_path):
    """The checkout's own branch is older than the base: the commits between are ESPnet's."""
    root, folder = tmp_path / "espnet", tmp_path / "branch"
    root.mkdir()
    git(root, "init", "-q", "-b", "old")

    def commit(name):
        (root / name).write_text(name)
        git(root, "add", name)
        git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", name)
        return git(root, "rev-parse", "HEAD").strip()

    commit("f0")
    git(root, "switch", "-qc", "newer")
    base = commit("f1")
    git(root, "switch", "-q", "old")
    worktree.add(root, "ext/x", folder, "newer")
    (folder / "mine").write_text("x\n")
    worktree.stage(folder, ["mine"])
    assert worktree.base_of(folder) == base and worktree.changed(folder) == [("mine", 1)]
    assert worktree.known_before(folder, ["f1", "mine"]) == {"f1"}
    git(root, "switch", "-q", "newer")
    later = commit("f2")
    git(folder, "reset", "-q", "--soft", later)  # as a rebase leaves it
    git(folder, "restore", "-q", "--staged", "--worktree", "f2")
    assert worktree.base_of(folder) == later and worktree.changed(folder) == [("mine", 1)]


def test_a_second_run_says_how_to_go_on(branch, capfd):
    _, _, argv = branch
    assert cli.main(argv) == 2
    err = capfd.readouterr().err
    assert "the branch ext/an4-weak_align exists" in err
    assert "worktree remove --force" in err and "branch -D ext/an4-weak_align" in err


def test_a_tool_that_is_missing_is_not_passed(branch, monkeypatch):
    folder, _, _ = branch
    monkeypatch.setattr(checks, "installed", lambda name: False)
    monkeypatch.setattr(checks.shutil, "which", lambda *args, **kwargs: None)
    one = checks.Branch(folder, WEAK, (f"{WEAK}/run.py",), "free")
    for check in (checks.black, checks.isort, checks.flake8, checks.shellcheck, checks.typos):
        found = check(one)
        assert found.state == checks.MISSING and (
            "install" in found.detail or "make" in found.detail
        )


def test_written_tests_are_timed(tmp_path, monkeypatch):
    (tmp_path / "test").mkdir()
    text = "def test_a():\n    pass\ndef test_b():\n    sum(range(10**7))\n"
    one = checks.Branch(tmp_path, ".", ("test/test_x.py",), "")
    (tmp_path / "test/test_x.py").write_text(text)
    monkeypatch.setattr(dynamic, "LIMIT_S", 0.01)
    slow = dynamic.tests(one)
    assert slow.state == checks.FAILED
    assert "test_b: " in slow.detail and "test_a" not in slow.detail
    (tmp_path / "test/test_x.py").write_text(text + "def test_c():\n    assert 1 == 2\n")
    assert "test_c" in dynamic.tests(one).detail


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("an4/bl_just1", "manual optimisation"),
        ("atis/ml_lmcl1", "no task class"),
        ("media/dual_task1", "no system for SLU"),
        ("lrs3/multistage1", "chain of three trainings"),
        ("synth/weak_align1", "no corpus that others could get"),
        ("an4/asr2", "there is no recipe.yaml"),
    ],
)
def test_refusals_give_the_reason(recipe, says, checkout, capfd):
    assert cli.main(["upstream", recipe, "--espnet", str(checkout)]) == 2
    assert says in capfd.readouterr().err
    assert "bl_just" not in git(checkout, "branch")


def test_what_is_no_checkout_is_refused(tmp_path, capfd):
    assert cli.main(["upstream", "an4/asr1", "--espnet", str(tmp_path / "none")]) == 3
    git(tmp_path, "init", "-q")
    assert cli.main(["upstream", "an4/asr1", "--espnet", str(tmp_path)]) == 3
    assert "there is no egs3" in capfd.readouterr().err


def test_a_check_needs_a_branch(checkout, capfd):
    argv = ["upstream", str(ROOT / "egs2/an4/asr1"), "--espnet", str(checkout), "--check"]
    assert cli.main(argv) == 2
    assert "no worktree has the branch ext/an4-asr" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("preset: both", "preset 'both' has: frame_ce, bpe_ce"),
        ("preset: weak_tri\n  head_layers: 2", "one linear layer"),
    ],
)
def test_what_is_not_vendored_is_refused(tmp_path, checkout, capfd, options, says):
    folder = tmp_path / "egs2/an4/weak_align1"
    shutil.copytree(ROOT / "egs2/an4/weak_align1", folder, ignore=shutil.ignore_patterns("local"))
    conf = folder / "conf/train_cpu.yaml"
    conf.write_text(conf.read_text().replace("preset: weak_tri", options))
    assert cli.main(["upstream", str(folder), "--espnet", str(checkout)]) == 2
    assert says in capfd.readouterr().err


@pytest.mark.parametrize(("classes", "sent"), [((401, 401, 401), 401), ((401, 401, 402), "???")])
def test_classes_are_those_of_the_labels_of_the_system_that_is_sent(tmp_path, classes, sent):
    from espnet_ext.upstream.plan import plan

    folder = tmp_path / "egs2/an4/weak_align1"
    shutil.copytree(ROOT / "egs2/an4/weak_align1", folder, ignore=shutil.ignore_patterns("dump"))
    for path, count in zip(sorted(folder.glob("results/weak_tri_s*.json")), classes, strict=True):
        record = json.loads(path.read_text(encoding="utf-8"))
        assert record["alignment"]["num_classes"] != count
        record["alignment"]["num_classes"] = count
        path.write_text(json.dumps(record), encoding="utf-8")
    assert plan(folder, "egs3").align["num_classes"] == sent


def test_a_corpus_without_a_builder_of_its_own_reads_kaldi_folders(checkout):
    from espnet_ext.upstream.egs3 import build
    from espnet_ext.upstream.plan import plan

    tree = build(plan(ROOT / "egs2/tedlium2/weak_align1", "egs3"), checkout)
    config = yaml.safe_load(tree.files["egs3/tedlium2/esp2_asr_weak_align/dataset/config.yaml"])
    assert config["builder"]["split_folders"] == {"train": "train", "valid": "dev", "test": "test"}
    assert config["alignment"]["source_env_var"] == "TEDLIUM2_ALIGNMENT"
    assert (
        "No run has been recorded yet" in tree.files["egs3/tedlium2/esp2_asr_weak_align/README.md"]
    )
    for path, text in tree.files.items():
        if path.endswith(".py"):
            compile(text, path, "exec")


def test_help_is_quick():
    code = "import sys; from espnet_ext import cli; cli.main(['upstream', '--help']);"
    code += "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_tampered_tree_fails(branch, capfd):
    folder, _, argv = branch
    loss = folder / WEAK / "src/weak_align/loss.py"
    loss.write_text("import espnet_ext\n" + loss.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / WEAK / "path.sh").write_text("echo $(ls *)\n")
    model = folder / WEAK / "model.pth"
    model.write_bytes(b"\0" * 600_000)
    link = folder / WEAK / "cmd.sh"
    link.symlink_to("../nowhere.sh")
    (folder / WEAK / "README.md").write_text("nothing recieved\n")
    git(folder, "add", "-A", WEAK)
    with without_runs():
        assert cli.main([*argv, "--check"]) == 3
    out = capfd.readouterr().out
    last = next(x for x in out.splitlines() if "checks failed" in x)
    for name in ("size", "no espnet_ext left", "symbolic links", "licence", "shellcheck", "typos"):
        assert name in last
    assert f"{WEAK}/src/weak_align/loss.py:1: import espnet_ext" in out
    assert "model.pth: 600,000 bytes" in out
    assert "cmd.sh -> ../nowhere.sh" in out
