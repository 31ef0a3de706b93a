# SPDX-License-Identifier: Apache-2.0
"""Stage 8: every utterance of the set has a text, also those that format could not use."""

from pathlib import Path

from espnet_ext.data.tables import read_table
from espnet_ext.espnet.decode import Result
from espnet_ext.recipe.steps import decode


def recognise(ctx, name):
    wavs = read_table(Path("dump") / name / "wav.scp")
    return Result(dict.fromkeys(wavs, "a word"), 1.0, 0.1)


def test_what_format_left_out_of_a_test_set_counts_as_empty(folder, monkeypatch):
    folder.write("dump/test/wav.scp", "a a.wav\nc c.wav\n")
    folder.write("dump/test/dropped.tsv", "utt\treason\tdetail\nb\tnot finite\t10 samples\n")
    method = f"{__name__}:recognise"
    folder.recipe(data={"test": ["test"]}, decode={"method": method, "sets": ["test"]},
                  finetune={"config": "conf/train.yaml"})  # fmt: skip
    folder.write("exp/base/finetune/valid.acc.ave.pth", "")
    ctx = folder.context("decode")
    said: list[str] = []
    monkeypatch.setattr(decode, "say", said.append)
    decode.run(ctx, None)
    texts = read_table(decode.out_dir(ctx, "test") / "text")
    assert texts == {"a": "a word", "b": "", "c": "a word"}
    assert "1 utterances without usable audio count as empty, e.g. b (not finite)" in said[0]
