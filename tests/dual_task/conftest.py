# SPDX-License-Identifier: Apache-2.0
"""A tagged corpus of noise and options so small that a training takes a second."""

import json

import numpy as np
import pytest
import soundfile

TAGGED = ["<go> > <city> abc > c", "<stop> > ab", "a <city> b >", "<go> > <city> ba > <day> c >"]
PLAIN = ["abc c", "ab", "a b", "ba c"]
TOKENS = ["<blank>", "<unk>", "<city>", "<day>", "<go>", "<stop>", ">", "<space>", "a", "b", "c",
          "<sos/eos>"]  # fmt: skip
WIDTH, PHONES = 6, ["sil", "a", "b", "c"]


def _write_store(folder):
    """Write unit vectors of the plain texts as the store's files."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    vectors = rng.standard_normal((len(PLAIN), WIDTH)).astype(np.float32)
    np.save(folder / "vectors.npy", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    lines = "".join(json.dumps(t) + "\n" for t in PLAIN)
    (folder / "texts.jsonl").write_text(lines)
    (folder / "about.json").write_text(json.dumps({
        "fingerprint": "made up", "pooling": "mean", "width": WIDTH, "texts": len(PLAIN),
        "source": "test",
    }))  # fmt: skip


def _write_set(folder, count, rng):
    folder.mkdir()
    tables = {name: [] for name in ("wav.scp", "text", "plain", "phones", "utt2lang",
                                    "speech_shape", "text_shape")}  # fmt: skip
    for i in range(count):
        utt, n, kind = f"{folder.name}{i:02d}", int(rng.integers(12000, 18000)), i % len(PLAIN)
        soundfile.write(folder / f"{utt}.wav", 0.1 * rng.standard_normal(n), 16000)
        tables["wav.scp"].append((utt, folder / f"{utt}.wav"))
        tables["text"].append((utt, TAGGED[kind]))
        tables["plain"].append((utt, PLAIN[kind]))
        labels = np.arange(n // 160) * 4 // (n // 160)
        tables["phones"].append((utt, " ".join(map(str, labels))))
        tables["utt2lang"].append((utt, "fr" if i % 4 else "it"))
        tables["speech_shape"].append((utt, n))
        tables["text_shape"].append((utt, "9,12"))
    for name, rows in tables.items():
        (folder / name).write_text("".join(f"{u} {v}\n" for u, v in rows))


@pytest.fixture(scope="session")
def dual_data(tmp_path_factory):
    """Folders train (12) and valid (4), token list, phones and sentence vectors."""
    root = tmp_path_factory.mktemp("dual")
    rng = np.random.default_rng(0)
    for name, count in (("train", 12), ("valid", 4)):
        _write_set(root / name, count, rng)
    (root / "tokens.txt").write_text("".join(f"{t}\n" for t in TOKENS))
    (root / "symbols.txt").write_text("".join(f"{t}\n" for t in TOKENS[2:7]))
    (root / "phones.txt").write_text("".join(f"{p}\n" for p in PHONES))
    _write_store(root / "sentences")
    return root


@pytest.fixture(scope="session")
def dual_argv(dual_data):
    """Options of a training of both losses; dropout and masks on, so that seeds matter."""
    conf = ["frontend_conf n_fft=512", "frontend_conf hop_length=160", "frontend_conf n_mels=20"]
    conf += ["specaug specaug", "specaug_conf apply_time_warp=false"]
    conf += ["specaug_conf apply_time_mask=false", "normalize utterance_mvn"]
    conf += ["encoder conformer", "encoder_conf output_size=16", "encoder_conf num_blocks=2"]
    conf += ["encoder_conf attention_heads=2", "encoder_conf linear_units=16"]
    conf += ["encoder_conf input_layer=conv2d2", "encoder_conf cnn_module_kernel=3"]
    conf += ["optim_conf lr=0.003", "scheduler newbob", "scheduler_conf factor=0.9"]
    conf += ["scheduler2 newbob", "scheduler2_conf factor=0.8"]
    conf += ["token_type char", f"token_list {dual_data}/tokens.txt", "keep_nbest_models 1"]
    conf += [f"non_linguistic_symbols {dual_data}/symbols.txt"]
    conf += ["batch_type sorted", "batch_size 4", "max_epoch 3", "num_att_plot 0", "seed 3"]
    conf += ["use_matplotlib false", "use_tensorboard false", "num_workers 0", "ngpu 0"]
    conf += [
        f"dual_task sentences={dual_data}/sentences",
        f"dual_task phones={dual_data}/phones.txt",
    ]
    conf += ["dual_task samu_scale=1", "dual_task samu_reduce=mean", "dual_task blstm_layers=1"]
    argv = [x for pair in conf for x in ("--" + pair).split(" ")]
    argv += ["--best_model_criterion", "valid,loss,min", "--resume", "true"]
    for part in ("train", "valid"):
        for file, name, kind in (
            ("wav.scp", "speech", "sound"), ("text", "text", "text"), ("plain", "sentence", "text"),
            ("phones", "phones", "text_int"),
        ):  # fmt: skip
            path = f"{dual_data}/{part}/{file}"
            argv += [f"--{part}_data_path_and_name_and_type", f"{path},{name},{kind}"]
            if name in ("speech", "text"):
                argv += [f"--{part}_shape_file", f"{dual_data}/{part}/{name}_shape"]
    return argv


@pytest.fixture(scope="session")
def dual_recipe(dual_data, dual_argv, tmp_path_factory):
    """The folder of a recipe with the experiments base (Bi-LSTM) and stock (no SLU layers)."""
    from dual_recipe import make

    return make(tmp_path_factory.mktemp("recipe") / "egs2/toy/dual_task1", dual_data, dual_argv)
