# SPDX-License-Identifier: Apache-2.0
"""What cannot be trained on is refused before training starts."""

import re
import shutil

import numpy as np
import pytest
import soundfile
import torch

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet import checkpoint, fastimport, train
from espnet_ext.progress import progress_log

fastimport.enable()

from espnet_ext.bl_just.task import BLJustTask  # noqa: E402

TASK = "espnet_ext.bl_just.task:BLJustTask"


@pytest.fixture
def lines(monkeypatch):
    told = []
    monkeypatch.setattr(progress_log, "info", lambda text, *args: told.append(text))
    return told


@pytest.fixture
def refused(tmp_path, lines):
    """Train, which must fail, and return the message; nothing may have been trained by then."""

    def attempt(argv, *conf, more=(), error=UsageError):
        options = [x for option in conf for x in ("--bl_just", option)]
        out = tmp_path / "exp"
        with pytest.raises(error) as caught:
            train.run(TASK, [*argv, *options, *more, "--output_dir", str(out)])
        assert not any(line.startswith("epoch ") for line in lines)
        assert not list(out.glob("*.pth"))
        return str(caught.value)

    return attempt


@pytest.fixture
def own(bl_argv, unlabelled_dir, tmp_path):
    """A copy of the unlabelled set that a test may change, and the options that read it."""
    folder = tmp_path / "own"
    shutil.copytree(unlabelled_dir, folder)
    return folder, [x.replace(f"{unlabelled_dir}/", f"{folder}/") for x in bl_argv]


def without_stream(argv):
    pairs = zip(argv[::2], argv[1::2], strict=True)
    return [x for pair in pairs if not pair[0].startswith("--stream_") for x in pair]


WRONG = [
    ("gamma_max=-1", [r"bl_just\.gamma_max", "-1", "0 to"]),
    ("unsup_loss=wav2vec", [r"unsup_loss", "'wav2vec'", "wav2vec2"]),
    ("gama_max=0.2", ["gama_max", "gamma_max"]),
    ("cpc={contxt_s: 1.0}", [r"bl_just\.cpc", "context_s"]),
    ("schedule=bl_just", ["schedule", "bljust"]),
    ("epochs=many", ["epochs", "int"]),
    ("epochs=0", ["epochs", "1 to"]),
    ("wav2vec2={mask_prob: 1.5}", [r"wav2vec2\.mask_prob", "less than 1"]),
    ("best_rq={mask_length_s: 0.05}", [r"best_rq\.mask_length_s", "input frames or more"]),
]


@pytest.mark.parametrize(("option", "parts"), WRONG)
def test_options_of_the_method(refused, bl_argv, option, parts):
    message = refused(bl_argv, option)
    for part in parts:
        assert part.replace("\\", "") in message


def test_options_that_contradict_one_another(refused, bl_argv):
    for schedule in ("weighted_sum", "pseudo_label"):
        message = refused(bl_argv, f"schedule={schedule}", "gamma_max=0")
        assert "gamma_max" in message and "schedule: supervised" in message
    assert "no levels" in refused(bl_argv, "schedule=pt_ft", "upper_level=unsupervised")
    assert "eta_scale: gamma" in refused(bl_argv, "eta_scale=one", "upper_level=unsupervised")


ESPNETS = [
    (["--patience", "3"], ["cannot stop early", "patience"]),
    (["--max_epoch", "7"], ["3 epochs, not 7", "bl_just.epochs"]),
    (["--num_iters_per_epoch", "5"], ["num_iters_per_epoch", "bl_just.joint_steps"]),
    (["--iterator_type", "chunk"], ["iterator_type", "sequence"]),
    (["--model", "maskctc"], ["model: espnet"]),
    (["--best_model_criterion", "train,loss,min"], ["best_model_criterion", "each phase"]),
    (["--early_stopping_criterion", "train", "loss", "min"], ["early_stopping_criterion"]),
]


@pytest.mark.parametrize(("more", "parts"), ESPNETS)
def test_options_of_espnet_that_contradict_the_schedule(refused, bl_argv, more, parts):
    message = refused(bl_argv, more=more)
    assert all(part in message for part in parts), message


def test_max_epoch_may_say_what_follows_anyway(bl_argv, tmp_path, lines):
    train.run(TASK, [*bl_argv, "--max_epoch", "3", "--output_dir", str(tmp_path)])
    assert checkpoint.load(tmp_path / "3epoch.pth")


def test_pseudo_labels_need_ctc(refused, bl_argv):
    more = ["--model_conf", "ctc_weight=0.0"]
    assert "model_conf.ctc_weight" in refused(bl_argv, "schedule=pseudo_label", more=more)


def test_a_text_beside_the_unlabelled_audio(refused, own):
    folder, argv = own
    (folder / "text").write_text("u00 abc\n")
    message = refused(argv, error=DataError)
    assert str(folder / "text") in message and "remove" in message


def test_streams_of_other_names_and_contents(refused, bl_argv, unlabelled_dir, tiny_data):
    option = "--stream_data_path_and_name_and_type"
    message = refused(bl_argv, more=[option, f"u,{tiny_data}/train/text,text,text"])
    assert "'text'" in message and "speech alone" in message
    message = refused(bl_argv, more=[option, f"v,{unlabelled_dir}/wav.scp,speech,sound"])
    assert "'v'" in message and "u: {set: unlabelled}" in message


@pytest.mark.parametrize(
    "conf",
    [[], ["schedule=pt_ft"], ["schedule=pseudo_label"], ["schedule=supervised", "budget=passes"]],
)
def test_a_missing_stream(refused, bl_argv, conf):
    """Also where it is only counted: a budget in passes depends on its size."""
    message = refused(without_stream(bl_argv), *conf)
    assert "no unlabelled data" in message and "schedule: supervised" in message


def test_supervised_training_needs_no_stream(bl_argv, tmp_path, lines):
    argv = [*without_stream(bl_argv), "--bl_just", "schedule=supervised", "--bl_just", "epochs=1"]
    train.run(TASK, [*argv, "--output_dir", str(tmp_path)])
    assert any("6 labelled and 0 unlabelled updates" in line for line in lines)


def test_an_empty_labelled_set(refused, bl_argv, tiny_data, tmp_path):
    """Without a second stream as well, for no schedule can do without it."""
    (tmp_path / "speech_shape").write_text("")
    argv = [
        x.replace(f"{tiny_data}/train/speech_shape", f"{tmp_path}/speech_shape") for x in bl_argv
    ]
    for conf in ([], ["schedule=supervised"]):
        message = refused(argv, *conf, error=DataError)
        assert "labelled set is empty" in message and "speech_shape" in message


LONG_CPC = ["unsup_loss=cpc", "cpc={context_s: 2.0, future_s: 1.0}"]


def test_all_utterances_too_short(refused, bl_argv):
    message = refused(bl_argv, *LONG_CPC, error=DataError)
    assert "all 12" in message and "cpc: 47840 samples" in message
    assert "format.join_s" in message and "u00" in message


def test_some_utterances_too_short(refused, bl_argv, unlabelled_dir, tmp_path, lines):
    lengths = {u: int(n) for u, n in read_table(unlabelled_dir / "speech_shape").items()}
    short = {u for u, n in lengths.items() if n < 15840}
    assert 0 < len(short) < 12
    conf = ["unsup_loss=cpc", "cpc={context_s: 0.8, future_s: 0.2, hop_s: 0.2}", "epochs=1"]
    message = refused(bl_argv, *conf, "short_utts=refuse", error=DataError)
    assert f"{len(short)} of 12" in message
    out = tmp_path / "skip"
    options = [x for option in conf for x in ("--bl_just", option)]
    train.run(TASK, [*bl_argv, *options, "--output_dir", str(out)])
    listed = (out / "unlabelled_skipped.tsv").read_text().splitlines()
    assert dict(x.split("\t") for x in listed) == {u: str(lengths[u]) for u in short}
    assert read_table(out / "unlabelled_shape").keys() == lengths.keys() - short
    told = next(line for line in lines if "unlabelled_skipped.tsv" in line)
    assert f"{len(short)} of 12" in told


@pytest.mark.parametrize(
    "conf",
    [
        ["unsup_loss=cpc", "cpc={context_s: 0.6, future_s: 0.3}"],
        ["unsup_loss=best_rq"],
        ["unsup_loss=wav2vec2", "wav2vec2={mask_length_s: 0.16}"],
    ],
)
def test_the_length_asked_for_is_the_shortest_that_works(refused, own, conf):
    """One sample less, and the loss has no query."""
    folder, argv = own
    soundfile.write(folder / "u00.wav", 0.1 * np.random.default_rng(1).standard_normal(2000), 16000)
    (folder / "speech_shape").write_text("u00 2000\n")
    needed = int(re.search(r"(\d+) samples", refused(argv, *conf, error=DataError)).group(1))
    options = [x for option in conf for x in ("--bl_just", option)]
    model = BLJustTask.build_model(
        train.parse(BLJustTask, [*argv, *options, "--output_dir", "unused"])
    )
    step = {"kind": "explore", "gamma": 0.0, "measure": False}
    for samples, queries in ((needed, True), (needed - 1, False)):
        speech = torch.randn(1, samples)
        out = model(u_speech=speech, u_speech_lengths=torch.tensor([samples]), step=step)
        assert (out["stats"]["unsup_queries"] > 0) == queries
