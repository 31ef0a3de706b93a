# SPDX-License-Identifier: Apache-2.0
"""The pages of docs/add/ are followed to the letter, one after the other, on a few noises.

Blocks that begin with the name of a file are written to it (YAML is merged into a file that is
there), the others are run: run.sh and espnet-ext in this process, which has ESPnet imported once.
"""

import gc
import importlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from espnet_ext import cli
from espnet_ext.recipe import executor, runner

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(bash|python|yaml)\n(.*?)^```$", re.M | re.S)
FILE = re.compile(r"# ((?:local|conf)/[\w./]+|recipe\.yaml)\n")
SMALL = """
encoder_conf: {num_blocks: 1, output_size: 32, linear_units: 32}
decoder_conf: {num_blocks: 1, linear_units: 32}
num_workers: 0
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The example corpus: a second of noise an utterance, with text and pitch beside it."""
    root = tmp_path_factory.mktemp("corpora") / "mycorpus"
    rng = np.random.default_rng(0)
    for name, count in (("train", 6), ("dev", 2), ("test", 2)):
        for i in range(count):
            wav = root / name / f"spk{i % 2}" / f"utt{i}.wav"
            wav.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(wav, 0.1 * rng.standard_normal(16000), 16000)
            wav.with_suffix(".txt").write_text(("one two", "three four")[i % 2])
            wav.with_suffix(".f0").write_text("120\n" * 60 + "0\n" * 40)
    return root


class Reader:
    """Somebody who does what a page says, in a tree of the repository's shape."""

    def __init__(self, root: Path, corpus: Path, patch: pytest.MonkeyPatch):
        self.at, self.corpus, self.patch, self.followed = root, corpus, patch, []

    def follow(self, page: str) -> None:
        text = (ROOT / f"docs/add/{page}.md").read_text(encoding="utf-8")
        for kind, content in BLOCK.findall(text.replace("/path/to/mycorpus", str(self.corpus))):
            if named := FILE.match(content):
                self.write(named[1], content[named.end() :])
            else:
                assert kind == "bash", f"{page}: a block without the name of a file"
                for line in content.splitlines():
                    self.do(shlex.split(line, comments=True))
        self.followed.append(page)

    def write(self, name: str, content: str) -> None:
        path = self.at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".yaml" and path.exists():
            changed = merged(yaml.safe_load(path.read_text()), yaml.safe_load(content))
            content = yaml.safe_dump(changed)
        path.write_text(content)
        forget()  # each command that a page tells is a process of its own

    def do(self, words: list[str]) -> None:
        if words[0] == "cd":
            self.at = self.at / words[1]
            self.patch.chdir(self.at)
            self.patch.syspath_prepend(str(self.at))
            self.write("conf/train.yaml", SMALL)
        elif words[0] == "export":
            self.patch.setenv(*words[1].split("=", 1))
        elif words[:3] == ["python", "-m", "pytest"]:
            tests = importlib.import_module(words[3].removesuffix(".py").replace("/", "."))
            for test in [t for name, t in vars(tests).items() if name.startswith("test_")]:
                test()
        elif words[0] == "./run.sh":
            gc.freeze()  # each training collects garbage, and ESPnet's modules are none
            assert runner.main([*words[1:], "--ngpu", "0", "--nj", "1"]) == 0, words
        else:
            assert words[0] == "espnet-ext"
            assert cli.main(words[1:]) == 0, words


def forget() -> None:
    """Forget the modules of the recipe's ``local/``."""
    for name in [m for m in sys.modules if f"{m}.".startswith("local.")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def merged(old, new):
    """Return YAML with what a page shows put in; a list or a text replaces the one before."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{k: merged(old.get(k), v) for k, v in new.items()}}


@pytest.fixture(scope="module")
def reader(corpus, tmp_path_factory):
    """A reader in a clone without recipes, who makes the model smaller than the template says."""
    root = tmp_path_factory.mktemp("tree")
    (root / "egs2").mkdir()
    shutil.copytree(ROOT / "utils", root / "utils")
    with pytest.MonkeyPatch.context() as patch:
        for name in executor.THREADS:
            patch.setenv(name, "1")
        patch.setenv("PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.chdir(root)
        yield Reader(root, corpus, patch)
    gc.unfreeze()
    forget()


def records(reader) -> dict:
    """Return the run records by name."""
    found = (json.loads(p.read_text()) for p in (reader.at / "results").glob("*.json"))
    return {r["name"]: r for r in found}


def log_of(reader, name: str) -> str:
    """Return what a training has logged."""
    logs = list((reader.at / "exp" / name).glob("log/*finetune.log"))
    return "".join(p.read_text() for p in logs)


def test_a_corpus(reader):
    reader.follow("corpus")
    assert len((reader.at / "data/train/wav.scp").read_text().splitlines()) == 6
    record = records(reader)["try"]
    assert record["recipe"] == "mycorpus/asr1" and set(record["sets"]) == {"dev", "test"}


def test_a_metric(reader):
    reader.follow("metric")
    metrics = records(reader)["try"]["sets"]["test"]["greedy_ctc"]["metrics"]
    assert metrics["missed"]["totals"] == {"errors": 2, "units": 2}
    assert metrics["word_f1"]["totals"]["lost"] == 4
    assert "Word F1" in (reader.at / "RESULTS.md").read_text()


def test_a_loss_and_a_method(reader, capsys):
    reader.follow("loss")
    reader.follow("method")
    assert re.search(r"penalty=-\d", log_of(reader, "penalty_s1"))
    assert runner.main(["--finetune.args.penalty.wieght", "1"]) == 2
    assert "weight" in capsys.readouterr().err


def test_a_stream(reader):
    recipe = reader.at / "recipe.yaml"
    content = yaml.safe_load(recipe.read_text())
    content["finetune"].pop("args", None)  # of the method's page
    recipe.write_text(yaml.safe_dump(content))
    reader.follow("stream")
    assert len((reader.at / "dump/train/pitch.scp").read_text().splitlines()) == 6
    assert "voiced=0.6" in log_of(reader, "pitch")


def test_every_page_was_followed(reader):
    there = {p.stem for p in (ROOT / "docs/add").glob("*.md")}
    assert set(reader.followed) == there - {"lhotse"}  # tests/data/lhotse/ has its manifests
