# SPDX-License-Identifier: Apache-2.0
"""Fixtures that several folders of tests use."""

import gc
import importlib
import logging
import os
import random
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported anywhere

import hypothesis
import numpy as np
import pytest
import soundfile

# The same examples in every run, and no time limit: neither chance nor a busy machine may fail a
# test. HYPOTHESIS_PROFILE=explore looks for new examples.
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_finish():
    """Keep what the test files imported out of garbage collection.

    ESPnet and our trainer collect several times a training, 0.3 s each with a million objects.
    """
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Put files that run recipes first: one that starts last keeps a process alone for minutes."""
    long = {item.path for item in items if item.get_closest_marker("e2e")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Let each test draw the same numbers, whichever tests ran before it in the process."""
    random.seed(0)
    np.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():  # else torch.manual_seed writes a stack down for later
            torch.cuda.manual_seed_all(0)


@pytest.fixture(autouse=True)
def called_from_nowhere(monkeypatch):
    """Forget from where a test before said that run.sh was called: evidence and sweeps set it."""
    monkeypatch.delenv("ESPNET_EXT_CALLED_FROM", raising=False)


@pytest.fixture
def committed(monkeypatch):
    """Let run records say that nothing is uncommitted; a page remarks on it where it is."""
    from espnet_ext.recipe import environment

    state = {"commit": "0" * 40, "dirty": False}
    monkeypatch.setattr(environment, "git_state", lambda path=None: dict(state))


@pytest.fixture(scope="module")
def load_benchmark():
    """Return a function that imports a file of benchmarks/ by its name."""
    folder = str(ROOT / "benchmarks")

    def load(name):
        sys.path.insert(0, folder)
        try:
            return importlib.import_module(name)
        finally:
            sys.path.remove(folder)

    yield load
    logging.disable(logging.NOTSET)  # benchmarks switch warnings off


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """Kaldi-style folders train (12) and valid (4) of short noises with letters as text."""
    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for name, count in (("train", 12), ("valid", 4)):
        folder = root / name
        folder.mkdir()
        rows = []
        for i in range(count):
            utt, n = f"{name}{i:02d}", int(rng.integers(8000, 14000))
            soundfile.write(folder / f"{utt}.wav", 0.1 * rng.standard_normal(n), 16000)
            rows.append((utt, n, "".join(rng.choice(list("abc"), 4))))
        (folder / "wav.scp").write_text("".join(f"{u} {folder}/{u}.wav\n" for u, _, _ in rows))
        (folder / "text").write_text("".join(f"{u} {t}\n" for u, _, t in rows))
        (folder / "speech_shape").write_text("".join(f"{u} {n}\n" for u, n, _ in rows))
        (folder / "text_shape").write_text("".join(f"{u} 4,6\n" for u, _, _ in rows))
    (root / "tokens.txt").write_text("<blank>\n<unk>\na\nb\nc\n<sos/eos>\n")
    return root


@pytest.fixture(scope="session")
def tiny_argv(tiny_data):
    """Options of a training that takes a second; dropout and masks on, so that seeds matter."""
    conf = ["frontend_conf n_fft=512", "frontend_conf hop_length=160", "frontend_conf n_mels=20"]
    conf += ["specaug specaug", "specaug_conf apply_time_mask=false", "normalize utterance_mvn"]
    conf += ["encoder transformer", "encoder_conf output_size=16", "encoder_conf num_blocks=1"]
    conf += ["encoder_conf attention_heads=2", "encoder_conf linear_units=16"]
    conf += ["decoder transformer", "decoder_conf num_blocks=1", "decoder_conf linear_units=16"]
    conf += ["decoder_conf attention_heads=2", "model_conf ctc_weight=0.5", "optim adam"]
    conf += ["optim_conf lr=0.01", "scheduler warmuplr", "scheduler_conf warmup_steps=5"]
    conf += ["token_type char", f"token_list {tiny_data}/tokens.txt", "keep_nbest_models 2"]
    conf += ["batch_type numel", "batch_bins 40000", "max_epoch 3", "num_att_plot 0", "seed 3"]
    conf += ["use_matplotlib false", "use_tensorboard false", "num_workers 0", "ngpu 0"]
    conf += ["model_conf report_cer=false", "model_conf report_wer=false"]
    argv = [x for pair in conf for x in ("--" + pair).split(" ")]
    argv += ["--best_model_criterion", "valid,acc,max", "--resume", "true"]
    for part in ("train", "valid"):
        for file, name, kind in (("wav.scp", "speech", "sound"), ("text", "text", "text")):
            argv += [
                f"--{part}_data_path_and_name_and_type",
                f"{tiny_data}/{part}/{file},{name},{kind}",
            ]
            argv += [f"--{part}_shape_file", f"{tiny_data}/{part}/{name}_shape"]
    return argv
