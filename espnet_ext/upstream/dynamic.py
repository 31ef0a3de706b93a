# SPDX-License-Identifier: Apache-2.0
"""Checks that run code of the branch: its tests, a dry run, a short run from data to score.

All of it happens in a copy, so that no data and no experiment come into the worktree.
"""

import os
import re
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ET  # of a report that pytest has just written
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from espnet_ext.installation import install
from espnet_ext.upstream.checks import (
    FAILED,
    MISSING,
    OK,
    Branch,
    Check,
    installed,
    run,
)
from espnet_ext.upstream.templating import template

LIMIT_S = 2.0  # of ESPnet's setup.cfg, for each test
STAGES = (
    "create_dataset", "train_tokenizer", "collect_stats", "train", "infer", "measure",
    "pack_model", "upload_model",
)  # fmt: skip
# What ESPnet3 imports when a stage is started.
NEEDED = ("espnet", "lightning", "tensorboard", "distributed", "jiwer")


def lacking() -> list[str]:
    """Return the packages that a stage of ESPnet3 needs and that are not installed."""
    return [name for name in NEEDED if not installed({"espnet": "espnet2"}.get(name, name))]


def tests(branch: Branch) -> Check:
    """Run the written tests; each must stay below two seconds of CPU time."""
    name = f"tests, each below {LIMIT_S:g} s"
    files = [p for p in branch.files(".py") if p.startswith("test/")]
    if not installed("pytest"):
        return Check(name, MISSING, install("pytest"))
    if not installed("espnet2"):
        return Check(name, MISSING, install("espnet"))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        (Path(folder) / "cpu_times.py").write_text(template("cpu_times.py", {}), encoding="utf-8")
        own = {"PYTHONPATH": os.pathsep.join([str(branch.folder), folder])}
        own |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        timed = replace(branch, environment=own)
        options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "cpu_times", "-o", "addopts="]
        command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *files]
        status, text = run(timed, command)
        if status:
            return Check(name, FAILED, text)
        times = sorted(_times(report), reverse=True)
    slow = [f"{test}: {seconds:.1f} s" for seconds, test in times if seconds > LIMIT_S]
    told = f"{len(times)} tests, the slowest {times[0][0]:.1f} s"
    return Check(name, FAILED if slow else OK, "\n".join(slow) or told)


def _times(report: Path) -> Iterator[tuple[float, str]]:
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        cpu = [p.get("value") for p in case.iter("property") if p.get("name") == "cpu_s"]
        yield float(cpu[0] if cpu else case.get("time", 0)), case.get("name", "?")


class Copy:
    """A copy of the recipe that can be run; the rest of egs3 is linked."""

    def __init__(self, branch: Branch, folder: Path):
        self.folder, self.recipe = folder, folder / branch.recipe
        shutil.copytree(branch.folder / branch.recipe, self.recipe)
        (folder / "egs3" / "__init__.py").write_text("", encoding="utf-8")
        (folder / "egs3" / "TEMPLATE").symlink_to(branch.folder / "egs3" / "TEMPLATE")
        paths = [str(folder), str(branch.folder)]
        own = {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        self.branch = replace(branch, folder=folder, environment=own)
        for name in ("espnet2", "espnet3"):
            if (branch.folder / name).is_dir():
                (folder / name).symlink_to(branch.folder / name)

    def stages(self, names: tuple[str, ...], *more: str) -> tuple[int, str]:
        """Run stages; return the exit status and the end of the log."""
        roles = [
            x
            for role in ("training", "inference", "metrics", "publication")
            for x in (f"--{role}_config", f"conf/{role}.yaml")
        ]
        command = [sys.executable, "run.py", "--stages", *names, *roles, *more]
        return run(self.branch, command, cwd=self.recipe)


def dry_run(branch: Branch) -> Check:
    """Run all stages without doing anything: configurations are read, merged and resolved."""
    name = "run.py --stages (all but the demo's) --dry_run"
    if lack := lacking():
        return Check(name, MISSING, install(*lack))
    with tempfile.TemporaryDirectory() as folder:
        status, text = Copy(branch, Path(folder)).stages(STAGES, "--dry_run")
    would = len(re.findall(r"would run stage", text))
    good = status == 0 and would == len(STAGES)
    return Check(name, OK if good else FAILED, f"{would} stages" if good else text)
