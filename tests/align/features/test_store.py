# SPDX-License-Identifier: Apache-2.0
"""The feature store: nothing is lost unseen, shards do not matter, a killed build goes on."""

import json
import os
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import soundfile

from espnet_ext.align.features import store_build
from espnet_ext.align.features.features import FeatureOptions, compute
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.errors import DataError, UsageError

OPTIONS = FeatureOptions(fs=8000)


def make(folder, waves, segments=None, rates=None):
    """Write a Kaldi-style folder; the first letter of an utterance is its speaker."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, wave in waves.items():
        soundfile.write(folder / f"{name}.wav", wave, (rates or {}).get(name, 8000))
    (folder / "wav.scp").write_text("".join(f"{n} {folder}/{n}.wav\n" for n in waves))
    (folder / "utt2spk").write_text("".join(f"{n} {n[0]}\n" for n in segments or waves))
    if segments:
        (folder / "segments").write_text("".join(f"{u} {s}\n" for u, s in segments.items()))
    return folder


def noise(n, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(n)


@pytest.fixture
def data(tmp_path):
    waves = {f"{'ab'[i % 2]}{i}": noise(1000 + 300 * i, i) for i in range(7)}
    return make(tmp_path / "data", waves)


def test_features_and_cmvn(data, tmp_path):
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS)
    assert sorted(store.utts) == sorted(p.stem for p in data.glob("*.wav")) and not store.skipped
    for utt in store.utts:
        wave, _ = soundfile.read(data / f"{utt}.wav", dtype="float32")
        np.testing.assert_array_equal(store.read(utt, cmvn=False), compute(wave, OPTIONS))
        assert store.frames(utt) == len(store.read(utt)) and store.samples(utt)[1] == 8000
    for variances in (False, True):
        options = FeatureOptions(fs=8000, cmvn_vars=variances)
        store = FeatureStore.build(tmp_path / "f", data, options)
        for speaker in "ab":
            x = np.concatenate([store.read(u) for u in store.utts if store.speaker(u) == speaker])
            np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
            assert np.allclose(x.std(0), 1, atol=1e-3) == variances
    with pytest.raises(UsageError):
        store.read("none")


def test_shards_do_not_matter(data, tmp_path, monkeypatch):
    one = FeatureStore.build(tmp_path / "one", data, OPTIONS)
    monkeypatch.setattr(store_build, "SHARD_UTTS", 2)
    many = FeatureStore.build(tmp_path / "many", data, OPTIONS)
    assert len(many.shards) == 4 and [*chain(*many.shards)] == many.utts == one.utts
    for utt in one.utts:
        np.testing.assert_allclose(many.read(utt), one.read(utt), atol=1e-5)


def test_unusable_audio_is_counted(tmp_path):
    waves = {f"a{i}": noise(2000, i) for i in range(2)}
    waves |= {"b_short": noise(199), "b_silent": np.zeros(2000), "b_clip": 5 * noise(2000)}
    waves |= {"b_cut": noise(2000), "b_void": noise(2000), "b_gone": noise(9), "b_bytes": noise(9)}
    waves |= {"b_nothing": np.zeros(0)}
    data = make(tmp_path / "data", waves)
    os.truncate(data / "b_cut.wav", 3000)
    os.truncate(data / "b_void.wav", 0)
    (data / "b_gone.wav").unlink()
    (data / "b_bytes.wav").write_bytes(b"no audio")
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS)
    assert {u: r for u, r, _ in store.skipped} == {
        "b_short": "too short", "b_silent": "audio: silent", "b_cut": "unreadable audio",
        "b_void": "empty audio", "b_gone": "missing audio", "b_bytes": "unreadable audio",
        "b_nothing": "empty audio",
    }  # fmt: skip
    assert store.utts == ["a0", "a1", "b_clip"] and len(store.utts + store.skipped) == len(waves)
    assert [(u, r) for u, r, _ in store.warnings] == [("b_clip", "clipped")]
    assert any("audio: silent: 1" in line for line in store.summary())


def test_content_that_cannot_be_used_is_named(tmp_path):
    speech = noise(2000)
    waves = {"a": speech, "flat": np.sign(speech), "opposite": np.stack([speech, -speech], 1)}
    waves |= {"unequal": np.stack([speech, 0.1 * noise(2000, 5)], 1)}
    data = make(tmp_path / "data", waves)
    bad = speech.copy()
    bad[700:710] = np.nan
    soundfile.write(data / "a.wav", bad, 8000, subtype="FLOAT")
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS)
    found = {u: (reason, detail) for u, reason, detail in store.skipped}
    assert {u: r for u, (r, _) in found.items()} == {
        "a": "audio: not finite", "flat": "audio: clipped flat"
    }  # fmt: skip
    assert "10 of 2000 samples" in found["a"][1] and "first is 700" in found["a"][1]
    assert store.utts == ["opposite", "unequal"]
    told = {u: (r, d) for u, r, d in store.warnings}
    assert told["unequal"][0] == "unequal channels"
    assert told["opposite"] == ("channels cancel", "channel 0 of 2 is taken, counted from 0")
    assert np.isfinite(store.read("unequal")).all()
    one = FeatureStore.build(tmp_path / "one", data, replace(OPTIONS, channel="1"))
    np.testing.assert_allclose(
        one.read("opposite", cmvn=False), store.read("opposite", cmvn=False), atol=1e-3
    )
    assert ("flat", "no such channel") in [(u, r) for u, r, _ in one.skipped]
    mixed = FeatureStore.build(tmp_path / "mix", data, replace(OPTIONS, channel="mix"))
    assert ("opposite", "audio: channels cancel") in [(u, r) for u, r, _ in mixed.skipped]


def test_rates(tmp_path):
    waves = {"a": noise(4000), "b": noise(1000), "c": noise(2000)}
    data = make(tmp_path / "data", waves, rates={"a": 16000, "b": 4000})
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS)
    assert [store.frames(u) for u in "abc"] == [25, 25, 25] and store.samples("a") == (4000, 16000)
    assert sum("resampled" in line for line in store.summary()) == 2
    strict = FeatureStore.build(tmp_path / "f", data, OPTIONS, resample=False)
    assert strict.utts == ["c"] and {r for _, r, _ in strict.skipped} == {"wrong sampling rate"}


def test_segments(tmp_path):
    segments = {"a1": "r 0.1 0.3", "a2": "r 0.3 -1", "a3": "r 0.4 9", "b1": "none 0 1"}
    wave = noise(4000)
    data = make(tmp_path / "data", {"r": wave}, segments)
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS)
    assert store.utts == ["a1", "a2"] and [store.frames(u) for u in store.utts] == [20, 20]
    cut, _ = soundfile.read(data / "r.wav", start=800, stop=2400, dtype="float32")
    np.testing.assert_array_equal(store.read("a1", cmvn=False), compute(cut, OPTIONS))
    reasons = {u: r for u, r, _ in store.skipped}
    assert reasons == {"a3": "segment outside audio", "b1": "missing audio"}
    (data / "segments").write_text("a1 r 0.1\n")
    with pytest.raises(DataError, match="a1"):
        FeatureStore.build(tmp_path / "f", data, OPTIONS)


def test_a_killed_build_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(store_build, "SHARD_UTTS", 2)
    seen, stop = [], 2

    def killed(fn, jobs):
        for job in jobs:
            if len(seen) == stop:
                raise KeyboardInterrupt
            json.dumps(job)  # workers get plain data
            seen.append(job["shard"])
            yield fn(job)

    with pytest.raises(KeyboardInterrupt):
        FeatureStore.build(tmp_path / "f", data, OPTIONS, map=killed)
    with pytest.raises(DataError):
        FeatureStore.open(tmp_path / "f")
    os.truncate(tmp_path / "f/feats.1.f32", 100)  # a half-written shard is not taken
    stop = 99
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS, map=killed)
    assert seen == [0, 1, 1, 2, 3]
    assert FeatureStore.build(tmp_path / "f", data, OPTIONS, map=killed).key == store.key
    assert len(seen) == 5  # done: nothing is computed
    make(data, {"b3": noise(5000)})  # other audio, and only one utterance left
    again = FeatureStore.build(tmp_path / "f", data, OPTIONS, map=killed)
    assert again.utts == ["b3"] and again.frames("b3") == 63 and again.key != store.key
    assert not (tmp_path / "f/feats.1.f32").exists()


def test_batches(data, tmp_path):
    store = FeatureStore.build(tmp_path / "f", data, OPTIONS)
    batches = list(store.batches(reversed(store.utts), 80))
    flat = [*chain(*batches)]
    assert sorted(flat) == sorted(store.utts)
    assert [store.frames(u) for u in flat] == sorted(store.frames(u) for u in flat)
    assert all(len(b) * store.frames(b[-1]) <= 80 for b in batches) and len(batches) > 1
    assert len(list(store.batches(store.utts, 1))) == len(store.utts)


def test_pipes_are_refused(data, tmp_path):
    (data / "wav.scp").write_text(f"a0 cat {data}/a0.wav |\n")
    with pytest.raises(DataError, match="refused"):
        FeatureStore.build(tmp_path / "f", data, OPTIONS)
    assert FeatureStore.build(tmp_path / "f", data, OPTIONS, allow_pipes=True).utts == ["a0"]
