# SPDX-License-Identifier: Apache-2.0
"""Clips of noise with pictures as arrays; options of a pre-training that takes seconds."""

import numpy as np
import pytest
import soundfile


def _write_set(folder, count, rng):
    folder.mkdir()
    tables = {"wav.scp": [], "video.scp": [], "speech_shape": []}
    for i in range(count):
        utt, n = f"{folder.name}{i:02d}", int(rng.integers(9000, 14000))
        soundfile.write(folder / f"{utt}.wav", 0.1 * rng.standard_normal(n), 16000)
        np.save(folder / f"{utt}.npy", rng.integers(0, 256, (9, 12, 14, 3), dtype=np.uint8))
        tables["wav.scp"].append((utt, folder / f"{utt}.wav"))
        tables["video.scp"].append((utt, folder / f"{utt}.npy"))
        tables["speech_shape"].append((utt, n))
    for name, rows in tables.items():
        (folder / name).write_text("".join(f"{u} {v}\n" for u, v in rows))


@pytest.fixture(scope="session")
def clip_data(tmp_path_factory):
    """Folders train (8) and valid (4)."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name, count in (("train", 8), ("valid", 4)):
        _write_set(root / name, count, rng)
    return root


@pytest.fixture(scope="session")
def pretrain_argv(clip_data):
    """Options of a pre-training with dropout, random masks, crops and starts."""
    conf = ["frontend_conf n_fft=512", "frontend_conf hop_length=160", "frontend_conf n_mels=20"]
    conf += ["normalize utterance_mvn", "encoder conformer", "encoder_conf output_size=16"]
    conf += ["encoder_conf num_blocks=2", "encoder_conf attention_heads=2"]
    conf += ["encoder_conf linear_units=16", "encoder_conf input_layer=conv2d"]
    conf += ["encoder_conf cnn_module_kernel=3", "encoder_conf pos_enc_layer_type=abs_pos"]
    conf += ["encoder_conf selfattention_layer_type=selfattn", "encoder_conf rel_pos_type=latest"]
    conf += ["optim adam", "optim_conf lr=0.003", "keep_nbest_models 1", "batch_type unsorted"]
    conf += ["batch_size 4", "max_epoch 3", "num_att_plot 0", "seed 3", "use_matplotlib false"]
    conf += ["use_tensorboard false", "num_workers 0", "ngpu 0"]
    conf += ["multistage frames=4", "multistage stride=2", "multistage size=8"]
    conf += ["multistage patch=[2,4,4]", "multistage width=8", "multistage blocks=1"]
    conf += ["multistage heads=2", "multistage decoder_width=8", "multistage decoder_blocks=1"]
    conf += ["multistage decoder_heads=2", "multistage video_start=random"]
    argv = [x for pair in conf for x in ("--" + pair).split(" ")]
    argv += ["--best_model_criterion", "valid,loss,min", "--resume", "true"]
    for part in ("train", "valid"):
        folder = clip_data / part
        argv += [f"--{part}_data_path_and_name_and_type", f"{folder}/wav.scp,speech,sound"]
        argv += [f"--{part}_data_path_and_name_and_type", f"{folder}/video.scp,video,text"]
        argv += [f"--{part}_shape_file", f"{folder}/speech_shape"]
    return argv
