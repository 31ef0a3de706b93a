# SPDX-License-Identifier: Apache-2.0
"""The table of ablations, and words that are not in it."""

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.weak_align.alternation import Alternation
from espnet_ext.weak_align.presets import PRESETS, resolve


def shown(conf):
    keys = ("type", "layer", "weight", "smoothing")
    return [tuple(getattr(x, k) for k in keys) for x in conf.losses]


TRI = ("frame_ce", "middle", 1.0, 0.5)
BPE = ("bpe_ce", "output", 1.0, 0.5)


@pytest.mark.parametrize(
    ("preset", "losses", "no_ctc", "alternates"),
    [
        ("baseline", [], False, False),
        ("aed_only", [], True, False),
        ("weak_tri", [TRI], False, False),
        ("one_hot", [("frame_ce", "middle", 1.0, 0.0)], False, False),
        ("one_hot_weighted", [("frame_ce", "middle", 0.5, 0.0)], False, False),
        ("tri_ctc", [("frame_ctc", "middle", 1.0, 0.5)], False, False),
        ("bpe_ce", [BPE], False, False),
        ("bpe_ce_no_ctc", [BPE], True, False),
        ("bpe_ce_ctx", [("bpe_ce", "context", 1.0, 0.5)], False, False),
        ("both", [TRI, BPE], False, False),
        ("alternating", [TRI, BPE], False, True),
    ],
)
def test_presets(preset, losses, no_ctc, alternates):
    conf = resolve({"preset": preset})
    assert shown(conf) == losses
    assert (conf.no_ctc, conf.alternation is not None) == (no_ctc, alternates)


def test_all_presets_are_tested_and_the_default_is_the_method():
    listed = next(m for m in test_presets.pytestmark).args[1]
    assert {row[0] for row in listed} == set(PRESETS)
    assert shown(resolve(None)) == [TRI]


def test_keys_given_go_over_the_preset():
    conf = resolve({"preset": "both", "layer": 2, "smoothing": 0.3})
    assert shown(conf) == [("frame_ce", 2, 1.0, 0.3), ("bpe_ce", "output", 1.0, 0.3)]
    conf = resolve({"preset": "alternating", "ctc_in_alternation": False,
                    "alternation": {"period": 3, "unit": "epoch"}})  # fmt: skip
    assert conf.no_ctc and conf.alternation == Alternation(3, "epoch")


def test_a_list_of_losses_has_names_of_its_own():
    items = [{"layer": 2}, {"layer": 4, "weight": 0.1}, {"type": "bpe_ce"}]
    conf = resolve({"losses": items, "smoothing": 0.7})
    assert [x.name for x in conf.losses] == ["tri", "tri2", "bpe"]
    assert shown(conf)[1] == ("frame_ce", 4, 0.1, 0.7) and conf.losses[2].layer == "output"


@pytest.mark.parametrize(
    ("aux", "message"),
    [
        ({"preset": "weak_trii"}, "weak_tri'"),
        ({"smothing": 0.5}, "'smoothing'"),
        ({"label_rule": "center"}, "'centre'"),
        ({"smoothing": 1.5}, "aux.smoothing"),
        ({"weight": "1e-1"}, "aux.weight"),
        ({"layer": "midle"}, "'middle'"),
        ({"unit": "phones"}, "'phone'"),
        ({"losses": [{"kind": "frame_ce"}]}, r"aux.losses\[0\].kind"),
        ({"losses": [{"type": "frame"}]}, "frame_c"),
        ({"alternation": {"period": 1}}, "two losses"),
        ({"preset": "alternating", "alternation": {"period": 0}}, "period"),
        ({"preset": "alternating", "alternation": {"unit": "step"}}, "update"),
        ({"head_layers": 0}, "head_layers"),
    ],
)
def test_unknown_words_name_the_nearest(aux, message):
    with pytest.raises(UsageError, match=message):
        resolve(aux)


@pytest.mark.parametrize(("period", "first"), [(1, [0, 2, 4, 6, 8]), (3, [0, 1, 2, 6, 7, 8])])
def test_alternation_by_updates(period, first):
    active = [Alternation(period).active((1, u), 2) for u in range(10)]
    assert [u for u in range(10) if active[u] == 0] == first


def test_alternation_by_epochs_counts_from_the_first_and_needs_a_trainer():
    by_epoch = Alternation(2, "epoch")
    assert [by_epoch.active((e, 99), 3) for e in range(1, 9)] == [0, 0, 1, 1, 2, 2, 0, 0]
    with pytest.raises(UsageError, match="counts updates"):
        by_epoch.active(None, 2)
