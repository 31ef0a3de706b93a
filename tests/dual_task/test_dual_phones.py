# SPDX-License-Identifier: Apache-2.0
"""Phones of an alignment: the list is that of the header, labels lie where the frames are."""

import argparse
import json

import numpy as np
import pytest
import torch

from espnet_ext.align.formats.directory import Header
from espnet_ext.align.formats.targets import at_training_frames
from espnet_ext.dual_task import unread_streams
from espnet_ext.dual_task.facts import gather
from espnet_ext.dual_task.phone_loss import IGNORED, at_centres, phone_loss
from espnet_ext.errors import DataError, UsageError

SECTION = {"pretrain": "phones", "phones": ""}
PHONES = ["SIL", "a", "b"]


def options(folder, **section):
    stream = (f"{folder}/target_phones.scp", "phones", "kaldi_ark")
    return argparse.Namespace(
        dual_task={**SECTION, **section}, train_data_path_and_name_and_type=[stream],
        encoder="conformer", encoder_conf={"input_layer": "conv2d"},
        frontend="default", frontend_conf={"fs": 16000, "hop_length": 160},
    )  # fmt: skip


def test_the_list_of_phones_is_that_of_the_alignment(tmp_path):
    with pytest.raises(DataError, match=r"no header of an alignment(.|\n)*--stage align"):
        gather(options(tmp_path), "pretrain")
    assert len(gather(options(tmp_path), "pretrain", stand_in=True)[1].phones) > 1
    header = Header("phone", 3, phones=PHONES).to_json()
    (tmp_path / "header.json").write_text(json.dumps(header))
    for section in ({}, {"phones": str(tmp_path / "header.json")}):
        assert gather(options(tmp_path, **section), "pretrain")[1].phones == tuple(PHONES)
    args = options(tmp_path)
    args.train_data_path_and_name_and_type = []
    with pytest.raises(UsageError, match=r"no labels(.|\n)*align/target_phones.scp"):
        gather(args, "pretrain")


def test_labels_of_the_aligner_are_at_the_frames_of_the_encoder():
    """A sound that begins at 0.5 s: whose centre is before it has another label."""
    frames, shift_s, first_s = 33, 0.03, 0.0225
    truth = np.arange(100) * 0.01 + 0.005 >= 0.5
    header = Header("phone", 2, phones=("SIL", "a"))
    labels = torch.from_numpy(at_training_frames(truth.astype(np.int32), header, 1.0, 100))
    found = at_centres(labels[None], torch.tensor([100]), torch.tensor([frames]), shift_s, first_s)
    centres = first_s + shift_s * np.arange(frames)
    assert found[0].tolist() == (centres >= 0.5).astype(int).tolist()


def test_an_utterance_without_labels_teaches_nothing():
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 3, requires_grad=True)
    targets = torch.tensor([[0, 1, 2, IGNORED, IGNORED], [IGNORED] * 5])
    loss, _ = phone_loss(logits, targets)
    loss.backward()
    assert logits.grad[1].abs().max() == 0 < logits.grad[0, :3].abs().min()
    alone, _ = phone_loss(logits[:1, :3], targets[:1, :3])
    assert loss.item() == pytest.approx(alone.item())
    unlabelled = torch.full((2, 30), -1, dtype=torch.int32)  # as the aligner writes it
    frames = at_centres(unlabelled, torch.tensor([30, 30]), torch.tensor([10, 9]), 0.03, 0.0225)
    assert (frames == IGNORED).all()


def test_labels_are_read_only_where_phones_are_learnt():
    def unread(task, **section):
        return unread_streams(f"espnet_ext.dual_task.task:{task}", {"dual_task": section})

    assert unread("PretrainTask") == unread("PretrainTask", pretrain="phones") == ()
    for task, section in (("PretrainTask", {"pretrain": "samu"}), ("DualTask", {})):
        assert unread(task, **section) == ("phones",)
