# SPDX-License-Identifier: Apache-2.0
"""A copy of a recipe in a tree of the same shape, and run.sh in it."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

TINY = [
    "--prepare.args="
    "[--train-minutes, '0.6', --train-speakers, '2', --dev-utts, '4', --test-utts, '4']",
    "--finetune.args.max_epoch=2",
    "--finetune.args.batch_bins=300000",
    "--finetune.args.encoder_conf={num_blocks: 1, output_size: 32, linear_units: 32}",
    "--finetune.args.decoder_conf={linear_units: 32}",
]


@dataclass
class RecipeCopy:
    """A recipe folder of the test's own."""

    path: Path

    def start(self, *argv: str, env: dict | None = None) -> subprocess.Popen:
        """Start run.sh in a process group of its own."""
        return subprocess.Popen(
            ["bash", "run.sh", *argv],
            cwd=self.path,
            env={**os.environ, "ESPNET_EXT_PYTHON": sys.executable, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *argv: str, code: int = 0, env: dict | None = None) -> str:
        """Run run.sh to its end, check the exit code, return what it printed."""
        process = self.start(*argv, env=env)
        out, _ = process.communicate(timeout=600)
        assert process.returncode == code, out
        return out


def copy_recipe(name: str, root: Path) -> RecipeCopy:
    """Copy ``egs2/<name>`` without what a run made there."""
    made = shutil.ignore_patterns(
        "data", "dump", "exp", "downloads", ".stages", "results", "RESULTS.md"
    )
    path = root / "egs2" / name
    shutil.copytree(ROOT / "egs2" / name, path, ignore=made)
    for shared in ("utils", "local", "conf"):
        if not (root / shared).exists():
            shutil.copytree(ROOT / shared, root / shared)
    return RecipeCopy(path)
