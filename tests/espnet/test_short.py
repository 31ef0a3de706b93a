# SPDX-License-Identifier: Apache-2.0
"""40 ms of audio ends neither training nor validation; the utterance is named and left out."""

import logging
import shutil

import numpy as np
import pytest
import soundfile
import torch

from espnet_ext.errors import DataError
from espnet_ext.espnet import checkpoint, train
from espnet_ext.espnet.short import LongEnough, shortest_of

RATE = 16000


def with_short(tiny_data, folder, parts, samples=640):
    """Copy the data; each part gets an utterance of 40 ms, which is a batch of its own."""
    shutil.copytree(tiny_data, folder)
    for part in parts:
        utt, path = f"{part}_short", folder / part / "short.wav"
        soundfile.write(path, 0.1 * np.random.default_rng(1).standard_normal(samples), RATE)
        for file, value in (("wav.scp", path), ("text", "a"), ("speech_shape", samples),
                            ("text_shape", "1,6")):  # fmt: skip
            with open(folder / part / file, "a") as f:
                f.write(f"{utt} {value}\n")
    return folder


def run(tiny_argv, tiny_data, data, out, *more):
    moved = [x.replace(f"{tiny_data}/", f"{data}/") for x in tiny_argv]
    fixed = ["--batch_type", "unsorted", "--batch_size", "1", "--valid_batch_type", "unsorted"]
    train.run("asr", [*moved, *fixed, "--output_dir", str(out), "--max_epoch", "1", *more])


REPORT = ["--model_conf", "report_cer=true", "--model_conf", "report_wer=true"]


def test_validation_and_training_go_on_without_it(tiny_argv, tiny_data, tmp_path, caplog):
    data = with_short(tiny_data, tmp_path / "data", ("train", "valid"))
    with caplog.at_level(logging.INFO, "espnet_ext.progress"):
        run(tiny_argv, tiny_data, data, tmp_path / "exp", *REPORT)
    for part, utt in (("training", "train_short"), ("validation", "valid_short")):
        told = f"1 utterances of the {part} data are left out, too short for the encoder: {utt}"
        assert told in caplog.text


def test_it_does_not_change_what_validation_finds(tiny_argv, tiny_data, tmp_path):
    data = with_short(tiny_data, tmp_path / "data", ("valid",))
    found = []
    for name, folder in (("with", data), ("without", tiny_data)):
        run(tiny_argv, tiny_data, folder, tmp_path / name, *REPORT)
        states = checkpoint.load(tmp_path / name / checkpoint.CHECKPOINT)
        found.append((states["model"], states["reporter"]["stats"][1]["valid"]))
    (a, stats), (b, expected) = found
    assert all(torch.equal(v, b[k]) for k, v in a.items())
    assert stats["loss"] == expected["loss"] and stats["cer_ctc"] == expected["cer_ctc"]


def test_nothing_but_short_audio_is_an_error(tiny_argv, tiny_data, tmp_path):
    data = with_short(tiny_data, tmp_path / "data", ("valid",))
    for file in (data / "valid").glob("*"):
        if file.suffix != ".wav":
            file.write_text("".join(x for x in file.read_text().splitlines(True) if "short" in x))
    with pytest.raises(DataError, match=r"all validation data(.|\n)*valid_short"):
        run(tiny_argv, tiny_data, data, tmp_path / "exp")


def batch(lengths, prefix=""):
    n = len(lengths)
    return {f"{prefix}speech": torch.arange(4.0 * n).view(n, 4),
            f"{prefix}speech_lengths": torch.tensor(lengths),
            f"{prefix}text": torch.arange(n)}  # fmt: skip


def test_rows_of_the_short_are_left_out_of_their_stream_alone():
    both = {**batch([4, 1, 3]), **batch([1, 1, 4, 4], "u_"), "u_utt_id": list("wxyz"),
            "step": {"kind": "joint"}}  # fmt: skip
    [(utts, found)] = LongEnough([(["a", "b", "c"], both)], 2, "training", set())
    assert utts == ["a", "c"] and found["u_utt_id"] == ["y", "z"]
    assert found["speech_lengths"].tolist() == [4, 3] and found["text"].tolist() == [0, 2]
    assert found["u_speech_lengths"].tolist() == [4, 4] and found["u_text"].tolist() == [2, 3]
    assert found["u_speech"].tolist() == both["u_speech"][2:].tolist()
    assert found["step"] == {"kind": "joint"}


def test_a_step_of_the_second_stream_alone():
    [(utts, found)] = LongEnough([(["w", "x"], batch([1, 4], "u_"))], 2, "training", set())
    assert utts == ["x"] and found["u_text"].tolist() == [1]


def test_fine_batches_are_handed_on_as_they_are(caplog):
    batches = [(["a"], batch([4])), (["b"], {"text": torch.ones(1)})]
    enough = LongEnough(batches, 2, "training", told := set())
    assert len(enough) == 2 and told == set() and caplog.text == ""
    assert all(found is given for (_, found), (_, given) in zip(enough, batches, strict=True))


def test_an_utterance_is_told_of_once(caplog):
    told: set[str] = set()
    for _ in range(2):
        list(LongEnough([(["a", "b"], batch([4, 1]))], 2, "training", told))
    assert caplog.text.count("too short") == 1 and told == {"b"}


def test_a_model_without_audio_takes_any_length():
    assert shortest_of(torch.nn.Linear(1, 1)) == 0
