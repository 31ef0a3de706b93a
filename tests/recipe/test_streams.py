# SPDX-License-Identifier: Apache-2.0
"""A stream is data: a toy video type goes the whole way, and nothing but recipe.yaml knows it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml

from espnet_ext import cli
from espnet_ext.data.doctor import main as doctor
from espnet_ext.data.streams import OWN_READER, STREAMS, find_stream
from espnet_ext.data.streams.base import FileStream
from espnet_ext.data.tables import read_table, write_set, write_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet import fastimport
from espnet_ext.recipe import runner, stages
from espnet_ext.recipe.steps import format as format_step
from espnet_ext.recipe.steps import prepare, train
from espnet_ext.recipe.steps.streams import loader, streams_of

fastimport.enable()

from espnet2.asr.espnet_model import ESPnetASRModel  # noqa: E402

from espnet_ext.espnet.task import ASRTask  # noqa: E402

FPS, HERE = 25, __name__


class Video(FileStream):
    """Clips ``(T, H, W)`` of bytes as .npy; format makes them grey values in [0, 1]."""

    def read(self, value):
        clip = np.load(value)
        return clip if clip.dtype == np.float32 else (clip / 255).astype(np.float32)

    def length(self, value):
        clip = np.load(value, mmap_mode="r")
        if clip.ndim != 3:
            raise DataError(f"a clip has 3 axes, not {clip.ndim}", value, "save (T, H, W)")
        return len(clip)

    def format(self, value, utt, folder):
        super().format(value, utt, folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = (folder / f"{utt}.npy").absolute()
        np.save(path, self.read(value))
        return str(path)


class AVModel(ESPnetASRModel):
    seen: list = []  # noqa: RUF012 - of all models of the test

    def init_extension(self, args):
        pass

    def collect_feats(self, speech, speech_lengths, text, text_lengths, **further):
        return super().collect_feats(speech, speech_lengths, text, text_lengths)

    def forward(self, speech, speech_lengths, text, text_lengths, video, video_lengths, **further):
        AVModel.seen.append((tuple(video.shape), video_lengths.tolist(), sorted(further)))
        assert video.min() >= 0 and video.max() <= 1
        return super().forward(speech, speech_lengths, text, text_lengths)


class AVTask(ASRTask):
    extra_data_names = ("video",)
    model_class = AVModel


def make_set(name, seconds, spoil=""):
    rng, rows, clips = np.random.default_rng(len(name)), {}, {}
    for i, length in enumerate(seconds):
        utt = f"{name}-{i}"
        wav, clip = Path(f"raw/{utt}.wav").absolute(), Path(f"raw/{utt}.npy").absolute()
        wav.parent.mkdir(exist_ok=True)
        sf.write(wav, rng.uniform(-0.5, 0.5, int(16000 * length)), 16000)
        np.save(clip, rng.integers(0, 256, (int(FPS * length), 4, 6), dtype=np.uint8))
        rows[utt], clips[utt] = (str(wav), "abc"[: 1 + i % 3], name), str(clip)
    if spoil:
        np.save(clips[spoil], np.zeros((3, 3)))
    write_set(Path("data") / name, rows)
    write_table(Path("data") / name / "video.scp", clips)


def streams(kind=f"{HERE}:Video"):
    return [{"name": "speech", "file": "wav.scp", "type": "sound"},
            {"name": "text", "file": "text", "type": "text"},
            {"name": "video", "file": "video.scp", "type": kind}]  # fmt: skip


CONFIG = """\
encoder: transformer
encoder_conf: {output_size: 16, num_blocks: 1, attention_heads: 2, linear_units: 16}
decoder: transformer
decoder_conf: {num_blocks: 1, attention_heads: 2, linear_units: 16}
frontend_conf: {n_fft: 512, hop_length: 160, n_mels: 20}
normalize: utterance_mvn
model_conf: {ctc_weight: 0.5, report_cer: false, report_wer: false}
batch_type: numel
batch_bins: 200000
max_epoch: 1
num_workers: 0
keep_nbest_models: 1
use_matplotlib: false
use_tensorboard: false
best_model_criterion: [[valid, acc, max]]
"""


@pytest.fixture
def corpus(folder):
    """Three sets with video; further sets of it alone, batched apart."""
    for name, seconds in (("train", [0.8, 1.2, 1.6, 2.0]), ("dev", [1.0, 1.2]), ("test", [1.0])):
        make_set(name, seconds)
    folder.write("conf/train.yaml", CONFIG)
    folder.write("tokens.txt", "<blank>\n<unk>\na\nb\nc\n<sos/eos>\n")
    return folder


def recipe(folder, **further):
    phase = {"config": "conf/train.yaml", "task": f"{HERE}:AVTask", "streams": streams(),
             "args": {"token_type": "char", "token_list": "tokens.txt"}, **further}  # fmt: skip
    folder.recipe(format={"fs": 16000}, finetune=phase)


def test_a_toy_video_goes_from_doctor_to_a_training_batch(corpus, capsys):
    recipe(corpus, extra_data={"more": {"set": "dev", "streams": streams()[2:]}})
    assert doctor(["--data", "data/train", "--stream", f"video.scp={HERE}:Video"]) == 0
    ctx = corpus.context("format", nj=1)
    for name in prepare.sets(ctx):
        assert streams_of(ctx, name) == {"wav.scp": "sound", "video.scp": f"{HERE}:Video",
                                         "text": "text"}  # fmt: skip
        prepare._check(ctx, Path("data") / name)
    format_step.run(ctx, format_step.plan(ctx))
    made = read_table("dump/train/video.scp")
    assert made.keys() == read_table("dump/train/wav.scp").keys()
    assert np.load(made["train-0"]).dtype == np.float32

    AVModel.seen.clear()
    ctx = corpus.context("finetune")
    train.run(ctx, train.plan(ctx))
    stats = ctx.exp / "stats/finetune"
    shapes = (stats / "train/video_shape").read_text().splitlines()
    assert shapes == ["train-0 20,4,6", "train-1 30,4,6", "train-2 40,4,6", "train-3 50,4,6"]
    # A stream that is batched apart: its own unit, not 1 for each utterance.
    assert (stats / "more/video_shape").read_text() == "dev-0 25\ndev-1 30\n"
    trained = [(shape, lengths) for shape, lengths, extra in AVModel.seen if len(extra) > 1]
    assert sorted(n for _, lengths in trained for n in lengths) == [20, 30, 40, 50]
    assert all(shape[1:] == (max(lengths), 4, 6) for shape, lengths in trained)
    further = {"more_utt_id", "more_video", "more_video_lengths", "utt_id"}
    assert {frozenset(e) for *_, e in AVModel.seen} == {frozenset(further), frozenset({"utt_id"})}
    assert json.loads((ctx.phase_dir("finetune") / "phase.json").read_text())["epochs"] == 1


def test_40_ms_in_the_development_set_end_neither_statistics_nor_validation(corpus, monkeypatch):
    make_set("dev", [1.0, 0.04, 0.01, 1.2])
    streams_of_asr = streams()[:2]
    recipe(corpus, task="asr", streams=streams_of_asr)
    ctx, said = corpus.context("format", nj=1), []
    format_step.run(ctx, format_step.plan(ctx))
    assert len(read_table("dump/dev/wav.scp")) == 4  # and decoding has them all
    ctx = corpus.context("finetune")
    monkeypatch.setattr("espnet_ext.recipe.steps.lengths.say", said.append)
    train.run(ctx, train.plan(ctx))
    shapes = (ctx.exp / "stats/finetune/valid/speech_shape").read_text().splitlines()
    assert [row.split()[0] for row in shapes] == ["dev-0", "dev-3"]
    assert "dev-1 (0.040 s), dev-2 (0.010 s)" in said[0]


def test_a_clip_that_cannot_be_used_is_named_and_left_out(corpus, capsys):
    make_set("train", [0.8, 1.2, 1.6], spoil="train-1")
    table = Path("data/train/video.scp")
    table.write_text(table.read_text().replace("raw/train-2.npy", "raw/none.npy"))
    recipe(corpus)
    assert doctor(["--data", "data/train", "--stream", f"video.scp={HERE}:Video"]) == 3
    assert cli.main(["doctor", "--data", "data/train"]) == 3  # recipe.yaml tells the type
    said, again = capsys.readouterr().out.split("fixable by --fix\n")[:2]
    assert said == again
    assert "video.scp:2: train-1: a clip has 3 axes, not 2" in said
    assert "video.scp:3: train-2: the file is missing" in said
    ctx = corpus.context("format", nj=1)
    with pytest.raises(DataError, match=r"data/train has 1 error.*the file is missing|train-2"):
        prepare._check(ctx, Path("data/train"))
    format_step.run(ctx, format_step.plan(ctx))
    assert list(read_table("dump/train/wav.scp")) == ["train-0"]
    dropped = Path("dump/train/dropped.tsv").read_text().splitlines()[1:]
    assert [row.split("\t")[:2] for row in dropped] == [
        ["train-1", "unusable in video.scp"],
        ["train-2", "unusable in video.scp"],
    ]


def test_a_set_without_audio_is_formatted_by_its_first_stream(corpus):
    for name in ("train", "dev", "test"):
        Path(f"data/{name}/wav.scp").unlink()
    phase = {"config": "conf/train.yaml", "streams": streams()[1:]}
    corpus.recipe(format={}, finetune=phase, data={"files": ["video.scp", "text", "utt2spk"]})
    ctx = corpus.context("format", nj=1)
    plan = stages.plan(ctx, ctx.stage)
    tables = ("video.scp", "utt2spk", "text")
    assert plan.makes == [Path(f"dump/{n}/{t}") for n in ("train", "dev", "test") for t in tables]
    for name in prepare.sets(ctx):
        prepare._check(ctx, Path("data") / name)
    format_step.run(ctx, plan)
    assert list(read_table("dump/dev/video.scp")) == ["dev-0", "dev-1"]
    assert list(read_table("dump/dev/text")) == ["dev-0", "dev-1"]
    assert not Path("dump/dev/wav.scp").exists()


def test_a_second_microphone_must_have_the_rate_of_the_result(corpus):
    rows = read_table("data/train/wav.scp")
    other = Path("raw/other.wav").absolute()
    sf.write(other, np.random.default_rng(0).uniform(-0.5, 0.5, 8000), 8000)
    write_table("data/train/far.scp", rows | {"train-1": str(other)})
    far = {"name": "far", "file": "far.scp", "type": "sound"}
    recipe(corpus, streams=[*streams()[:2], far], train="train", valid="train")
    ctx = corpus.context("format", nj=1)
    format_step.run(ctx, format_step.plan(ctx))
    dropped = Path("dump/train/dropped.tsv").read_text()
    assert "train-1\tunusable in far.scp\t8000 Hz instead of 16000 Hz" in dropped
    assert len(read_table("dump/train/far.scp")) == 3


def test_speed_copies_are_refused_where_the_video_would_not_fit(corpus):
    recipe(corpus)
    corpus.write("recipe.yaml", Path("recipe.yaml").read_text().replace(
        "fs: 16000", "fs: 16000\n  speeds: [0.9, 1.0]"))  # fmt: skip
    ctx = corpus.context("format", nj=1)
    with pytest.raises(UsageError, match=r"video\.scp would not fit speed copies"):
        format_step.run(ctx, format_step.plan(ctx))


def test_a_missing_stream_of_a_training_is_an_error_of_the_data(corpus):
    Path("data/train/video.scp").unlink()
    Path("data/test/video.scp").unlink()
    recipe(corpus)
    ctx = corpus.context("prepare")
    with pytest.raises(DataError, match=r"video\.scp: is missing"):
        prepare._check(ctx, Path("data/train"))
    assert "video.scp" not in streams_of(ctx, "test")  # no training reads it
    with pytest.raises(DataError, match=r"set train has no video\.scp"):
        format_step.run(corpus.context("format"), None)
    assert not Path("dump").exists()  # nor is another set formatted first


def test_a_phase_judged_on_what_it_trains_is_told(corpus, capfd):
    shutil.copytree("data/train", "data/same")
    recipe(corpus, valid="same")
    file = Path("recipe.yaml")
    given = yaml.safe_load(file.read_text())
    given["data"] = {**given.get("data", {}), "also": ["same"]}
    file.write_text(yaml.safe_dump(given))
    format_step.warn_of_sets(corpus.context("format"))
    assert "train and same share 4 utterance ids" in capfd.readouterr().out


def test_texts_in_another_case_than_those_of_training_are_told_before_time_is_spent(corpus, capfd):
    recipe(corpus)
    text = Path("data/test/text")
    rows = (line.split(" ", 1) for line in text.read_text().splitlines())
    text.write_text("".join(f"{utt} {words.swapcase()}.\n" for utt, words in rows))
    format_step.warn_of_sets(corpus.context("format"))
    said = capfd.readouterr().out
    assert "words of test have characters that no training text has" in said


def test_types_are_found_by_name():
    for name in STREAMS:
        wanted = find_stream(name).loader or f"{OWN_READER}{name}"
        assert loader(name) == wanted  # which does not import the type
    for wrong, says in (
        ("vidoe", "no type of stream"),
        (f"{HERE}:AVTask", "is not a type of stream"),
        ("no.such:Thing", "there is no module"),
    ):
        with pytest.raises(UsageError, match=says):
            find_stream(wrong)


def test_lengths_of_the_types_that_are_there(tmp_path):
    from omniio import kaldi

    np.save(tmp_path / "a.npy", np.zeros((7, 3)))
    sf.write(tmp_path / "a.wav", np.zeros(800), 16000)
    kaldi.save_ark(str(tmp_path / "a.ark"), {"a": np.zeros((5, 2), np.float32)},
                   scp=str(tmp_path / "a.scp"))  # fmt: skip
    ark = read_table(tmp_path / "a.scp")["a"]
    for name, value, length in (
        ("sound", f"{tmp_path}/a.wav", 800), ("text", "a b c", 3), ("npy", f"{tmp_path}/a.npy", 7),
        ("kaldi_ark", ark, 5), ("text_int", "3 1", 2), ("csv_int", "3,1,2", 3),
        ("text_float", "0.5 1e-3", 2), ("csv_float", "0.5", 1),
    ):  # fmt: skip
        assert find_stream(name).length(value) == length
    for name, value in (
        ("npy", f"{tmp_path}/a.wav"),
        ("text_int", "3 x"),
        ("kaldi_ark", "no.ark:5"),
    ):
        with pytest.raises(DataError):
            find_stream(name).length(value)


def test_a_replaced_clip_makes_formatting_run_again_and_a_moved_recipe_does_not(corpus, capfd):
    recipe(corpus)
    argv = ["--stage", "format", "--stop-stage", "format", "--ngpu", "0", "--nj", "1"]
    assert runner.main(argv) == 0
    assert not read_table("dump/train/video.scp")["train-0"].startswith("/")
    assert runner.main(argv) == 0 and "up to date" in capfd.readouterr().out
    np.save("raw/train-0.npy", np.ones((20, 4, 6), dtype=np.uint8))
    assert runner.main(argv) == 0
    assert "up to date" not in capfd.readouterr().out
    assert np.load(read_table("dump/train/video.scp")["train-0"]).max() < 0.01
    make_set("train", [0.8, 1.2])  # files of utterances that are gone do not stay
    assert runner.main(argv) == 0
    assert sorted(p.stem for p in Path("dump/train/streams").rglob("*.npy")) == [
        "train-0", "train-1",
    ]  # fmt: skip
