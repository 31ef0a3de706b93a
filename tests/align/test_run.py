# SPDX-License-Identifier: Apache-2.0
"""The whole aligner on synthetic speech whose phone times are known; resume and repeatability."""

import itertools
import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from espnet_ext.align import corpus
from espnet_ext.align.evaluate.compare import compare
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.model import load
from espnet_ext.align.options import from_dict
from espnet_ext.align.passes.shard import load_tree
from espnet_ext.align.run import (
    apply_aligner,
    report_extra,
    save_model,
    train_aligner,
    write_pass,
)
from espnet_ext.align.search import segfile
from espnet_ext.data.tables import read_table, write_set
from espnet_ext.recipe.executor import Local

TINY = {
    "passes": ["mono", "tri"],
    "mono": {"iterations": 3, "realign": [1, 2], "gaussians": 170, "increase_until": 2},
    "tri": {"iterations": 2, "realign": [2], "increase_until": 1, "leaves": 150},
    "textgrid": False,
}  # fmt: skip


def quiet(line):
    pass


def same_labels(a, b):
    return a.utts == b.utts and all(np.array_equal(a.labels(u), b.labels(u)) for u in a.utts)


def content(folder):
    """All that an alignment says, byte by byte, but for where it lies."""
    names = ("labels.ark", "frame_phones.ark", "phones.ctm", "words.ctm", "scores.tsv")
    return [(folder / n).read_bytes() for n in (*names, "skipped.tsv")]


@pytest.mark.parametrize("name", ["mono", "tri", "lda_mllt", "sat", "hybrid"])
def test_each_pass_finds_the_times_of_unseen_speakers(trained, spoken, tmp_path, name):
    found, rows = apply_aligner(
        trained.models[name], spoken / "test", tmp_path / "a", tmp_path / "w", map, quiet
    )
    truth = compare(found, spoken / "manifest.jsonl").as_json()
    phones, words = (truth["boundaries"][t] for t in ("phones", "words"))
    assert truth["agreement"]["phones"]["agreement"] > 0.72
    assert phones["median_abs_ms"] < 15 and words["median_abs_ms"] < 20
    assert phones["within"]["50_ms"] > 0.85 and abs(phones["median_ms"]) < 6
    assert rows[0]["aligned"] == len(found.utts) > 20
    left = {u: reason for u, (reason, _) in found.skipped.items()}
    assert set(left.values()) <= {"no pronunciation"}  # phones that training has not seen
    assert {*found.utts, *left} == set(read_table(spoken / "test/text"))


def test_passes_raise_the_likelihood_and_transforms_gain(trained):
    reports = {r["name"]: r for r in trained.session.reports}
    curves = {n: [i["loglik_per_frame"] for i in r["iterations"]] for n, r in reports.items()}
    for name in ("mono", "tri", "lda_mllt", "sat"):
        assert curves[name][-1] > curves[name][0] + 0.5, name
    assert curves["sat"][-1] > curves["lda_mllt"][-1]  # same features, own speakers' transforms
    gains = [float(line.split("gains")[1].split()[0]) for line in trained.lines if "gains" in line]
    assert gains and all(g > 0 for g in gains)
    assert all(r["failures"] == [] for r in reports.values())


@pytest.mark.parametrize("name", ["mono", "lda_mllt", "hybrid"])
def test_applied_to_its_training_data_the_model_repeats_its_alignment(trained, tmp_path, name):
    a = write_pass(trained.session, name, tmp_path / "a", trained.data)
    b, _ = apply_aligner(
        trained.models[name], trained.data, tmp_path / "b", tmp_path / "w", map, quiet
    )
    assert same_labels(a, b)
    assert a.header.num_classes == b.header.num_classes
    assert a.header.times == b.header.times == "mono"
    assert (a.path / "phones.ctm").read_bytes() == (b.path / "phones.ctm").read_bytes()


def test_times_are_of_one_pass_and_frames_of_another(trained, tmp_path):
    made = {}
    for times in ("last", "auto"):
        s = replace(trained.session, options=replace(trained.options, times=times))
        made[times] = write_pass(s, "tri", tmp_path / times, trained.data)
    last, auto = made["last"], made["auto"]
    assert same_labels(last, auto) and (last.header.times, auto.header.times) == ("tri", "mono")
    moved = 0
    for utt in auto.utts:
        for a, b in ((last.phones[utt], auto.phones[utt]), (last.words[utt], auto.words[utt])):
            assert [i.name for i in a] == [i.name for i in b]
            moved += a != b
    assert moved > len(auto.utts) // 2
    assert np.array_equal(last.frame_phones(utt), auto.frame_phones(utt))


def test_halves_of_long_phones_show_in_labels_alone(trained, tmp_path):
    a = write_pass(trained.session, "tri", tmp_path / "a", trained.data)
    own, tree = trained.models["tri"].phones, load_tree(trained.session.models["tri"].tree)
    assert {"aɪ", "eɪ"} <= set(a.header.long_phones) == set(own.long)
    assert set(own.whole.names) == set(a.header.phones) and len(own) > len(a.header.phones)
    used = [{own.whole_ids[phone] for phone, _ in of} for of in tree.pdf_phone_state()]
    assert len(used) == a.header.num_classes
    for utt in a.utts[:20]:
        labels, phones = a.labels(utt), a.frame_phones(utt)
        assert all(p in used[k] for k, p in zip(labels, phones, strict=True))
        assert {i.name for i in a.phones[utt]} <= set(a.header.phones)
        runs = [a.header.phones[p] for p, _ in itertools.groupby(phones)]
        listed = [n for n, _ in itertools.groupby(i.name for i in a.phones[utt])]
        assert runs == listed


def test_a_model_without_halves_stays_without(trained, spoken, few, tmp_path):
    o = from_dict({**TINY, "passes": ["mono"], "long_phones": "none",
                   "lexicon": str(spoken / "lexicon.txt")})  # fmt: skip
    session = train_aligner(few(40), tmp_path / "w", o, map, quiet)
    folder = save_model(session, tmp_path / "m", "mono", few(40)).folder
    about = json.loads((folder / "model.json").read_text())
    for key in ("long_phones", "times"):  # a folder from before there were these options
        del about["options"][key]
    del about["times"]
    (folder / "model.json").write_text(json.dumps(about))
    found, _ = apply_aligner(load(folder), few(10), tmp_path / "a", tmp_path / "w2", map, quiet)
    assert found.utts and found.header.long_phones == ()


@pytest.fixture
def shards_of_4(monkeypatch):
    monkeypatch.setattr(corpus, "SHARD_FRAMES", 700)


def train(data, spoken, work, map_fn=map, **more):
    o = from_dict({**TINY, "lexicon": str(spoken / "lexicon.txt"), **more})
    session = train_aligner(data, work, o, map_fn, quiet)
    out = work.parent / f"{work.name}.{'-'.join(o.passes)}"
    write_pass(session, o.passes[-1], out, data)
    return session, content(out)


def test_processes_change_nothing_and_the_seed_decides(few, spoken, tmp_path, shards_of_4):
    data = few(16)
    one, first = train(data, spoken, tmp_path / "one")
    assert one.corpus.shards >= 4  # fewer would stay in this process
    executor = Local(2)
    train(data, spoken, tmp_path / "two", executor.map, passes=["mono"])
    assert executor._pool is not None
    executor.close()
    _, again = train(data, spoken, tmp_path / "again")
    _, other = train(data, spoken, tmp_path / "other", seed=2)
    assert again == first and other != first
    for i in range(one.corpus.shards):
        a, b = (segfile.load(tmp_path / w / "mono/segs" / f"{i}.npz") for w in ("one", "two"))
        assert list(a) == list(b)
        assert all(a[u].durations.tolist() == b[u].durations.tolist() for u in a)
        assert [a[u].loglik for u in a] == [b[u].loglik for u in a]


class KilledAt:
    """A map that kills its process at the start of a job."""

    def __init__(self, number):
        self.left = number

    def __call__(self, fn, jobs):
        for job in jobs:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            yield fn(job)


def test_a_killed_training_goes_on_and_ends_the_same(few, spoken, tmp_path, shards_of_4):
    data, work = few(12), tmp_path / "work"
    session, whole = train(data, spoken, tmp_path / "whole")
    n, last = session.corpus.shards, []
    # The flat start; the first pass anew, in its middle; the second one; that one again.
    for number in (3, 4 * n, 10 * n + 2, 2 * n + 2):
        child = os.fork()
        if child == 0:
            try:
                train(data, spoken, work, KilledAt(number))
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        last.append(os.WIFSIGNALED(status))
    assert all(last)
    session, resumed = train(data, spoken, work)
    assert resumed == whole
    assert session.reused == ["mono"]
    session, resumed = train(data, spoken, work)
    assert session.reused == ["mono", "tri"] and resumed == whole
    assert not [p for p in work.rglob("*") if ".tmp" in p.name]


def test_options_repeat_only_the_passes_they_concern(few, spoken, tmp_path):
    data, work = few(8), tmp_path / "work"
    train(data, spoken, work)
    for more, reused in (
        ({"textgrid": True}, ["mono", "tri"]),
        ({"tri": {**TINY["tri"], "leaves": 148}}, ["mono"]),
        ({"sil_prob": 0.4}, []),
    ):
        assert train(data, spoken, work, **more)[0].reused == reused, more
    (work / "tri/done.json").write_text("{")
    assert train(data, spoken, work, sil_prob=0.4)[0].reused == ["mono"]
    moved = tmp_path / "moved"
    os.replace(work, moved)
    session, _ = train(data, spoken, moved, sil_prob=0.4)
    assert session.reused == ["mono", "tri"]
    assert save_model(session, tmp_path / "model", "tri", data).final == "tri"


def test_utterances_beyond_those_of_the_first_pass_are_aligned_too(few, spoken, tmp_path):
    data = few(8)
    o = {"mono": {**TINY["mono"], "max_utterances": 3}, "passes": ["mono"]}
    session, _ = train(data, spoken, tmp_path / "work", **o)
    assert len(AlignmentDir(tmp_path / "work.mono").utts) == 8
    assert session.reports[0]["aligned"] == 8


def test_a_finished_pass_is_forgotten_before_its_files_go(trained, tmp_path, monkeypatch):
    work = tmp_path / "work"
    shutil.copytree(trained.root / "work/mono", work / "mono")
    session = type(trained.session)(work, trained.session.corpus, trained.options, map, quiet)
    monkeypatch.setattr(shutil, "rmtree", lambda *a, **k: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        session.fresh_folder("mono")
    assert not (work / "mono/done.json").exists()


def test_frames_of_5_ms(few, spoken, tmp_path):
    """Times keep their unit, and the shortest phone takes half as long."""
    options = {**TINY, "lexicon": str(spoken / "lexicon.txt"), "frame_shift_ms": 5}
    data, work = few(40), tmp_path / "work"
    lines = []
    session = train_aligner(data, work, from_dict(options), map, lines.append)
    seconds = sum(soundfile.info(p).duration for p in read_table(data / "wav.scp").values())
    told = next(line for line in lines if "minutes" in line)
    assert float(told.split()[2]) == pytest.approx(seconds / 60, abs=0.11)
    model = save_model(session, tmp_path / "model", "tri", data)
    found, _ = apply_aligner(model, spoken / "test", tmp_path / "a", tmp_path / "w", map, quiet)
    header = found.header
    assert (header.frame_shift_s, header.first_frame_centre_s) == (0.005, 0.0025)
    utt = found.utts[0]
    assert found.phones[utt][-1].end_s == pytest.approx(0.005 * len(found.labels(utt)))
    phones = compare(found, spoken / "manifest.jsonl").as_json()["boundaries"]["phones"]
    assert phones["median_abs_ms"] < 15 and abs(phones["median_ms"]) < 6
    shortest = min(p.end_s - p.start_s for rows in found.phones.values() for p in rows)
    assert 0.009 < shortest < 0.019  # three frames, of which edges of silence take a third
    assert report_extra(session)["skipped_s"] == {}


def test_speakers_of_any_name_have_transforms(few, spoken, trained, tmp_path):
    data = few(4)
    tables = [read_table(data / t) for t in ("wav.scp", "text")]
    names = iter(["path", "file", "Zoë/ß.npy", "speakers"])
    write_set(data, {u: (a, tables[1][u], next(names)) for u, a in tables[0].items()})
    found, _ = apply_aligner(
        trained.models["sat"], data, tmp_path / "a", tmp_path / "w", map, quiet
    )
    assert len(found.utts) == 4
    front = np.load(tmp_path / "w/fmllr/0.npz", allow_pickle=False)
    assert set(front["speakers"]) == {"path", "file", "Zoë/ß.npy", "speakers"}


@pytest.mark.parametrize("count", [1, 2])
def test_very_small_corpora_go_through_all_passes(few, spoken, trained, tmp_path, count):
    data = few(count)
    session = train_aligner(
        data, tmp_path / "w", from_dict({**trained.given, "hybrid": {"epochs": 1, "units": 8}}),
        map, quiet,
    )  # fmt: skip
    for name in session.models:
        assert len(write_pass(session, name, tmp_path / name, data).utts) == count


def test_the_report_tells_how_far_passes_agree(trained):
    session = trained.session
    agreement, own = report_extra(session)["agreement"], session.corpus.pronunciations.phone_set()
    passes = session.options.passes
    assert list(agreement) == [f"{a}, {b}" for a, b in itertools.pairwise(passes)]
    segs = [
        {u: x.whole(own) for i in range(session.corpus.shards)
         for u, x in segfile.load(session.folder(name) / "segs" / f"{i}.npz").items()}
        for name in passes[:2]
    ]  # fmt: skip
    equal = [
        p == q
        for utt in segs[0].keys() & segs[1].keys()
        for p, q in zip(segs[0][utt].frame_phones(), segs[1][utt].frame_phones(), strict=True)
    ]
    first = agreement[f"{passes[0]}, {passes[1]}"]
    assert first["phones"] == pytest.approx(sum(equal) / len(equal), abs=1e-4)
    assert 0.5 < first["phones"] < first["words"] <= 1
