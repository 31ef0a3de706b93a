# SPDX-License-Identifier: Apache-2.0
"""A throw-away git repository in place of a checkout of ESPnet.

What the command needs of one comes from the wheel (egs3 and espnet3). The few files of
egs2/TEMPLATE, egs2/README.md and espnet2/tasks/asr.py are stand-ins or copies of the wheel: no full
checkout can be reached by a test.
"""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

NO_CACHE = shutil.ignore_patterns("__pycache__", "mini_an4", "librispeech_100", "spgispeech")


def git(folder: Path, *args: str) -> str:
    """Return what git prints."""
    who = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    command = ["git", "-C", str(folder), *who, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def with_speeds(tmp_path_factory) -> Path:
    """an4/weak_align1 with speed copies, and without what a run left in its folder."""
    source = Path(__file__).resolve().parents[2] / "egs2/an4/weak_align1"
    folder = tmp_path_factory.mktemp("tree") / "egs2/an4/weak_align1"
    left = shutil.ignore_patterns("dump", "exp", "data", "downloads", "local")
    shutil.copytree(source, folder, ignore=left)
    recipe = folder / "recipe.yaml"
    text = recipe.read_text(encoding="utf-8")
    changed = text.replace("max_s: 20.0}", "max_s: 20.0, speeds: [0.9, 1.0, 1.1]}")
    assert changed != text
    recipe.write_text(changed, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The folder that holds espnet2, espnet3 and egs3."""
    return Path(importlib.util.find_spec("espnet2").origin).parents[1]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, wheel) -> Path:
    """A repository with one commit on the branch ``master``."""
    root = tmp_path_factory.mktemp("upstream") / "espnet"
    shutil.copytree(wheel / "egs3", root / "egs3", ignore=NO_CACHE)
    (root / "espnet3").mkdir()  # the wheel's own is what runs
    (root / "espnet3" / "README").write_text("stand-in\n")
    git(root, "init", "-q", "-b", "master")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "base")
    return root


@pytest.fixture(scope="module")
def checkout_egs2(tmp_path_factory, wheel) -> Path:
    """The same for the layout egs2: stand-ins, but for espnet2/tasks/asr.py of the wheel."""
    root = tmp_path_factory.mktemp("upstream2") / "espnet"
    template = root / "egs2/TEMPLATE/asr1"
    for name in ("cmd.sh", "path.sh", "asr.sh", "db.sh", "scripts/x", "pyscripts/x",
                 "conf/slurm.conf", "conf/queue.conf", "conf/pbs.conf"):  # fmt: skip
        (template / name).parent.mkdir(parents=True, exist_ok=True)
        (template / name).write_text("# stand-in\nAN4=downloads\n")
    (root / "egs2/an4/asr1/local").mkdir(parents=True)
    (root / "egs2/an4/asr1/local/data.sh").write_text("# stand-in\n")
    (root / "egs2/README.md").write_text("| an4 | CMU AN4 | ASR |\n")
    (root / "espnet2/tasks").mkdir(parents=True)
    shutil.copy(wheel / "espnet2/tasks/asr.py", root / "espnet2/tasks")
    git(root, "init", "-q", "-b", "master")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "base")
    return root
