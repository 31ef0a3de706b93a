# SPDX-License-Identifier: Apache-2.0
"""Two gloo processes train the dual schedule, with a draw balanced by language each epoch."""

import json

from children import train_in_two

from espnet_ext.espnet import checkpoint


def test_two_processes_train_every_part(dual_argv, tmp_path):
    out = tmp_path / "exp"
    argv = [*dual_argv, "--dual_task", "rebalance_alpha=0.5", "--output_dir", str(out)]
    argv += ["--max_epoch", "2", "--keep_nbest_models", "2"]
    train_in_two("espnet_ext.dual_task.task:DualTask", argv)
    first, second = (checkpoint.load(out / f"{n}epoch.pth") for n in (1, 2))
    parts = {k.split(".")[0] for k, v in first.items() if not v.equal(second[k])}
    assert parts == {"encoder", "pooling", "slu", "ctc"}
    spent = json.loads((out / "spent.json").read_text())
    assert [epoch["updates"] for epoch in spent.values()] == [3, 3]
