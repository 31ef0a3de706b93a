# SPDX-License-Identifier: Apache-2.0
"""A small LibriSpeech in the layout of the corpus; the audio is noise."""

import tarfile
from pathlib import Path

import numpy as np
import soundfile

# part: {reader-chapter: texts of its utterances 0000, 0001, ...}
PARTS = {
    "train-clean-100": {"103-1240": ["CHAPTER ONE", "IT'S A WELL KNOWN FACT"], "26-495": ["YES"]},
    "train-clean-360": {"100-121669": ["HIDDEN TEXT", "MORE OF IT"]},
    "train-other-500": {"20-205": ["OTHER"]},
    "dev-clean": {"84-121123": ["GO ON"]},
    "dev-other": {"116-288045": ["AS I APPROACHED"]},
    "test-clean": {"61-70968": ["HE BEGAN", "A CONFUSED"]},
    "test-other": {"367-130732": ["LOBSTERS"]},
}
SECONDS = 0.5


def make_librispeech(parent: Path) -> Path:
    """Write ``parent/LibriSpeech`` and return it."""
    root = parent / "LibriSpeech"
    rng = np.random.default_rng(0)
    for part, chapters in PARTS.items():
        for name, texts in chapters.items():
            folder = root / part / name.replace("-", "/")
            folder.mkdir(parents=True)
            lines = []
            for i, text in enumerate(texts):
                utt = f"{name}-{i:04d}"
                noise = 0.1 * rng.standard_normal(int(SECONDS * 16000))
                soundfile.write(folder / f"{utt}.flac", noise, 16000)
                lines.append(f"{utt} {text}\n")
            (folder / f"{name}.trans.txt").write_text("".join(lines))
    for name in ("README.TXT", "SPEAKERS.TXT"):
        (root / name).write_text("; comment\n")
    return root


def make_archives(root: Path, out: Path) -> dict[str, Path]:
    """Pack each part as OpenSLR has it, ``LibriSpeech/<part>`` in a ``.tar.gz``."""
    out.mkdir()
    archives = {}
    for part in PARTS:
        archives[part] = out / f"{part}.tar.gz"
        with tarfile.open(archives[part], "w:gz") as tar:
            tar.add(root / part, f"LibriSpeech/{part}")
            tar.add(root / "README.TXT", "LibriSpeech/README.TXT")
    return archives
