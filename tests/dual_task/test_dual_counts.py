# SPDX-License-Identifier: Apache-2.0
"""The report of parameters: the published numbers from the classes that are trained."""

import json

import pytest
import torch

from espnet_ext.dual_task import counts
from espnet_ext.errors import DataError, UsageError


def test_the_published_numbers():
    counted = counts.report()
    totals = {name: sum(parts.values()) for name, parts in counted.items()}
    assert totals["specialise"] == 316_226_945
    assert counts.millions(totals["dual"]) == "385.63"
    assert counts.millions(totals["slu"]) == "387.80"
    assert f"{(totals['specialise'] + totals['slu']) / 1e6:.1f}" == "704.0"
    encoder = {k: v for k, v in counted["dual"].items() if k.startswith("encoder")}
    assert sum(encoder.values()) == 315_438_720
    assert counted["dual"]["Bi-LSTM"] == 67_158_016
    text = counts.table(counted)
    assert "| **all** | 316,226,945 | 385,627,662 | 387,799,637 |" in text
    assert "sequential, both steps: 704.03 M optimised; dual: 385.63 M, 54.8 % of it" in text


def test_the_encoder_that_is_trained_has_as_many_but_for_the_mask_vector():
    from torchaudio.models import wav2vec2_xlsr_300m

    with torch.device("meta"):
        trained = wav2vec2_xlsr_300m()
    assert counts.count(trained) == counts.count(counts.build_encoder(None)[0]) - 1024


@pytest.fixture
def folder(tmp_path):
    small = {"model_type": "hubert", "hidden_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "intermediate_size": 8, "conv_dim": [4, 4],
             "conv_kernel": [3, 3], "conv_stride": [2, 2], "num_feat_extract_layers": 2,
             "num_conv_pos_embedding_groups": 2, "num_conv_pos_embeddings": 4}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(small))
    return tmp_path


def test_your_own_encoder_and_sizes(folder, capsys):
    argv = ["--encoder", str(folder), "--json", "--symbols", "10", "--blstm-layers", "0"]
    counts.main([*argv, "--linear-blocks", "1", "--width", "5", "--embedding-dim", "6"])
    counted = json.loads(capsys.readouterr().out)
    for system in ("dual", "slu"):
        heads = {k: v for k, v in counted[system].items() if not k.startswith("encoder")}
        assert heads == {
            "pooling": 17, "projection": 17 * 6, "Bi-LSTM": 0, "linear blocks": 17 * 5,
            "output layer": 60,
        }  # fmt: skip
    assert "output layer" not in counted["specialise"]
    assert counted["dual"]["encoder: convolutions"] < 200


def test_what_cannot_be_counted(folder, tmp_path):
    with pytest.raises(DataError, match=r"no config\.json"):
        counts.main(["--encoder", str(folder / "none")])
    for text, message in (('{"model_type": "bert"}', "no wav2vec2-type"), ("{", "cannot read")):
        (folder / "config.json").write_text(text)
        with pytest.raises(DataError, match=message):
            counts.main(["--encoder", str(folder)])
    with pytest.raises(UsageError, match="--symbols"):
        counts.main(["--symbols", "0"])
