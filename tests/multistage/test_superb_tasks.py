# SPDX-License-Identifier: Apache-2.0
"""Each task of SUPERB learns a toy problem in seconds; labels that do not fit are told."""

from itertools import product

import numpy as np
import pytest
from superb_sets import Ear, tone, write

from espnet_ext.data.utterances import utterances
from espnet_ext.errors import DataError
from espnet_ext.multistage.superb.classification import Intents, Keywords
from espnet_ext.multistage.superb.diarisation import (
    MEDIANS,
    THRESHOLDS,
    Diarisation,
    Talk,
    turns_of,
)
from espnet_ext.multistage.superb.features import Features, keep
from espnet_ext.multistage.superb.phones import Phones
from espnet_ext.multistage.superb.rttm import read_rttm
from espnet_ext.multistage.superb.settings import Settings
from espnet_ext.multistage.superb.training import LabelledSet, predictions, train
from espnet_ext.scoring.metrics.der import METRIC as DER


def sets_of(tmp_path, task, make, cache=True):
    """Make train, dev and test by ``make(generator) -> (audio, label)``."""
    out = {}
    for seed, name in enumerate(("train", "dev", "test")):
        generator = np.random.default_rng(seed)
        made = {f"{name}{i:02}": make(generator) for i in range(24 if name == "train" else 6)}
        folder = write(tmp_path / name, {u: a for u, (a, _) in made.items()},
                       {u: label for u, (_, label) in made.items()})  # fmt: skip
        if isinstance(task, Diarisation):
            lines = [line.format(u) for u, (_, label) in made.items() for line in label.split("\n")]
            (folder / "rttm").write_text("\n".join(lines) + "\n")
        labels, utts = task.labels(folder), utterances(folder)
        if name == "train":
            task.fit(labels, folder)
        at = keep(utts, Ear(), tmp_path / "cache", "model") if cache else None
        features = Features(utts, Ear(), at)
        frames = {u.id: n for u, n in zip(utts, features.frames, strict=True)}
        targets = task.targets(labels, frames, folder)
        out[name] = LabelledSet(features, [targets[u.id] for u in utts])
    return out


def learn(task, sets, **changed):
    """Return the report of a head trained for a few seconds."""
    values = {"updates": 150, "batch": 8, "rate": 0.02, "width": 16, "evaluations": 3, **changed}
    settings = Settings(**values)
    trained = train(task, sets["train"], sets["dev"], settings, seed=1)
    pairs = [
        (predictions(trained.probe, sets[n], task, 8, "cpu"), sets[n].targets)
        for n in ("dev", "test")
    ]
    return trained, task.report(*pairs)


def keyword(generator):
    word = "abc"[generator.integers(3)]
    return tone(" ".join([word] * generator.integers(2, 5))), word


def test_keywords(tmp_path):
    task = Keywords()
    sets = sets_of(tmp_path, task, keyword)
    trained, report = learn(task, sets)
    assert report["score"] == 100
    assert report["most_frequent_label"] < 70
    weights = trained.probe.sum.weights.detach()
    assert weights[0] < weights[1:].max()  # layer 0 of the toy encoder is noise
    again, _ = learn(task, sets)
    assert again.curve == trained.curve


def test_intents_need_every_slot(tmp_path):
    def same(generator):  # the three slots say the same, so that a sum over time tells them
        word = "abc"[generator.integers(3)]
        return tone(word), f"{word} | {word}2 | {word}3"

    task = Intents()
    _, report = learn(task, sets_of(tmp_path, task, same))
    assert report["score"] == 100
    assert task.score([(0, 1, 2), (0, 1, 1)], [(0, 1, 2), (0, 1, 2)]) == 50
    assert task.classes[1] == {f"{x}2": i for x, i in task.classes[0].items()}
    with pytest.raises(DataError, match="not 3 parts"):
        task.targets({"x": "a | b"}, {"x": 5}, tmp_path)


def test_phones(tmp_path):
    def make(generator):
        phones = ["abc"[i] for i in generator.integers(3, size=4)]
        return tone(" - ".join(phones), 0.12), " ".join(phones)

    task = Phones()
    sets = sets_of(tmp_path, task, make)
    _, report = learn(task, sets, updates=250)
    assert report["score"] < 10
    assert report["more_phones_than_frames"] == {"train": 0, "dev": 0, "test": 0}
    assert task.score([[1, 2], []], [[1, 3], [2, 2]]) == 75
    with pytest.raises(DataError, match="'q' of 'x' is not a label of the training set"):
        task.targets({"x": "a q"}, {"x": 5}, tmp_path)


def conversation(generator):
    """One talks at a pitch of a, the other of c; sometimes both, sometimes nobody."""
    units = [["-", "a", "c", "a+c"][i] for i in generator.integers(4, size=6)]
    units[:2] = ["a", "c"]
    if generator.integers(2):
        units.reverse()
    lines = [
        f"SPEAKER {{}} 1 {0.4 * i:.2f} 0.40 <NA> <NA> {speaker}{generator.integers(1)} <NA> <NA>"
        for i, unit in enumerate(units) for speaker in unit.split("+") if speaker != "-"
    ]  # fmt: skip
    return tone(" ".join(units), 0.4), "\n".join(lines)


def test_diarisation(tmp_path):
    task = Diarisation()
    sets = sets_of(tmp_path, task, conversation)
    trained, report = learn(task, sets, updates=120, chunk_s=1.2)
    assert report["score"] < 10
    pair = report["lowest_threshold"], report["lowest_median_frames"]
    found = predictions(trained.probe, sets["test"], task, 8, "cpu"), sets["test"].targets
    errors = {c: task.frame_rate(*found, *c) for c in product(THRESHOLDS, MEDIANS)}
    assert errors[pair] == min(errors.values())
    assert report["lowest_on_test"] == task.rate(*found, *pair)["score"]
    parts = [report[x] for x in ("missed_detection", "false_alarm", "confusion")]
    assert sum(parts) == pytest.approx(report["score"])
    lines = dict(enumerate(task.texts(*found, report)["diarisation"]))
    scored = DER.score_set({str(i): "" for i in lines}, {str(i): x for i, x in lines.items()})
    assert DER.of_totals(scored.totals) == pytest.approx(report["score"], abs=0.05)
    truth = [t.active.astype(float)[:, ::-1] for t in sets["test"].targets]  # other order
    assert task.rate(truth, sets["test"].targets, 0.5, 1)["score"] == pytest.approx(0, abs=1e-6)
    silent = [np.zeros_like(x) for x in truth]
    assert task.rate(silent, sets["test"].targets, 0.5, 1)["score"] == pytest.approx(100)


def test_frames_and_the_library_agree_where_turns_end_with_frames(tmp_path):
    task = Diarisation()
    generator = np.random.default_rng(3)
    targets = []
    for _ in range(5):
        active = generator.integers(0, 2, (20, 2))
        active[0] = 1
        targets.append(Talk(turns_of(active.astype(bool), 0.04, 0.8), active))
    found = [generator.random((20, 2)) for _ in targets]
    rate = task.rate(found, targets, 0.5, 1)["score"]
    assert rate == pytest.approx(task.score(found, targets), abs=1e-6)


def test_three_speakers_and_bad_rttm_are_told(tmp_path):
    rttm = tmp_path / "rttm"
    lines = [f"SPEAKER r 1 {i} 1 <NA> <NA> s{i} <NA> <NA>" for i in range(3)]
    rttm.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="'r' has 3 speakers; the head has 2"):
        Diarisation().targets(read_rttm(rttm), {"r": 100}, tmp_path)
    rttm.write_text("SPEAKER r 1 x 1 <NA> <NA> s <NA> <NA>\n")
    with pytest.raises(DataError, match="not a line of RTTM") as told:
        read_rttm(rttm)
    assert str(told.value.where).endswith("rttm:1")


def test_kept_features_are_those_computed(tmp_path):
    task = Keywords()
    kept = sets_of(tmp_path / "a", task, keyword)["test"].features
    fresh = sets_of(tmp_path / "b", Keywords(), keyword, cache=False)["test"].features
    assert kept.frames == fresh.frames
    for i in range(len(kept)):
        assert np.array_equal(kept.get(i, 1, 3), fresh.get(i, 1, 3))
    folder = next(p for p in (tmp_path / "a" / "cache").iterdir())
    (folder / "features.f16").write_bytes(b"x")
    with pytest.raises(DataError, match="not whole"):
        Features(kept.utts, Ear(), folder)
