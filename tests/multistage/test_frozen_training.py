# SPDX-License-Identifier: Apache-2.0
"""A training on a frozen encoder whose outputs are kept is the training without that."""

import logging

import pytest
import torch

from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet2.asr.espnet_model import ESPnetASRModel  # noqa: E402

TASK = "espnet_ext.multistage.recognition.task:RecognitionTask"
CONFORMER = [
    "--encoder", "conformer", "--encoder_conf", "pos_enc_layer_type=abs_pos",
    "--encoder_conf", "selfattention_layer_type=selfattn", "--encoder_conf", "cnn_module_kernel=7",
]  # fmt: skip


@pytest.fixture
def without_specaug(tiny_argv):
    pairs = zip(tiny_argv[::2], tiny_argv[1::2], strict=True)
    return [x for p in pairs if not p[0].startswith("--specaug") for x in p]


@pytest.fixture
def encoded(monkeypatch):
    """Count the batches that go through the encoder."""
    calls, stock = [], ESPnetASRModel.encode

    def encode(self, speech, lengths):
        if self._ids:  # else the shortest audio that the encoder takes is looked for
            calls.append(self._ids)
        return stock(self, speech, lengths)

    monkeypatch.setattr(ESPnetASRModel, "encode", encode)
    return calls


def run(argv, out, epochs, *more):
    own = [*CONFORMER, "--max_epoch", str(epochs), *more, "--output_dir", str(out)]
    train.run(TASK, [*argv, *own])
    return checkpoint.load(out / f"{epochs}epoch.pth")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(x, b[k]) for k, x in a.items())


def test_the_same_training_and_each_batch_encoded_once(without_specaug, encoded, tmp_path, caplog):
    plain = run(without_specaug, tmp_path / "plain", 3, "--multistage", "cache_mb=0")
    every = len(encoded)
    encoded.clear()
    with caplog.at_level(logging.INFO, logger="espnet_ext.progress"):
        kept = run(without_specaug, tmp_path / "kept", 3)
    assert equal(plain, kept), "weights are bit-equal"
    assert len(encoded) == every // 3 > 0
    assert "the frozen encoder is computed once" in caplog.text
    run(without_specaug, tmp_path / "resumed", 1)
    assert equal(run(without_specaug, tmp_path / "resumed", 3), kept), "a resumed one, too"


def test_specaug_forbids_it_and_the_training_says_so(tiny_argv, encoded, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="espnet_ext.progress"):
        run(tiny_argv, tmp_path / "augmented", 1)
    assert "computed in each epoch, as specaug changes its input" in caplog.text and encoded
