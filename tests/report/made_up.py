# SPDX-License-Identifier: Apache-2.0
"""A recipe's folder as a run leaves it, made up: two systems of two seeds, and their audio."""

from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.data.tables import write_table
from espnet_ext.files import write_json
from espnet_ext.scoring.metrics import load
from espnet_ext.scoring.score import score_files

RATE = 16000
EVIL = "<script>alert(1)</script>"
REFS = {
    "u1": "turn the lights on",
    "u2": f"say {EVIL} now",
    "u3": "a \"quoted\" 'word' & more",
    "u4": "book a flight",
}
# By system and seed; what is not named is right.
HYPS = {
    "base": ({"u1": "turn lights off", "u4": "look a flight"}, {"u1": "turn the light on"}),
    "weak": ({"u2": f"say {EVIL} {EVIL}"}, {"u2": "</style><img src=x onerror=alert(2)>"}),
}
HASH = "ab" * 32


def phase(epochs: int = 3) -> dict:
    """Return what a record says of a phase."""
    return {
        "task": "asr", "wall_s": 61.5, "train_wall_s": 60.0, "peak_rss_mb": 900, "peak_gpu_mb": 0,
        "params": 1234567, "params_trained": 1000000, "epochs": epochs, "updates": 10 * epochs,
        "valid_acc": [0.1 * i for i in range(1, epochs + 1)],
        "valid_updates": [10 * i for i in range(1, epochs + 1)],
    }  # fmt: skip


class MadeUp:
    """A recipe ``egs2/toy/asr1`` below a folder.

    Attributes:
        path: Its folder.
        metrics: Names of what its runs are scored by.
    """

    def __init__(self, root: Path, metrics: tuple[str, ...] = ("wer", "cer"), refs=None):
        self.path, self.metrics = root / "egs2/toy/asr1", metrics
        self.refs = REFS if refs is None else refs
        self.file = load(metrics)[metrics[0]].ref_file
        (self.path / "data/test").mkdir(parents=True)
        write_table(self.path / "data/test" / self.file, self.refs)
        keys = {"data": {"train": "train", "valid": "dev", "test": ["test"]}}
        write_json(self.path / "recipe.yaml", keys | {"score": {"metrics": metrics}})

    def add_audio(self, length_s: float = 2.0) -> None:
        """Give every utterance a noise."""
        noise = 0.1 * np.random.default_rng(0).standard_normal(round(length_s * RATE))
        for utt in self.refs:
            soundfile.write(self.path / f"{utt}.flac", noise, RATE)
        (self.path / "dump/test").mkdir(parents=True)
        write_table(self.path / "dump/test/wav.scp", {u: f"{u}.flac" for u in self.refs})

    def add_alignment(self) -> Path:
        """Write words and phones of u1; return their folder."""
        folder = self.path / "ctm"
        folder.mkdir()
        (folder / "words.ctm").write_text("u1 1 0.1 0.2 turn 0.25\n")
        (folder / "phones.ctm").write_text("u1 1 0.1 0.1 T\n")
        return folder

    def add(self, group: str, seed: int, wrong: dict[str, str], spent: bool = True) -> Path:
        """Add a scored run; return its folder."""
        exp = self.path / "exp" / f"{group}_s{seed}"
        out = exp / "decode/greedy/test"
        out.mkdir(parents=True)
        hyp_file = load(self.metrics)[self.metrics[0]].hyp_file
        write_table(out / hyp_file, {**self.refs, **wrong})
        scored = score_files(load(self.metrics), self.path / "data/test", out)
        record = {
            "schema": 2, "recipe": "toy/asr1", "name": exp.name, "group": group, "seed": seed,
            "title": "A toy", "date": "2026-11-29", "commit": "0" * 40, "dirty": True,
            "command": f"./run.sh --seed {seed}", "config_sha256": HASH, "device": "a CPU",
            "versions": {"torch": "2.11"}, "phases": {"finetune": phase()}, "budget": None,
            "sets": {"test": {"greedy": {**scored, "decode_wall_s": 1.0, "rtf": 0.1}}},
        }  # fmt: skip
        write_json(exp / "scores.json", record)
        if spent:
            curve = {"train": {"loss": 2.5}, "valid": {"loss": 3.25, "acc": 0.5}}
            epochs = {str(e): {"updates": 10, "curves": curve} for e in range(1, 4)}
            (exp / "finetune").mkdir()
            write_json(exp / "finetune/spent.json", epochs)
        return exp


def make(root: Path) -> MadeUp:
    """Make the whole recipe with two systems of two seeds, audio and an alignment."""
    made = MadeUp(root)
    made.add_audio()
    for group, seeds in HYPS.items():
        for seed, wrong in enumerate(seeds, 1):
            made.add(group, seed, wrong)
    return made
