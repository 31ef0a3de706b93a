# SPDX-License-Identifier: Apache-2.0
"""Data order, several streams, class swap, verifier: the parts that methods stand on."""

import argparse

import numpy as np
import pytest
import torch

from espnet_ext.errors import EspnetExtError, UsageError
from espnet_ext.espnet import checkpoint, fastimport, train

fastimport.enable()

from espnet2.asr.espnet_model import ESPnetASRModel  # noqa: E402
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory  # noqa: E402
from espnet2.tasks.asr import ASRTask as StockASRTask  # noqa: E402

from espnet_ext.espnet.iterators import JointIterFactory, PersistentIterFactory  # noqa: E402
from espnet_ext.espnet.task import ASRTask, find_task  # noqa: E402
from espnet_ext.espnet.verify import compare, verify_stock  # noqa: E402


class Noise(torch.utils.data.Dataset):
    """Items that draw at random, as augmentation does."""

    def __getitem__(self, utt):
        return utt, {"x": np.random.rand(2)}


def collate(items):
    return [u for u, _ in items], {"x": torch.tensor(np.stack([d["x"] for _, d in items]))}


def factory(names, batch=2, shuffle=True, workers=0):
    batches = [names[i : i + batch] for i in range(0, len(names), batch)]
    return PersistentIterFactory(
        SequenceIterFactory(
            Noise(), batches, seed=5, shuffle=shuffle, num_workers=workers, collate_fn=collate
        )
    )


def epoch(f, n):
    return [(ids, batch["x"].tolist()) for ids, batch in f.build_iter(n)]


def test_batches_are_those_of_stock_espnet_in_its_order():
    f = factory(list("abcdefgh"))
    for n in (1, 2, 3):
        assert [ids for ids, _ in epoch(f, n)] == list(f.stock.build_iter(n).batch_sampler)
    assert f.epoch_keys(1) != f.epoch_keys(2)


def test_random_draws_do_not_depend_on_the_number_of_workers_or_on_earlier_epochs():
    serial, parallel = factory(list("abcdef")), factory(list("abcdef"), workers=2)
    first = epoch(serial, 1)
    assert epoch(parallel, 1) == first
    assert epoch(parallel, 2) == epoch(serial, 2) != first
    assert epoch(factory(list("abcdef")), 2) == epoch(serial, 2)


def test_workers_live_on_between_epochs():
    f = factory(list("abcd"), workers=1)
    epoch(f, 1)
    before = {w.pid for w in f.loader._iterator._workers}
    epoch(f, 2)
    assert {w.pid for w in f.loader._iterator._workers} == before


def test_a_second_stream_is_used_evenly_whatever_the_lengths():
    main, other = factory(list("abcdef")), factory([f"u{i}" for i in range(10)])
    joint = JointIterFactory(main, {"unlab": other})
    seen = []
    for n in range(1, 6):  # 5 epochs of 3 steps = 3 passes of 5 batches
        loader = joint.build_iter(n)
        assert len(loader) == 3
        steps = list(loader)
        assert sorted(u for ids, _ in steps for u in ids) == list("abcdef")
        seen += [u for _, batch in steps for u in batch["unlab_utt_id"]]
        assert all(batch["unlab_x"].shape == (2, 2) for _, batch in steps)
    assert {u: seen.count(u) for u in seen} == {f"u{i}": 3 for i in range(10)}
    again = [u for _, batch in joint.build_iter(4) for u in batch["unlab_utt_id"]]
    assert again == seen[18:24]  # a function of the epoch alone


class AuxModel(ESPnetASRModel):
    """Adds a head and a loss over an unlabelled stream, as a method would."""

    def init_extension(self, args):
        self.aux_head = torch.nn.Linear(self.encoder.output_size(), 1)
        self.calls = []

    def forward(self, speech, speech_lengths, text, text_lengths, align=None, **kwargs):
        loss, stats, weight = super().forward(speech, speech_lengths, text, text_lengths)
        self.calls.append(sorted(kwargs))
        if "unlab_speech" in kwargs:
            h, _ = self.encode(kwargs["unlab_speech"], kwargs["unlab_speech_lengths"])
            loss = loss + self.aux_head(h).square().mean()
        return loss, stats, weight


class AuxTask(ASRTask):
    extra_data_names = ("align",)
    model_class = AuxModel


@pytest.fixture(scope="module")
def aux_run(tiny_argv, tiny_data, tmp_path_factory):
    """One epoch with a second, text-less stream; trained as recipe.yaml's module:Class."""
    out = tmp_path_factory.mktemp("aux") / "exp"
    argv = [*tiny_argv, "--output_dir", str(out), "--max_epoch", "1"]
    argv += ["--stream_data_path_and_name_and_type"]
    argv += [f"unlab,{tiny_data}/valid/wav.scp,speech,sound"]
    argv += ["--stream_shape_file", f"unlab,{tiny_data}/valid/speech_shape"]
    train.run(f"{__name__}:AuxTask", argv)
    return out


def test_the_second_stream_reaches_the_loss(aux_run):
    state = checkpoint.load(aux_run / "checkpoint.pth")
    moved = [s for s in state["optimizers"][0]["state"].values() if s["exp_avg"].abs().sum() > 0]
    assert len(moved) == len(state["optimizers"][0]["state"])  # the head's parameters among them
    assert "aux_head.weight" in state["model"]


def test_stock_espnet_loads_the_swapped_model_and_ignores_its_head(aux_run):
    model_file = aux_run / "valid.acc.ave.pth"
    verdict = verify_stock(aux_run / "config.yaml", model_file)
    assert verdict.extra == ["aux_head.bias", "aux_head.weight"] and not verdict.missing
    model, _ = StockASRTask.build_model_from_file(aux_run / "config.yaml", model_file)
    assert type(model) is ESPnetASRModel
    trained = checkpoint.load(model_file)
    assert all(torch.equal(v, trained[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("damage", ["prefix", "drop", "reshape"])
def test_verifier_names_what_stock_loading_would_hide(aux_run, tmp_path, damage):
    states = checkpoint.load(aux_run / "valid.acc.ave.pth")
    if damage == "prefix":
        states = {f"asr.{k}": v for k, v in states.items()}
    elif damage == "drop":
        del states["ctc.ctc_lo.bias"]
    else:
        states["ctc.ctc_lo.bias"] = torch.zeros(7)
    torch.save(states, tmp_path / "model.pth")
    with pytest.raises(EspnetExtError, match=r"ctc\.ctc_lo\.bias") as e:
        verify_stock(aux_run / "config.yaml", tmp_path / "model.pth")
    if damage == "prefix":
        assert "renamed to asr.ctc.ctc_lo.bias" in str(e.value)


def test_compare_finds_nothing_in_equal_states():
    states = {"a": torch.zeros(2)}
    assert compare(states, dict(states)).missing == []


def test_align_is_an_allowed_stream_of_the_method_only():
    assert "align" in AuxTask.optional_data_names()
    assert "align" not in ASRTask.optional_data_names()


def test_unknown_tasks_name_what_there_is():
    with pytest.raises(UsageError, match="asr"):
        find_task("ars")
    with pytest.raises(UsageError, match="no 'Nothing'"):
        find_task(f"{__name__}:Nothing")
    with pytest.raises(UsageError, match="not an ESPnet task"):
        find_task(f"{__name__}:Noise")


def test_stream_options_of_the_wrong_form_are_refused(tiny_argv):
    parser = ASRTask.get_parser()
    action = next(a for a in parser._actions if a.dest == "stream_shape_file")
    with pytest.raises(argparse.ArgumentTypeError, match="STREAM,path"):
        action.type("unlab")
