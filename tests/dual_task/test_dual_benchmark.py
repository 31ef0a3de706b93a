# SPDX-License-Identifier: Apache-2.0
"""The benchmark runs and compares what it says; no time is asserted."""

import json

import pytest
import torch


@pytest.fixture(scope="module")
def benchmark(load_benchmark):
    module = load_benchmark("dual_task_step")
    module.prepare_espnet()
    return module


def test_tables_of_steps_and_batches(benchmark, capsys):
    assert benchmark.main(["--quick", "--json", "--only", "step", "batches"]) == 0
    tables = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(tables["step"]) == 1 and {"ratio", "lookup ms"} <= tables["step"][0].keys()
    ascending, random, by_length = tables["batches"]
    assert ascending["ratio"] == 1 and random["updates"] == ascending["updates"]
    share = "audio: computed / real"
    assert 1 <= by_length[share] < random[share] and 1 <= ascending[share] < random[share]
    assert by_length["largest batch s"] < ascending["largest batch s"]


def test_both_sides_are_the_same_model_and_batch_but_for_the_loss(benchmark, tmp_path):
    dual, slu = (benchmark.set_up(tmp_path, "tiny", s) for s in ("dual", "slu"))
    state = slu.model.state_dict()
    assert dual.model.state_dict().keys() == state.keys()
    assert all(torch.equal(x, state[name]) for name, x in dual.model.state_dict().items())
    batch = benchmark.make_batch([1.0, 0.7], 8)
    torch.manual_seed(2)
    _, both, _ = dual.model(**batch)
    torch.manual_seed(2)  # the same dropout
    _, one, _ = slu.model(**{k: x for k, x in batch.items() if k != "sentence"})
    assert {"samu", "ctc"} <= both.keys() and "samu" not in one
    assert torch.allclose(both["ctc"], one["ctc"])
    before = {n: p.detach().clone() for n, p in dual.model.named_parameters()}
    dual.step(batch)
    changed = {n.split(".")[0] for n, p in dual.model.named_parameters() if not p.equal(before[n])}
    assert changed == {"encoder", "pooling", "slu", "ctc"}


def test_the_peak_of_a_step_is_measured(benchmark):
    """Of a step that takes 380 MB in a new process; what tests before have freed is used again."""
    resting, peak, times = benchmark.memory_case("tiny", False, 20.0, 4, 2)
    assert peak > 50 and resting > -50 and len(times) == 2
