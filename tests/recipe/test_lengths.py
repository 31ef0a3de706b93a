# SPDX-License-Identifier: Apache-2.0
"""CTC feasibility by the exact frames of the training's own encoder."""

import pytest

from espnet_ext.errors import DataError
from espnet_ext.recipe.steps import lengths

FRONTEND = {"fs": "16k", "n_fft": 512, "hop_length": 160}
CONV2D = {"encoder": "conformer", "frontend_conf": FRONTEND}
CONV2D8 = {**CONV2D, "encoder_conf": {"input_layer": "conv2d8"}}
TEXT = {"a1": "go to rome", "a2": "gg", "a3": "add ten", "a4": "ab"}
# a2: 15 features, 3 encoder frames with conv2d and 1 with conv2d8.
SAMPLES = {"a1": 48000, "a2": 2400, "a3": 32000, "a4": 2400}


@pytest.fixture
def ctx(folder):
    folder.recipe(tokens={"type": "char"}, format={}, finetune={"config": "conf/t.yaml"})
    folder.write("dump/train/text", "".join(f"{u} {t}\n" for u, t in TEXT.items()))
    folder.write("stats/speech_shape", "".join(f"{u} {n}\n" for u, n in SAMPLES.items()))
    folder.write("stats/text_shape", "".join(f"{u} {len(t)},9\n" for u, t in TEXT.items()))
    return folder.context("finetune")


def left(folder, ctx, config):
    stats, text = folder.path / "stats", folder.path / "dump/train/text"
    lengths.leave_out(ctx, stats, text, lengths.encoder_of(ctx, config))
    utts = [
        [line.split()[0] for line in (stats / f"{name}_shape").read_text().splitlines()]
        for name in ("speech", "text")
    ]
    assert utts[0] == utts[1]
    return utts[0], (stats / "infeasible.tsv").read_text()


def test_what_has_no_path_is_listed_and_left_out(folder, ctx, capfd):
    # "gg" needs three frames: the blank between equal tokens counts.
    folder.write("stats/speech_shape", "a1 48000\na2 2000\na3 32000\na4 2000\n")
    utts, listed = left(folder, ctx, CONV2D)
    assert (utts, listed) == (["a1", "a3", "a4"], "a2\t2\t3\n")
    assert "1 of 4 utterances" in capfd.readouterr().out


def test_the_encoder_of_the_training_counts(folder, ctx):
    assert left(folder, ctx, CONV2D) == (list(TEXT), "")
    utts, listed = left(folder, ctx, CONV2D8)
    assert (utts, listed) == (["a1", "a3"], "a2\t1\t3\na4\t1\t2\n")


def test_most_of_a_set_without_a_path_stops(folder, ctx):
    folder.write("stats/speech_shape", "a1 4000\na2 2400\na3 4000\na4 2400\n")
    with pytest.raises(DataError, match="4 of 4 training utterances have fewer encoder frames"):
        left(folder, ctx, CONV2D8)


def test_statistics_of_different_sets(folder, ctx):
    folder.write("stats/text_shape", "b1 3,9\na2 2,9\na3 3,9\na4 2,9\n")
    with pytest.raises(DataError, match="of different sets"):
        left(folder, ctx, CONV2D)


def test_where_ctc_plays_no_part(folder, ctx):
    assert lengths.encoder_of(ctx, {**CONV2D, "model_conf": {"ctc_weight": 0.0}}) is None
    usual = lengths.encoder_of(ctx, {"encoder": "whisper"})
    assert (usual.stride, usual.shift_s) == (4, 0.04)
    ctx.recipe.finetune.streams[0].type = "npy"
    assert lengths.encoder_of(ctx, CONV2D) is None


def test_what_the_encoder_refuses_is_named_in_each_set(folder, ctx, capfd):
    # 40 ms are 5 feature frames: conv2d needs 7, conv2d8 15 (0.14 s), both halves of a window.
    folder.write("dump/train/utt2num_samples", "a1 48000\na2 1600\n")
    folder.write("dump/dev/utt2num_samples", "b1 640\nb2 16000\nb3 200\n")
    sets, stats = {"train": "train", "valid": "dev"}, folder.path / "stats"
    argv = lengths.leave_out_short(ctx, CONV2D, sets, stats)
    assert argv == ["--valid_shape_file", str(stats / "valid_keys")]
    assert (stats / "valid_keys").read_text() == "b2\n"
    assert "2 of 3 utterances of dev are too short" in (said := capfd.readouterr().out)
    assert "b1 (0.040 s), b3 (0.013 s)" in said and "train" not in said.split("dev")[0]
    argv = lengths.leave_out_short(ctx, CONV2D8, sets, stats)
    assert "--train_shape_file" in argv and (stats / "train_keys").read_text() == "a1\n"
    folder.write("dump/dev/utt2num_samples", "b1 640\n")
    with pytest.raises(DataError, match="all 1 utterances of dev are too short"):
        lengths.leave_out_short(ctx, CONV2D, sets, stats)
