# SPDX-License-Identifier: Apache-2.0
"""Two and four gloo processes with uneven batches: one step as ESPnet's trainer does it."""

import math
import multiprocessing
from functools import partial

import pytest
import torch
import torch.distributed as dist

from espnet_ext.espnet import train


@pytest.fixture
def make(bl_argv):
    def build(*conf):
        from espnet_ext.bl_just.task import BLJustTask

        argv = [*bl_argv, "--output_dir", "unused", "--specaug", "none"]
        conf = (*conf, "wav2vec2={mask_length_s: 0.16}")
        argv += [x for option in conf for x in ("--bl_just", option)]
        torch.manual_seed(0)
        model = BLJustTask.build_model(train.parse(BLJustTask, argv)).train()
        model.ctc.ctc_lo.bias.data[2:5] += 5
        return model

    return build


def batch(rank):
    """``rank + 1`` labelled utterances; the unlabelled ones of rank 0 are all too short."""
    draw = torch.Generator().manual_seed(rank)
    count = rank + 1
    lengths = torch.arange(16000, 16000 - 800 * count, -800)
    text = {"text": torch.randint(2, 5, (count, 4), generator=draw)}
    text["text_lengths"] = torch.full((count,), 4)
    speech = 0.1 * torch.randn(count, 16000, generator=draw)
    n = 16000 if rank else 1600
    second = {"u_speech": speech[:, :n].clone(), "u_speech_lengths": lengths.clamp(max=n)}
    return {"speech": speech, "speech_lengths": lengths, **text, **second}


def work(model, kind, folder, rank, size):
    """What the trainer does in a step; the sum over processes is written by each."""
    from espnet2.torch_utils.recursive_op import recursive_average

    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=size)
    shared = torch.nn.parallel.DistributedDataParallel(model, find_unused_parameters=True)
    torch.manual_seed(1)
    out = shared(**batch(rank), step={"kind": kind, "gamma": 0.3, "measure": False})
    own = {k: float(v) for k, v in out["stats"].items() if v is not None}
    given = {k: v for k, v in out["stats"].items() if v is not None}
    loss = (out["loss"] * out["weight"].float()).sum()
    stats, weight = recursive_average(given, out["weight"], True)
    (loss / weight * size).backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    told = {"own": own, "mean": {k: float(v) for k, v in stats.items()}, "grads": grads}
    torch.save(told, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("kind", "conf"),
    [
        ("joint", "unsup_loss=cpc"), ("explore", "unsup_loss=best_rq"),
        ("pseudo", "schedule=pseudo_label"),
    ],
)  # fmt: skip
def test_uneven_processes_agree(make, kind, conf, size, tmp_path):
    import espnet2.torch_utils.recursive_op  # noqa: F401  (before the processes fork)

    target = partial(work, make(conf), kind, tmp_path)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=target, args=(rank, size)) for rank in range(size)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [p.exitcode for p in processes] == [0] * size
    told = [torch.load(tmp_path / f"{rank}.pt") for rank in range(size)]
    weights = [rank + 1 for rank in range(size)]
    for name, mean in told[0]["mean"].items():
        assert all(t["mean"][name] == pytest.approx(mean, nan_ok=True) for t in told)
        values = [t["own"][name] for t in told]
        if not any(map(math.isnan, values)):
            expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
            assert mean == pytest.approx(expected, rel=1e-4), name
    if kind != "pseudo":
        assert told[0]["own"]["unsup_queries"] == 0 and told[1]["own"]["unsup_queries"] > 0
    for other in told[1:]:
        assert told[0]["grads"].keys() == other["grads"].keys()
        for name, grad in told[0]["grads"].items():
            torch.testing.assert_close(grad, other["grads"][name], msg=name)
