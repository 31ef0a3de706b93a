# SPDX-License-Identifier: Apache-2.0
"""Audio that is damaged after formatting: statistics and training name utterance and file."""

import shutil

import pytest

from espnet_ext.errors import DataError
from espnet_ext.espnet import train


@pytest.fixture
def damaged(tiny_data, tmp_path):
    """A copy of the data in which one training file is FLAC with a hole in the middle."""
    import soundfile

    shutil.copytree(tiny_data, tmp_path, dirs_exist_ok=True)
    scp = tmp_path / "train/wav.scp"
    scp.write_text(scp.read_text().replace(str(tiny_data), str(tmp_path)).replace(
        "train/train05.wav", "train/train05.flac"))  # fmt: skip
    wave, rate = soundfile.read(tmp_path / "train/train05.wav")
    path = tmp_path / "train/train05.flac"
    soundfile.write(path, wave, rate)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_training_names_the_utterance_and_the_file(damaged, tiny_data, tiny_argv, workers):
    argv = [x.replace(str(tiny_data), str(damaged)) for x in tiny_argv]
    argv += ["--output_dir", str(damaged / "exp"), "--max_epoch", "1", "--num_workers", workers]
    with pytest.raises(DataError, match=r"utterance 'train05': its speech cannot be read") as e:
        train.run("asr", argv)
    assert f"{damaged}/train/train05.flac (listed in {damaged}/train/wav.scp)" in str(e.value)
    assert "Traceback" not in str(e.value) and e.value.exit_code == 3


def test_statistics_name_them_too(damaged, tiny_data, tiny_argv):
    argv = [x.replace(str(tiny_data), str(damaged)) for x in tiny_argv]
    argv = argv[: argv.index("--train_data_path_and_name_and_type")]
    for part in ("train", "valid"):
        for file, name, kind in (("wav.scp", "speech", "sound"), ("text", "text", "text")):
            argv += [
                f"--{part}_data_path_and_name_and_type",
                f"{damaged}/{part}/{file},{name},{kind}",
            ]
    argv += ["--output_dir", str(damaged / "stats"), "--collect_stats", "true"]
    with pytest.raises(DataError, match="utterance 'train05': its speech cannot be read") as e:
        train.run("asr", argv)
    assert "train05.flac" in e.value.where


def test_an_error_that_is_not_of_the_data_stays_what_it_is(tiny_data, tiny_argv, tmp_path):
    argv = [*tiny_argv, "--output_dir", str(tmp_path), "--max_epoch", "1"]
    (tmp_path / "tokens.txt").write_text("<blank>\n<unk>\na\n<sos/eos>\n")
    argv += ["--token_list", str(tmp_path / "tokens.txt"), "--optim_conf", "lr=ten"]
    with pytest.raises(Exception) as e:
        train.run("asr", argv)
    assert not isinstance(e.value, DataError)
