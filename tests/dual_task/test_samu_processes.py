# SPDX-License-Identifier: Apache-2.0
"""L_samu of two gloo processes that share a batch unevenly: as one process has it."""

from types import SimpleNamespace

import pytest
import torch
from torch import distributed, multiprocessing

from espnet_ext.dual_task import model
from espnet_ext.dual_task.options import DualTaskConf
from espnet_ext.dual_task.samu_loss import samu_loss, whole_batch

B, PARTS = 5, (slice(0, 4), slice(4, 5))


def _vectors():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(B, 3, generator=generator, dtype=torch.float64) for _ in range(2)]


def _share(rank, folder, reduce):
    """Compute the gradient of this process and weight it as ESPnet and DDP do together."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    e, y = _vectors()
    e.requires_grad_()
    own, target = e[PARTS[rank]], y[PARTS[rank]]
    total = whole_batch(len(own), own.device)
    loss, _ = samu_loss(own, target, 50, reduce, total)
    (loss * len(own) / total).backward()
    distributed.all_reduce(e.grad)
    torch.save(e.grad, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_two_processes_have_the_gradient_of_one(reduce, tmp_path):
    multiprocessing.spawn(_share, (str(tmp_path), reduce), nprocs=2)
    e, y = _vectors()
    e.requires_grad_()
    samu_loss(e, y, 50, reduce)[0].backward()
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, e.grad)


@pytest.mark.parametrize(("reduce", "wanted"), [("sum", 2 * 9), ("mean", 2)])
def test_the_model_scales_its_sum_by_the_whole_batch(reduce, wanted, monkeypatch):
    monkeypatch.setattr(model, "whole_batch", lambda count, device: count + 6)
    conf = DualTaskConf(samu_scale=2, samu_reduce=reduce)
    half = SimpleNamespace(dual_conf=conf, embed=lambda encoded, lengths: encoded)
    e, y = torch.eye(4)[:3], torch.eye(4)[1:]  # d = 1 of each of three
    stats = {}
    assert model.DualTaskModel._samu(half, e, torch.ones(3), y, stats) == wanted
    assert stats["samu"] == 1
