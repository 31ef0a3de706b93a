# SPDX-License-Identifier: Apache-2.0
"""What is built: an sdist, the wheel made from it, and the command run from the wheel."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

from espnet_ext import __version__
from espnet_ext.data.tables import read_table

ROOT = Path(__file__).resolve().parents[2]
BUILT = ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")
NAMED = ("ml_lmcl1", "bl_just1", "dual_task1", "multistage1")  # by the templates of these methods
NAMED = [f"egs2/{'atis' if m == 'ml_lmcl1' else 'manifest'}/{m}/conf" for m in NAMED]
ALONE = "egs2/an4/bl_just1/conf/train_cpu.yaml"  # a preset of its template
HOLDS = ("espnet_ext", "egs2/TEMPLATE", *NAMED, "conf", "local")  # folders of the wheel
LEFT = ("exp/base/1.pth", "data/train/text", "dump/x", ".stages/format.json")  # by a recipe's run
# As `python -m build --no-isolation`: the wheel is made from what the sdist holds.
BUILD = """
import os
import sys
import tarfile
from setuptools import build_meta
dist = sys.argv[1]
sdist = build_meta.build_sdist(dist)
with tarfile.open(f"{dist}/{sdist}") as t:
    t.extractall("from", filter="data")
os.chdir(f"from/{sdist.removesuffix('.tar.gz')}")
build_meta.build_wheel(dist)
"""
# In a process that finds the wheel and nothing of the repository, here as pip would leave it.
INSIDE = """
import sys
sys.path[:] = [sys.argv.pop(1), *(p for p in sys.path if p not in ('', sys.argv[1]))]
sys.meta_path[:] = [f for f in sys.meta_path if not getattr(f, "__module__", "").startswith("__ed")]
root = sys.argv.pop(1)
from importlib import import_module
code = import_module(sys.argv.pop(1)).main(sys.argv[1:])
ours = [m.__file__ for n, m in sys.modules.items() if n.startswith("espnet_ext") and m.__file__]
assert ours and not any(f.startswith(root) for f in ours), ours
sys.exit(code)
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return folder dist with a sdist and a wheel, built from what git knows of the tree."""
    folder = tmp_path_factory.mktemp("build")
    tree = folder / "tree"
    ignore = shutil.ignore_patterns("__pycache__")
    for name in (*HOLDS, "utils"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    (tree / ALONE).parent.mkdir(parents=True)
    for name in (*BUILT, "Makefile", ALONE):
        shutil.copy(ROOT / name, tree / name)
    for name in LEFT:
        path = tree / "egs2/TEMPLATE/asr1" / name
        path.parent.mkdir(parents=True)
        path.write_text("made\n")
    (folder / "dist").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder / "dist")],
        cwd=tree, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(built):
    """Return the folder into which the wheel was unpacked."""
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as z:
        z.extractall(built / "site")
        for info in z.infolist():
            (built / "site" / info.filename).chmod(info.external_attr >> 16 & 0o777)
    return built / "site"


@pytest.fixture
def command(wheel, tmp_path):
    """Return a function that runs ``espnet-ext`` of the wheel in an empty folder."""

    def run(*argv, code=0, module="espnet_ext.cli"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", INSIDE, str(wheel), str(ROOT), module, *argv],
            cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""},
        )  # fmt: skip
        assert done.returncode == code, done.stderr[-3000:]
        return done.stdout + done.stderr

    return run


def test_the_wheel_holds_the_package_its_data_and_nothing_that_a_run_left(wheel):
    def files(root, *below):
        return {str(p.relative_to(root)) for b in below for p in (root / b).rglob("*")
                if p.is_file() and "__pycache__" not in p.parts}  # fmt: skip

    kept = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", *HOLDS, ALONE],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    known = set(kept.stdout.splitlines())
    docs = {f for f in known if f.endswith(".md") and f.count("/") < 3}  # of the rooms
    expected = {f if f.startswith("espnet_ext") else f"espnet_ext/shipped/{f}" for f in known}
    found = files(wheel, "espnet_ext")
    assert found == expected - {d for d in docs if d.startswith("espnet_ext")}
    info = {p.name for p in wheel.glob("*.dist-info")}
    assert {p.name for p in wheel.iterdir()} == {"espnet_ext", *info}, "tests or recipes"
    assert os.access(wheel / "espnet_ext/shipped/egs2/TEMPLATE/asr1/run.sh", os.X_OK)


def test_the_metadata_are_valid_and_say_what_the_tree_says(built, wheel):
    (file,) = wheel.glob("*.dist-info/METADATA")
    about = Metadata.from_email(file.read_bytes(), validate=True)
    assert (about.name, str(about.version)) == ("espnet_ext", __version__)
    assert about.license_expression == "Apache-2.0" and about.license_files == ["LICENSE"]
    assert about.description_content_type == "text/markdown"
    assert about.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "tqdm" not in {r.name for r in about.requires_dist}
    with tarfile.open(next(built.glob("*.tar.gz"))) as t:
        top = {n.split("/")[1] for n in t.getnames() if "/" in n}
    assert {"LICENSE", "constraints.txt", "utils", "Makefile"} <= top and "tests" not in top


def test_the_wheel_makes_its_corpus_and_aligns_it_with_the_shipped_model(command, tmp_path):
    assert "usage: espnet-ext COMMAND" in command("--help")
    sizes = ("--train-minutes", "0.02", "--dev-utts", "2", "--test-utts", "1")
    command("corpus", *sizes, module="espnet_ext.data.synth.__main__")
    texts = read_table(tmp_path / "corpus/dev/text")
    (tmp_path / "recordings").mkdir()
    for utt, audio in read_table(tmp_path / "corpus/dev/wav.scp").items():
        shutil.copy(tmp_path / audio, tmp_path / f"recordings/{utt}{Path(audio).suffix}")
        (tmp_path / f"recordings/{utt}.txt").write_text(texts[utt])
    assert "2 of 2 utterances aligned" in command("align", "recordings", "out", "--nj", "1")


def test_messages_of_the_wheel_name_commands_that_work_there(command, tmp_path):
    """A recipe of an installed package may have no run.sh, and there is no Makefile."""
    (tmp_path / "recipe.yaml").write_text("recipe: a/b\ncorpus: {name: c, env: CORPUS}\n")
    told = command("recipe", "--list")
    assert "CORPUS=/path espnet-ext recipe" in told
    told = command("doctor", code=3) + command("recipe", "--help")  # of the recipe that lacks files
    assert "make " not in told and "./run.sh" not in told


def test_the_command_of_the_wheel_makes_a_recipe_without_a_clone(command, wheel, tmp_path):
    command("new", "egs2/mine/dual_task1", "--lang", "fr")
    recipe = tmp_path / "egs2/mine/dual_task1"
    assert os.access(recipe / "run.sh", os.X_OK)
    assert "exec espnet-ext recipe" in (recipe / "run.sh").read_text()
    templates = wheel / "espnet_ext/shipped/egs2/TEMPLATE"
    named = [(p.parent / name, p) for p in templates.glob("*/recipe.yaml")
             for name in re.findall(r"(?:[.][.]/)+[\w./-]+[.]yaml", p.read_text())
             if "an4/asr1" not in name]  # fmt: skip  # a comment's
    assert len(named) > 9 and all(path.is_file() for path, _ in named)
