# SPDX-License-Identifier: Apache-2.0
"""The benchmark of costs compares what it says: the same model with and without a method."""

import pytest


@pytest.fixture(scope="module")
def systems(load_benchmark):
    load_benchmark("method_cost").prepare_espnet()
    return load_benchmark("method_cost_systems")


def test_bl_just_explores_on_top_of_its_labelled_updates(systems, tmp_path):
    base, exploration, joint = systems.bl_just(tmp_path)
    # A quarter of the recipe's data is labelled, and an exploration reads the rest.
    assert [u.per_labelled for u in (base, exploration, joint)] == [0, 3, 1]
    assert joint.used == {n for n, _ in base.model.named_parameters()}
    assert base.millions()[2] == pytest.approx(joint.millions()[2])
    assert joint.millions()[0] > joint.millions()[2]  # the heads of the unlabelled loss
    before = {n: p.detach().clone() for n, p in joint.model.named_parameters()}
    joint.step()
    assert any(not p.equal(before[n]) for n, p in joint.model.named_parameters())


def test_a_frozen_encoder_is_stored_and_not_trained(systems, tmp_path):
    scratch, clips, translation, frozen = systems.multistage(tmp_path)
    assert (scratch.per_labelled, frozen.per_labelled) == (0, 1)
    assert (clips.per_labelled, translation.per_labelled) == (0.25, 1)
    assert scratch.millions()[1] == frozen.millions()[1] == frozen.millions()[2]
    assert frozen.millions()[0] < scratch.millions()[0] and clips.millions()[2] == 0
