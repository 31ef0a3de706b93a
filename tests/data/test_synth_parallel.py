# SPDX-License-Identifier: Apache-2.0
"""The corpus of several languages: what may not be shared is not, what must be is."""

import csv
import importlib.util
import os
import subprocess
import sys
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

import espnet_ext
from espnet_ext.data import slu_manifest
from espnet_ext.data.synth.espeak import Espeak
from espnet_ext.data.synth.grammar import Grammar
from espnet_ext.data.synth.parallel import make_parallel
from espnet_ext.data.synth.parallel_sets import Choice, ParallelRequest, frame_labels, sets_of
from espnet_ext.data.tables import read_table
from espnet_ext.errors import UsageError
from espnet_ext.files import write_json
from espnet_ext.text import tagged

pytest.importorskip("espeakng_loader")
ROOT = Path(espnet_ext.__file__).parents[1]
TINY = ParallelRequest(minutes=0.3, pool_minutes=0.6, dev_utts=4, test_utts=5, pool_dev_utts=2)
TABLES = ("wav.scp", "text", "plain", "utt2spk", "utt2lang", "meaning")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel") / "data"
    make_parallel(folder, TINY, lambda line: None)
    return folder


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def table(folder, name, file):
    return read_table(folder / name / file)


def meanings(folder, names):
    return {m for name in names for m in table(folder, name, "meaning").values()}


def texts(path):
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f, delimiter="\t"))


def test_sets_have_the_names_that_recipes_use():
    assert set(sets_of(ParallelRequest())) == {
        "pool", "pool_dev", *(f"{part}_{group}" for part in ("train", "dev", "test")
                              for group in ("fr", "it", "ar", "fr_it")),
        "train_ar_05", "train_ar_10", "train_ar_25", "train_ar_50",
        *(f"train_{group}_{share}" for group in ("fr", "it", "fr_it") for share in (25, 50)),
    }  # fmt: skip


def test_tables_of_a_set_have_the_same_utterances_with_tags_in_balance(corpus):
    for name in sets_of(TINY):
        first, *others = (table(corpus, name, file) for file in TABLES)
        assert first and all(list(first) == list(other) for other in others)
        for utt, text in table(corpus, name, "text").items():
            tagged.check(text)
            assert tagged.plain(text) == table(corpus, name, "plain")[utt]
            language = table(corpus, name, "utt2lang")[utt]
            assert utt.startswith(table(corpus, name, "utt2spk")[utt]) and utt[:2] == language
            assert Path(first[utt]).is_file()
        languages = set(table(corpus, name, "utt2lang").values())
        assert languages == set(sets_of(TINY)[name].languages)


def test_no_meaning_and_no_speaker_crosses_from_training_to_dev_or_test(corpus):
    sets = sets_of(TINY)
    taught = meanings(corpus, [n for n in sets if n.startswith("train") or n == "pool"])
    taught |= {row["meaning"] for row in texts(corpus / "parallel.tsv")}
    dev, test = (
        {n: meanings(corpus, [n]) for n in sets if n.startswith(p)} for p in ("dev", "test")
    )
    for held in (dev, test):
        assert len({frozenset(m) for m in held.values()}) == 1  # the same in all languages
    held = dev["dev_fr"] | test["test_fr"]
    assert not dev["dev_fr"] & test["test_fr"] and not taught & held
    assert not meanings(corpus, ["pool_dev"]) & (taught | held)
    assert {row["meaning"] for row in texts(corpus / "candidates.tsv")} == held
    heard = {n: set(table(corpus, n, "utt2spk").values()) for n in sets}
    training = {s for n in sets if n.startswith("train") or n == "pool" for s in heard[n]}
    for part in ("dev", "test"):
        others = {s for n in sets if n.startswith(part) for s in heard[n]}
        assert others and not training & others
    assert not heard["dev_fr"] & heard["test_fr"]
    assert not heard["pool_dev"] & set().union(*(heard[n] for n in sets if n != "pool_dev"))


def test_tables_of_texts_have_every_language_and_what_is_said(corpus):
    rows = texts(corpus / "candidates.tsv")
    assert list(rows[0]) == ["meaning", "language", "text"]
    by_meaning = {}
    for row in rows:
        assert "<" not in row["text"] and ">" not in row["text"]
        by_meaning.setdefault(row["meaning"], set()).add(row["language"])
    assert all(languages == {"en", "fr", "it", "ar"} for languages in by_meaning.values())
    known = {(row["meaning"], row["language"], row["text"]) for row in rows}
    for name in ("dev_fr_it", "test_ar"):
        columns = (table(corpus, name, file) for file in ("meaning", "utt2lang", "plain"))
        assert set(zip(*(c.values() for c in columns), strict=True)) <= known


def test_the_manifest_has_every_utterance_and_is_read_by_its_reader(corpus):
    rows = {row.id: row for row in slu_manifest.read(corpus / "manifest.tsv")}
    sets = sets_of(TINY)
    said = {u: t for name in sets for u, t in table(corpus, name, "text").items()}
    assert {u: row.tagged for u, row in rows.items()} == said
    for name in ("pool", "test_ar"):
        audio = table(corpus, name, "wav.scp")
        assert {u for u, row in rows.items() if sets[name].part == row.set
                and row.language in sets[name].languages} == set(audio)  # fmt: skip
        assert all(os.path.samefile(rows[u].audio, path) for u, path in audio.items())


def test_shares_are_nested_and_of_the_named_size():
    rows = [{"split": "train", "language": "ar", "order": 199 - i} for i in range(200)]
    taken = [Choice("train", ("ar",), p).take(rows) for p in (5, 10, 25, 50, 100)]
    orders = [{r["order"] for r in t} for t in taken]
    assert orders[:4] == [set(range(n)) for n in (10, 20, 50, 100)] and len(taken[4]) == 200
    assert len(Choice("train", ("ar",), 5).take(rows[:3])) == 1
    assert not Choice("train", ("fr",), 5).take(rows)
    rows += [{"split": "train", "language": "it", "order": i} for i in range(40)]
    both = Choice("train", ("ar", "it"), 25).take(rows)
    assert [r for r in both if r["language"] == "ar"] == taken[2]
    assert [r for r in both if r["language"] == "it"] == Choice("train", ("it",), 25).take(rows)


def test_phones_tile_each_utterance_and_fit_its_sound(corpus):
    names = (corpus / "phones.txt").read_text(encoding="utf-8").splitlines()
    assert names[0] == "SIL" and len(set(names)) == len(names)
    for name in ("pool", "pool_dev"):
        audio, phones = table(corpus, name, "wav.scp"), table(corpus, name, "phones")
        assert list(audio) == list(phones)
        for utt, line in phones.items():
            labels = np.array(line.split(), dtype=int)
            samples, _ = soundfile.read(audio[utt])
            assert len(labels) == -(-len(samples) // 160) and labels.max() < len(names)
            assert labels[0] == labels[-1] == 0
            power = np.array([np.mean(samples[i * 160 : (i + 1) * 160] ** 2)
                              for i in range(len(labels))])  # fmt: skip
            assert power[labels > 0].mean() > 10 * power[labels == 0].mean()
    assert not (corpus / "train_fr/phones").exists()


def test_ctc_has_frames_for_every_character_at_40_ms(corpus):
    for name in sets_of(TINY):
        for utt, text in table(corpus, name, "text").items():
            symbols = []
            for word in text.split():
                symbols += [*([word] if word[0] in "<>" else word), " "]
            symbols.pop()
            need = len(symbols) + sum(a == b for a, b in pairwise(symbols))
            samples = soundfile.info(table(corpus, name, "wav.scp")[utt]).frames
            assert samples / 640 - 2 >= need, (utt, text)  # 2: ESPnet's convolutions do not pad


@pytest.mark.parametrize(
    ("language", "family"), [*((x, "travel") for x in ("en", "fr", "it", "ar")), ("en", "orders")]
)
def test_no_word_is_read_as_an_abbreviation(language, family):
    grammar, espeak = Grammar(language, family), Espeak()
    todo = grammar.vocabulary()
    for sentence in grammar.draw(np.random.default_rng(1)):
        if not todo & set(sentence.text.split()):
            continue
        spoken = espeak.synthesize(sentence.text, voice=grammar.speakers["train"][0].voice)
        for word in spoken.words:
            phones = [p for p in spoken.phones if word.start_s <= p.start_s < word.end_s]
            # an Arabic "km" was read as nine phones of "kilometre"; short vowels are not written
            assert len(word.label) / 4 <= len(phones) <= 2 * len(word.label) + 2, word.label
        todo -= set(sentence.text.split())
        if not todo:
            return
    raise AssertionError(f"never said: {todo}")


def test_a_frame_has_the_phone_at_its_centre():
    ids = {"SIL": 0, "a": 1, "b": 2}
    phones = [("SIL", 0.0, 0.02), ("a", 0.02, 0.035), ("b", 0.035, 0.052)]
    assert frame_labels(phones, 0.052, ids) == [0, 0, 1, 2, 2, 2]
    assert frame_labels(phones[:2], 0.035, ids) == [0, 0, 1, 1]


def test_another_process_makes_the_same_and_a_second_run_makes_nothing(corpus):
    recipe = ROOT / "egs2/synth/dual_task1"
    out = corpus.parent / "elsewhere" / "data"
    options = ["--minutes=0.3", "--pool-minutes=0.6", "--dev-utts=4", "--test-utts=5"]
    options += ["--pool-dev-utts=2", "--teacher-steps=0"]
    command = ["bash", "local/data.sh", str(out), *options]
    env = dict(os.environ, PYTHON=sys.executable, PYTHONHASHSEED="7", PYTHONPATH=str(ROOT))

    def run():
        return subprocess.run(
            command, cwd=recipe, env=env, check=True, capture_output=True, text=True
        ).stdout

    first = run()
    assert "train_ar_05: " in first and "up to date" not in first
    assert not (out / "sentence_encoder").exists()
    for path in corpus.rglob("*"):
        if path.is_file() and path.name != "wav.scp":
            assert (out / path.relative_to(corpus)).read_bytes() == path.read_bytes(), path
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert "up to date" in run()
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def test_the_recipe_trains_its_sentence_encoder_once_and_again_for_other_settings(
    tmp_path, monkeypatch
):
    from espnet_ext.text import parallel

    data = module(ROOT / "egs2/synth/dual_task1/local/data.py")
    made = []

    def make(table, out, dev, args, say):
        made.append((table.name, dev.name, args.steps))
        write_json(out / parallel.RECORD, {"args": asdict(args)})

    monkeypatch.setattr(parallel, "make", make)
    for steps in (3, 3, 4):
        data.teach(tmp_path, parallel.ParallelArgs(steps=steps))
    assert made == [("parallel.tsv", "candidates.tsv", 3), ("parallel.tsv", "candidates.tsv", 4)]


def test_more_speech_leaves_the_earlier_as_it_is(corpus, tmp_path):
    said = []
    more = replace(TINY, minutes=0.4, pool=("fr",), languages=("fr",), joint=(), shares=())
    make_parallel(tmp_path / "data", more, said.append)
    few, many = (table(f, "train_fr", "text") for f in (corpus, tmp_path / "data"))
    assert len(many) > len(few) and few.items() <= many.items()
    assert any(line.startswith("train fr: 0.4") for line in said)


@pytest.mark.parametrize(
    "wrong", [{"minutes": 0}, {"dev_utts": 0}, {"test_utts": 700}, {"seed": -1}]
)
def test_sizes_out_of_range_are_usage_errors(tmp_path, wrong):
    with pytest.raises(UsageError):
        make_parallel(tmp_path / "data", replace(TINY, **wrong), lambda line: None)
    assert not (tmp_path / "data").exists()
