# SPDX-License-Identifier: Apache-2.0
"""A training killed by -9 in any phase ends in the same bits; epochs are read without state."""

import json
import os
import random
import signal

import pytest
import torch
from children import assert_same_end, equal, in_child
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.espnet import checkpoint, fastimport, train, trainer

fastimport.enable()

from espnet_ext.bl_just.options import resolve  # noqa: E402
from espnet_ext.bl_just.schedule import make_schedule  # noqa: E402
from espnet_ext.bl_just.streams import ScheduledIterFactory  # noqa: E402

TASK = "espnet_ext.bl_just.task:BLJustTask"
COUNTS = ("epochs", "batches", "updates", "labelled_batches", "unlabelled_batches", "passes")


def _train(argv, out, *more):
    train.run(TASK, [*argv, *more, "--output_dir", str(out)])


def _killed_in(argv, out, epoch, kind):
    """Die before the second batch of a kind is handed out, in an epoch of this process."""

    class Killer(trainer.WaitTimer):
        epochs = 0

        def __iter__(self):
            Killer.epochs += 1
            seen = 0
            for item in super().__iter__():
                seen += item[1]["step"]["kind"] == kind
                if Killer.epochs == epoch and seen == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield item

    trainer.WaitTimer = Killer
    _train(argv, out)


def _killed_after_epoch(argv, out):
    """Die right after the first checkpoint of this process."""
    write = checkpoint._plain_save

    def save(obj, path, *args, **kwargs):
        write(obj, path, *args, **kwargs)
        if checkpoint.CHECKPOINT in os.path.basename(os.fspath(path)):
            os.rename(path, out / checkpoint.CHECKPOINT)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint._plain_save = save
    _train(argv, out)


@pytest.fixture(scope="module")
def reference(bl_argv, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "exp"
    assert in_child(_train, bl_argv, out) == 0
    return out


def _same_end(out, reference):
    assert_same_end(out, reference)
    for name in ("3epoch.pth", "valid.acc.ave.pth"):
        assert equal(*(checkpoint.load(p / name) for p in (out, reference)))
    ours, whole = (json.loads((p / "phase.json").read_text()) for p in (out, reference))
    assert {k: ours[k] for k in COUNTS} == {k: whole[k] for k in COUNTS}
    assert all(whole[k] for k in COUNTS)


def test_seeds_matter(reference, bl_argv, tmp_path):
    """Otherwise the comparisons below would prove nothing."""
    assert in_child(_train, bl_argv, tmp_path, "--seed", "4") == 0
    ours, other = (checkpoint.load(p / "3epoch.pth") for p in (reference, tmp_path))
    assert not any(torch.equal(x, other[n]) for n, x in ours.items() if n.endswith("weight"))


def test_killed_in_each_phase(reference, bl_argv, tmp_path):
    """Each start goes on after the last whole epoch, gets farther, and is killed again."""
    starts = [(1, "explore"), (1, "joint"), (2, "explore"), (1, "joint"), (2, "final")]
    for epoch, kind in starts:
        assert in_child(_killed_in, bl_argv, tmp_path, epoch, kind) == -signal.SIGKILL, kind
        assert not (tmp_path / "valid.acc.ave.pth").exists()
    assert in_child(_train, bl_argv, tmp_path) == 0
    _same_end(tmp_path, reference)


def test_killed_after_each_epoch(reference, bl_argv, tmp_path):
    """The last phase takes the joint phase's state over from the checkpoint."""
    for epoch in (1, 2, 3):
        assert in_child(_killed_after_epoch, bl_argv, tmp_path) == -signal.SIGKILL
        states = checkpoint.load(tmp_path / checkpoint.CHECKPOINT)
        assert states["reporter"]["epoch"] == epoch and len(states["optimizers"]) == 3
    assert in_child(_train, bl_argv, tmp_path) == 0
    _same_end(tmp_path, reference)


@pytest.mark.parametrize(
    ("conf", "workers"), [(["keep_state=false"], 1), (["schedule=pseudo_label", "epochs=1"], 0)]
)
def test_killed_with_other_options(bl_argv, tmp_path, conf, workers):
    """Workers start anew in the first epoch of a process only."""
    argv = [*bl_argv, "--num_workers", str(workers)]
    argv += [x for option in conf for x in ("--bl_just", option)]
    outs = tmp_path / "whole", tmp_path / "killed"
    assert in_child(_train, argv, outs[0]) == 0
    for _ in range(2):
        assert in_child(_killed_after_epoch, argv, outs[1]) == -signal.SIGKILL
    assert in_child(_train, argv, outs[1]) == 0
    assert_same_end(outs[1], outs[0])


class Stream:
    """Batches of a stream without data: each pass in an order of its own."""

    def __init__(self, name, size):
        self.name, self.size = name, size

    def epoch_keys(self, epoch):
        keys = [[f"{self.name}{i}"] for i in range(self.size)]
        random.Random(f"{self.name}{epoch}").shuffle(keys)
        return keys

    def load(self, epoch, keys):
        return [(ids, {"speech": ids[0]}) for ids in keys]


def read_epochs(labelled, unlabelled, schedule, accum, epochs):
    """What each epoch reads of either stream, from a fresh factory."""
    streams = Stream("l", labelled), Stream("u", unlabelled)
    factory = ScheduledIterFactory(*streams, schedule, accum)
    read = {}
    for epoch in epochs:
        loader = factory.build_iter(epoch)
        batches = [batch for _, batch in loader]
        assert len(batches) == len(loader)
        named = [[b[k] for b in batches if k in b] for k in ("speech", "u_speech")]
        assert [len(x) for x in named] == [loader.counts.labelled, loader.counts.unlabelled]
        read[epoch] = named
    return read


@settings(max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    accum=st.integers(1, 3),
    explore=st.none() | st.integers(0, 9),
    upper=st.sampled_from(["supervised", "unsupervised"]),
)
def test_passes_follow_one_another_whatever_the_sizes(sizes, accum, explore, upper):
    conf = resolve({"epochs": 3, "explore_steps": explore, "final_steps": 4, "upper_level": upper})
    schedule = make_schedule(conf, *(-(-n // accum) for n in sizes))
    numbers = range(1, len(schedule.epochs) + 1)
    read = read_epochs(*sizes, schedule, accum, numbers)
    for stream, size in enumerate(sizes):
        whole = [key for epoch in numbers for key in read[epoch][stream]]
        for start in range(0, len(whole), size):  # each pass has each batch once
            chunk = whole[start : start + size]
            assert len(set(chunk)) == len(chunk)
        if accum == 1 and stream == 0 and upper == "supervised":
            assert all(sorted(read[e][0]) == sorted(whole[:size]) for e in (1, 2, 3))
    total = schedule.total
    assert [sum(len(read[e][i]) for e in numbers) for i in (0, 1)] == [
        accum * total.labelled, accum * total.unlabelled,
    ]  # fmt: skip
    # In any order, from a fresh start: an epoch is known by its number.
    assert read == read_epochs(*sizes, schedule, accum, reversed(numbers))
