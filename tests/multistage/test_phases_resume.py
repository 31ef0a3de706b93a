# SPDX-License-Identifier: Apache-2.0
"""Stages 2 and 3 killed by -9 go on to the same bits; the frozen encoder never moves."""

import json
import signal

import pytest
from children import assert_same_end, equal, in_child, killed_in

from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet_ext.multistage.recognition import task as _recognition  # noqa: E402, F401
from espnet_ext.multistage.translation import task as _translation  # noqa: E402, F401

TRANSLATION = "espnet_ext.multistage.translation.task:TranslationTask"
RECOGNITION = "espnet_ext.multistage.recognition.task:RecognitionTask"
CONFORMER = [
    "--encoder", "conformer", "--encoder_conf", "pos_enc_layer_type=abs_pos",
    "--encoder_conf", "selfattention_layer_type=selfattn", "--encoder_conf", "cnn_module_kernel=7",
    "--encoder_conf", "dropout_rate=0.3",
]  # fmt: skip


def _train(argv, out, task, *more):
    train.run(task, [*argv, *CONFORMER, *more, "--output_dir", str(out)])


def _killed_and_whole(argv, ours, whole, task, *more):
    """Train twice, once killed in the first epoch and again in the second of the next start."""
    assert in_child(_train, argv, whole, task, *more) == 0
    for epoch in (1, 2):
        assert in_child(killed_in, epoch, _train, argv, ours, task, *more) == -signal.SIGKILL
        assert not (ours / "phase.json").exists()
    assert in_child(_train, argv, ours, task, *more) == 0
    assert_same_end(ours, whole)
    kept = [json.loads((out / "phase.json").read_text()) for out in (ours, whole)]
    assert kept[0]["updates"] == kept[1]["updates"] > 0
    assert kept[0]["encoder_tensors_taken"] == kept[1]["encoder_tensors_taken"] > 0


def _encoder(file):
    return {k: v for k, v in checkpoint.load(file).items() if k.startswith("encoder.")}


@pytest.fixture(scope="module")
def start(tiny_argv, tmp_path_factory):
    """An encoder that both stages begin with, and how they are told."""
    out = tmp_path_factory.mktemp("start") / "pretrain"
    assert in_child(_train, tiny_argv, out, "asr", "--max_epoch", "1") == 0
    return out / "1epoch.pth", ("--init_param", f"{out}/1epoch.pth:encoder:encoder")


def test_translation_killed_and_resumed(tiny_argv, start, tmp_path):
    pairs = zip(tiny_argv[::2], tiny_argv[1::2], strict=True)
    argv = [x for p in pairs if not p[1].startswith(("ctc_weight", "report")) for x in p]
    ours, whole = tmp_path / "ours", tmp_path / "whole"
    _killed_and_whole(argv, ours, whole, TRANSLATION, *start[1])
    assert not equal(_encoder(ours / "3epoch.pth"), _encoder(start[0]))


def test_recognition_on_a_frozen_encoder_killed_and_resumed(tiny_argv, start, tmp_path):
    ours, whole = tmp_path / "ours", tmp_path / "whole"
    more = ("--multistage", "freeze=encoder", *start[1])
    _killed_and_whole(tiny_argv, ours, whole, RECOGNITION, *more)
    given = _encoder(start[0])
    assert any("running_mean" in k for k in given)
    for epoch in (2, 3):  # also after the resume
        assert equal(_encoder(ours / f"{epoch}epoch.pth"), given)
    ends = [checkpoint.load(ours / f"{epoch}epoch.pth") for epoch in (2, 3)]
    assert not equal(ends[0]["ctc.ctc_lo.weight"], ends[1]["ctc.ctc_lo.weight"])
