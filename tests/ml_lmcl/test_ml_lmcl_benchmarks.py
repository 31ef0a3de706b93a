# SPDX-License-Identifier: Apache-2.0
"""The benchmarks run and compare what they say; no time is asserted.

They themselves compare the results of what they time: all texts in one forward against several.
"""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def benchmarks(load_benchmark):
    """The three modules: step, batches, memory."""
    return [load_benchmark(f"ml_lmcl_{name}") for name in ("step", "batches", "memory")]


@pytest.fixture(scope="module")
def corpus(benchmarks, tmp_path_factory):
    step = benchmarks[0]
    folder = tmp_path_factory.mktemp("encoder") / "tiny"
    return step.make_corpus(folder, "tiny", step.sentences(None, 40))


def rows(capsys, module, *argv):
    """Run a benchmark; return its rows by table."""
    assert module.main(["--quick", "--json", *argv]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_tables_of_a_step(benchmarks, capsys):
    tables = rows(capsys, benchmarks[0])
    assert len(tables["step"]) == 1 and {"ratio", "refresh % of epoch"} <= tables["step"][0].keys()
    assert [r["labels"] for r in tables["terms"]] == ["atis"] * 4 + ["slurp"] * 4


def test_tables_of_batches(benchmarks, capsys):
    tables = rows(capsys, benchmarks[1])
    (padding,) = tables["padding"]
    ways = [padding[f"{way}: computed / real"] for way in ("buckets", "groups", "random")]
    assert min(ways[:2]) >= 1 and max(ways[:2]) < ways[2]
    assert [r["dropout"] for r in tables["stacked"]] == ["off", "on"]
    assert len(tables["stage1"]) == 1


def test_one_side_of_a_step_has_all_terms_the_other_cross_entropy_alone(
    benchmarks, corpus, monkeypatch
):
    stage2, seen = benchmarks[0].Stage2(corpus, {}), []
    chosen = corpus.batches(8)[0]
    plain = stage2.network.loss

    def spy(*args):
        seen.append(plain(*args))
        return seen[-1]

    monkeypatch.setattr(stage2.network, "loss", spy)
    for full in (True, False):
        stage2.step(chosen, corpus.batch(chosen), full)
    (_, all_terms), (loss, terms) = seen
    assert set(all_terms) == {"ce", "mutual", "contrastive", "distillation"}
    assert set(terms) == {"ce"} and torch.equal(loss, terms["ce"])


def test_parameters_by_preset(benchmarks, corpus):
    """Two classifiers weigh twice as much as one; the process' peak cannot be below nothing."""
    weigh = benchmarks[2].memory_case
    both, one = (weigh(corpus, {"preset": p}, 8, 2) for p in ("ml_lmcl", "ce_asr"))
    assert both[0] == pytest.approx(2 * one[0]) and min(both[1], one[1]) >= 0
