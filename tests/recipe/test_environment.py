# SPDX-License-Identifier: Apache-2.0
"""The doctor's checks and log headers, on machines made of stand-in programs."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext import hardware
from espnet_ext.errors import SetupError, UsageError
from espnet_ext.hardware import Gpu
from espnet_ext.installation import install
from espnet_ext.recipe import environment
from espnet_ext.recipe.environment import check_environment, git_state, in_range, release

SMI = "#!/bin/sh\necho 'NVIDIA A100, 143771'\necho 'NVIDIA L4, 23034'\n"


def git(folder: Path, *args: str) -> None:
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *names, "-C", str(folder), *args], check=True, capture_output=True)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    (folder / "exp").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / "a").write_text("1")
    (folder / ".gitignore").write_text("/exp/\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return folder


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def named(checks: list[environment.Check], name: str) -> environment.Check:
    return next(x for x in checks if x.name == name)


def test_importing_stays_light():
    code = (
        "import sys; from espnet_ext.recipe import environment as e; e.check_environment(); "
        "sys.exit(bool({'torch', 'espnet2', 'numpy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("version", "inside"),
    [
        ("2.11", True),
        ("2.11.0+cu130", True),
        ("2.12.0.dev1", False),
        ("2.9.1", False),
        ("unknown", False),
    ],
)
def test_in_range(version: str, inside: bool):
    assert in_range(version, ("2.11", "2.12")) is inside


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=4), st.sampled_from(["", "rc1", "+x"]))
def test_release_reads_the_numbers(numbers: list[int], suffix: str):
    assert release(".".join(map(str, numbers)) + suffix) == tuple(numbers)


def test_git_state(repo: Path, tmp_path: Path):
    clean = git_state(repo)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (repo / "untracked").touch()
    assert git_state(repo) == clean
    (repo / "a").write_text("2")
    assert git_state(repo) == {**clean, "dirty": True}
    unknown = {"commit": None, "dirty": None}
    assert git_state(repo / "exp") == unknown
    assert git_state(tmp_path) == unknown
    assert git_state(tmp_path / "absent") == unknown


def test_git_state_without_git_and_without_commit(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "new").mkdir()
    git(tmp_path / "new", "init", "-q")
    assert git_state(tmp_path / "new")["commit"] is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(repo) == {"commit": None, "dirty": None}


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        (None, ["NVIDIA A100", "NVIDIA L4"]),
        ("", []),
        ("1", ["NVIDIA L4"]),
        ("1,0", ["NVIDIA L4", "NVIDIA A100"]),
        ("0,-1,1", ["NVIDIA A100"]),
        ("7", []),
    ],
)
def test_gpus(smi: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: list[str]):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [x.name for x in hardware.gpus()] == names


def test_device_line(smi: None, monkeypatch: pytest.MonkeyPatch):
    assert environment.describe_device() == "1 x NVIDIA A100 (140 GiB), 1 x NVIDIA L4 (22 GiB)"
    monkeypatch.setattr(environment, "gpus", lambda: [Gpu("X")] * 8)
    assert environment.describe_device() == "8 x X"
    monkeypatch.setattr(environment, "gpus", lambda: [])
    assert environment.describe_device().startswith("CPU ")


def test_the_device_of_a_training_is_what_it_uses(smi: None, monkeypatch: pytest.MonkeyPatch):
    assert hardware.training_device(1) == "1 x NVIDIA A100 (140 GiB)"
    assert hardware.training_device(1, 8) == "8 x NVIDIA A100 (140 GiB)"
    assert hardware.training_device(0).startswith("CPU ")  # though there are GPUs
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert hardware.training_device(1).startswith("1 x NVIDIA L4")


def test_a_broken_driver_is_no_gpu(smi: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "bin/nvidia-smi").write_text("#!/bin/sh\necho 'driver mismatch, 0'\nexit 18\n")
    monkeypatch.setattr(hardware, "_DRIVER", tmp_path)
    assert hardware.gpus() == []


def test_container_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in (
        ("cpu.max", "150000 100000"),
        ("memory.max", "1000"),
        ("memory.current", "400"),
    ):
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    assert hardware.cpu_cores() == 1
    assert hardware.memory_bytes() == (1000, 600)


def test_needs_decide_what_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(environment, "gpus", lambda: [])
    absent = lambda name: None if name == "av" else "2.11"  # noqa: E731
    monkeypatch.setattr(environment, "installed", absent)
    checks = check_environment()
    assert named(checks, "gpu").ok
    assert not named(checks, "extra video").required
    needs = {"path": tmp_path / "not/yet", "disk_gb": 1e9, "ngpu": 1, "extras": ["video"]}
    failed = {x.name for x in check_environment(needs) if not x.ok and x.required}
    assert failed >= {"gpu", "disk", "extra video", "espnet"}
    assert not failed & {"torch", "memory", "python"}
    with pytest.raises(SetupError, match="GPUs asked for") as error:
        environment.require_environment(needs)
    assert install(extra="video") in error.value.how


def test_a_package_of_an_extra_may_need_a_version(monkeypatch: pytest.MonkeyPatch):
    assert named(check_environment(), "extra text").ok
    monkeypatch.setattr(environment, "installed", lambda name: "4.57.1")
    found = named(check_environment(), "extra text")
    assert not found.ok and found.detail == "not installed: transformers>=5"


@pytest.mark.parametrize("needs", [{"disk": 1}, {"extras": ["vidio"]}])
def test_unknown_needs(needs: dict[str, object]):
    with pytest.raises(UsageError, match=r"disk_gb|video"):
        check_environment(needs)


def test_the_disk_that_is_needed_is_told_in_two_decimals():
    assert named(check_environment({"disk_gb": 0.0145038}), "disk").detail.endswith(
        ", 0.01 GB needed"
    )


@pytest.mark.parametrize(("threads", "ok"), [("1", True), (None, False), ("4096", False)])
def test_threads_are_advice(monkeypatch: pytest.MonkeyPatch, threads: str | None, ok: bool):
    if threads is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    check = named(check_environment(), "OMP_NUM_THREADS")
    assert (check.ok, check.required) == (ok, False)


def test_header(repo: Path):
    lines = environment.header_lines(["./run.sh", "--name", "two words"], repo)
    rows = dict(x.split(": ", 1) for x in lines)
    assert rows["command"] == "./run.sh --name 'two words'"
    assert rows["commit"] == git_state(repo)["commit"]
    assert f"python={sys.version.split()[0]}" in rows["versions"]
    assert not any(x.startswith("command") for x in environment.header_lines())
