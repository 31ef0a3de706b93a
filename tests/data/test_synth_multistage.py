# SPDX-License-Identifier: Apache-2.0
"""The corpus of three parts: no meaning or speaker leaks, translations belong to what is said."""

import hashlib

import numpy as np
import pytest
import soundfile

from espnet_ext.data.synth.grammar import ORDERS, Grammar
from espnet_ext.data.synth.meanings import by_meaning
from espnet_ext.data.synth.multistage import (
    ENGLISH,
    FEW,
    SHUFFLED,
    TRAININGS,
    VOICES,
    MultistageRequest,
    make_multistage,
)
from espnet_ext.data.tables import read_table
from espnet_ext.errors import UsageError

pytest.importorskip("espeakng_loader")
TINY = MultistageRequest(
    av_minutes=0.4, st_minutes=0.6, minutes=0.3, av_dev_utts=2, st_dev_utts=3, st_test_utts=3,
    dev_utts=4, test_utts=3,
)  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("multistage") / "data"
    make_multistage(folder, TINY, lambda line: None)
    return folder


def column(folder, name, file):
    return read_table(folder / name / file)


def test_held_out_meanings_and_speakers_are_in_no_training_set(corpus):
    said = {name: set(column(corpus, name, "meaning").values()) for name in (*TRAININGS, *VOICES)}
    heard = {name: set(column(corpus, name, "utt2spk").values()) for name in said}
    for name in VOICES:
        assert len(said[name]) == TINY.held_out()[name]
        for other in said.keys() - {name}:
            assert not said[name] & said[other], (name, other)
        for training in TRAININGS:
            assert not heard[name] & heard[training]


def test_a_translation_means_what_is_said_and_a_shuffled_one_is_of_another(corpus):
    italian = by_meaning(Grammar("it", ORDERS))
    english = by_meaning(Grammar("en", ORDERS))
    for name in ("st_train", "st_dev", "st_test"):
        for utt, meaning in column(corpus, name, "meaning").items():
            assert column(corpus, name, "text")[utt] in {s.text for s in italian[meaning]}
            assert column(corpus, name, "plain")[utt] in {s.text for s in english[meaning]}
    own, moved = (column(corpus, name, "text") for name in ("st_train", SHUFFLED))
    assert sorted(own.values()) == sorted(moved.values()) and len(own) > 5
    assert sum(own[utt] == moved[utt] for utt in own) <= len(own) // 3
    few = column(corpus, FEW, "text")
    assert few.items() < own.items() and len(few) == -(-len(own) // 5)
    for name, like in ENGLISH.items():
        assert column(corpus, name, "text") == column(corpus, like, "plain")
        assert column(corpus, name, "wav.scp") == column(corpus, like, "wav.scp")


def test_a_clip_is_as_long_as_its_sound(corpus):
    for name in ("av_train", "av_dev"):
        sounds, videos = column(corpus, name, "wav.scp"), column(corpus, name, "video.scp")
        assert sounds.keys() == videos.keys()
        for utt, path in videos.items():
            assert len(np.load(path)) == round(25 * soundfile.info(sounds[utt]).duration)
    assert not (corpus / "train/video.scp").exists()


def test_equal_requests_give_equal_bytes_and_are_not_made_twice(corpus, tmp_path):
    def digest(folder):
        files = sorted(p for p in folder.rglob("*") if p.suffix in (".npy", ".flac"))
        return [(p.name, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]

    told = []
    make_multistage(corpus, TINY, told.append)
    assert told == [f"{corpus} is up to date"]
    make_multistage(tmp_path / "again", TINY, told.append)
    assert digest(tmp_path / "again") == digest(corpus)


def test_impossible_sizes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="dev_utts is 0"):
        make_multistage(tmp_path / "data", MultistageRequest(dev_utts=0))
