# SPDX-License-Identifier: Apache-2.0
"""Order of the training batches: ascending, at random, and drawn by language."""

import argparse

import numpy as np
import pytest

from espnet_ext.dual_task import batches
from espnet_ext.dual_task.options import resolve
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet import fastimport

fastimport.enable()

LENGTHS = {f"fr{i}": 100 + i for i in range(80)} | {f"it{i}": 90 + 2 * i for i in range(20)}
LANGUAGES = {u: u[:2] for u in LENGTHS}


def test_probabilities_are_those_of_the_formula():
    shares = {"fr": 0.8, "it": 0.2}
    for alpha in (0.0, 0.05, 0.7, 1.0):
        p = batches.probabilities([LANGUAGES[u] for u in LENGTHS], alpha)
        whole = sum(n**alpha for n in shares.values())
        assert p.sum() == pytest.approx(1)
        for language, first in (("fr", 0), ("it", 80)):
            count = 80 if language == "fr" else 20
            assert p[first] == pytest.approx(shares[language] ** alpha / whole / count)


def test_drawn_batches_repeat_by_seed_and_balance_the_languages():
    sampler = batches.LanguageSampler(LENGTHS, LANGUAGES, 0.0, 8, False)
    drawn = [sampler.generate(seed) for seed in range(40)]
    assert drawn[3] == sampler.generate(3) != drawn[4]
    assert all(sum(map(len, epoch)) == len(LENGTHS) for epoch in drawn)
    italian = np.mean([u.startswith("it") for epoch in drawn for b in epoch for u in b])
    assert 0.48 < italian < 0.52  # 0.2 of the utterances
    kept = batches.LanguageSampler(LENGTHS, LANGUAGES, 1.0, 8, False)
    share = np.mean([u.startswith("it") for s in range(40) for b in kept.generate(s) for u in b])
    assert 0.17 < share < 0.23


def test_processes_share_each_batch_and_ascending_is_ascending():
    whole = batches.LanguageSampler(LENGTHS, LANGUAGES, 0.5, 8, True).generate(5)
    parts = [
        batches.LanguageSampler(LENGTHS, LANGUAGES, 0.5, 8, True, rank, 2).generate(5)
        for rank in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(b) for b in whole]
    lengths = [LENGTHS[u] for batch in whole for u in batch]
    assert lengths == sorted(lengths)


def test_languages_are_read_from_data_where_dump_has_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ("data", "dump"):
        (tmp_path / part / "train").mkdir(parents=True)
    (tmp_path / "data/train/utt2lang").write_text("a fr\nb it\n")
    found = batches.read_languages(tmp_path / "dump/train", {"a": 1, "sp0.9-b": 2})
    assert found == {"a": "fr", "sp0.9-b": "it"}
    with pytest.raises(DataError, match="the language of c is not known"):
        batches.read_languages(tmp_path / "dump/train", {"a": 1, "c": 2})
    with pytest.raises(DataError, match="not known"):
        batches.read_languages(tmp_path / "dump/other", {"a": 1})


def test_types_of_batches_that_have_no_order_are_refused():
    def check(batch_type, **section):
        args = argparse.Namespace(batch_type=batch_type, sort_batch="", sort_in_batch="")
        batches.check(args, resolve(section))
        return args

    assert check("sorted", sort="ascending").sort_batch == "ascending"
    with pytest.raises(UsageError, match="no ascending order"):
        check("unsorted", sort="ascending")
    with pytest.raises(UsageError, match="re-balanced by utterance"):
        check("numel", rebalance_alpha=0.05)


def test_training_reads_the_batches_in_ascending_order_each_epoch(dual_argv, tmp_path, monkeypatch):
    from espnet_ext.dual_task.task import DualTask
    from espnet_ext.espnet import train

    seen = []
    forward = DualTask.build_model.__func__

    def noting(cls, args):
        model = forward(cls, args)
        model.register_forward_pre_hook(
            lambda module, _, kwargs: seen.append(kwargs["speech_lengths"].tolist())
            if module.training else None,
            with_kwargs=True,
        )  # fmt: skip
        return model

    monkeypatch.setattr(DualTask, "build_model", classmethod(noting))
    argv = [*dual_argv, "--dual_task", "sort=ascending", "--max_epoch", "2"]
    train.run("espnet_ext.dual_task.task:DualTask", [*argv, "--output_dir", str(tmp_path / "e")])
    assert seen[:3] == seen[3:] and sum(map(len, seen[:3])) == 12
    assert [max(b) for b in seen[:3]] == sorted(max(b) for b in seen[:3])
    assert max(seen[0]) <= min(seen[1]) and max(seen[1]) <= min(seen[2])
