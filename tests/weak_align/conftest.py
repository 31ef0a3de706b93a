# SPDX-License-Identifier: Apache-2.0
"""A tiny alignment for the tiny data, and options of a training with it."""

import json

import numpy as np
import pytest
from omniio import kaldi

CLASSES = 7


def _write_stream(path, rows):
    """Write int vectors as ``path`` (.scp) with an ark of the same name."""
    ark = path.with_suffix(".ark")
    with kaldi.WriteHelper(f"ark,scp:{ark},{path}") as write:
        for utt, labels in rows:
            write[utt] = np.asarray(labels, np.int32)


@pytest.fixture(scope="session")
def write_stream():
    return _write_stream


@pytest.fixture(scope="session")
def tiny_alignment(tiny_data, tmp_path_factory):
    """Directories train and valid: one word of four letters, four phones, silence at both ends."""
    root = tmp_path_factory.mktemp("ali")
    rng = np.random.default_rng(1)
    for part in ("train", "valid"):
        folder = root / part
        folder.mkdir()
        shapes = [x.split() for x in (tiny_data / part / "speech_shape").read_text().splitlines()]
        streams = {"targets": [], "shuffled": [], "target_words": [], "target_phones": []}
        for i, (utt, samples) in enumerate(shapes):
            frames = int(samples) // 160
            phones = np.clip(np.arange(frames) * 6 // frames, 0, 5) % 5
            labels = np.where(phones == 0, 0, rng.integers(1, CLASSES, frames))
            words = np.where(phones == 0, -1, 0)
            if part == "train" and i == 1:  # could not be aligned
                labels = words = phones = np.full(frames, -1)
            streams["targets"].append((utt, labels))
            streams["target_words"].append((utt, words))
            streams["target_phones"].append((utt, phones))
        rows = streams["targets"]
        streams["shuffled"] = [(u, rows[i - 1][1]) for i, (u, _) in enumerate(rows)]
        for name, rows in streams.items():
            _write_stream(folder / f"{name}.scp", rows)
        (folder / "header.json").write_text(json.dumps({
            "num_classes": CLASSES, "frame_shift_s": 0.01, "first_frame_centre_s": 0.005,
            "silence_ids": [0], "phones": ["SIL", "a", "b", "c", "d"], "source": "tiny",
            "source_train_data": "tiny/train",
        }))  # fmt: skip
    return root


@pytest.fixture(scope="session")
def align_argv(tiny_argv, tiny_alignment):
    """Options of a training with streams of labels, and a Conformer of four blocks."""
    argv = [*tiny_argv, "--specaug_conf", "apply_time_warp=false"]
    argv += ["--encoder", "conformer", "--encoder_conf", "num_blocks=4"]
    for part in ("train", "valid"):
        for file, name in (
            ("targets", "align"), ("target_words", "align_word"), ("target_phones", "align_phone"),
        ):  # fmt: skip
            path = f"{tiny_alignment}/{part}/{file}.scp,{name},kaldi_ark"
            argv += [f"--{part}_data_path_and_name_and_type", path]
    return argv
