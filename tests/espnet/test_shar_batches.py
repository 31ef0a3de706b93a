# SPDX-License-Identifier: Apache-2.0
"""A training on Shar shards is the training on files: equal batches, so an equal model."""

from pathlib import Path

import numpy as np
import pytest
import torch
from shards import write_shards

from espnet_ext.data.lhotse.from_cuts import from_cuts
from espnet_ext.data.tables import read_table
from espnet_ext.data.tar_member import parse_member
from espnet_ext.errors import DataError
from espnet_ext.espnet import train


@pytest.fixture(scope="module")
def sharded(tiny_data, tmp_path_factory):
    """Folders train and valid whose audio is in shards."""
    root = tmp_path_factory.mktemp("sharded")
    for name in ("train", "valid"):
        from_cuts(write_shards(tiny_data / name, root / "shards" / name), root / name)
    return root


def argv_of(tiny_argv, tiny_data, sharded):
    swap = {f"{tiny_data}/{n}/wav.scp,speech,sound": f"{sharded}/{n}/wav.scp,speech,stream:shar"
            for n in ("train", "valid")}  # fmt: skip
    return [swap.get(x, x) for x in tiny_argv]


def test_the_model_of_shards_is_that_of_files(tiny_argv, tiny_data, sharded, tmp_path):
    common = ["--max_epoch", "1", "--num_workers", "1"]
    models = []
    for name, argv in (("f", tiny_argv), ("s", argv_of(tiny_argv, tiny_data, sharded))):
        assert any("stream:shar" in x for x in argv) == (name == "s")
        train.run("asr", [*argv, *common, "--output_dir", str(tmp_path / name)])
        models.append(torch.load(tmp_path / name / "1epoch.pth", weights_only=True))
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(models[0][k], models[1][k]) for k in models[0])


def test_statistics_of_shards_are_those_of_files(tiny_argv, tiny_data, sharded, tmp_path):
    made = []
    for name, argv in (("f", tiny_argv), ("s", argv_of(tiny_argv, tiny_data, sharded))):
        at = [i for i, x in enumerate(argv) if x.endswith("_shape_file")]
        argv = [x for i, x in enumerate(argv) if i not in at and i - 1 not in at]
        argv += ["--collect_stats", "true", "--output_dir", str(tmp_path / name)]
        train.run("asr", argv)
        stats = np.load(tmp_path / name / "train/feats_stats.npz")
        made.append([(tmp_path / name / "train/speech_shape").read_text(), stats["sum"].tolist()])
    assert made[0] == made[1]


def test_a_damaged_shard_is_named_with_the_utterance(tiny_argv, tiny_data, sharded, tmp_path):
    member = parse_member(read_table(sharded / "train/wav.scp")["train07"])
    shard = Path(member.path)
    whole = shard.read_bytes()
    try:
        argv = [*argv_of(tiny_argv, tiny_data, sharded), "--max_epoch", "1"]
        shard.write_bytes(whole[: member.offset + 100])
        with pytest.raises(DataError, match=r"utterance 'train0[789]': its speech cannot be") as e:
            train.run("asr", [*argv, "--output_dir", str(tmp_path)])
    finally:
        shard.write_bytes(whole)
    assert "cut off" in e.value.what and f"{shard}:" in e.value.where
