# SPDX-License-Identifier: Apache-2.0
"""Which phones are split, and pronunciations that have halves."""

import numpy as np
import pytest

from espnet_ext.errors import UsageError
from espnet_ext.lang.long_phones import long_phones
from espnet_ext.lang.phones import PhoneSet
from espnet_ext.lang.pronounce import Pronunciations, pronounce

CMU = "AA AE AH AO AW AY B CH D EH ER EY IH IY OW OY UH UW SPN SIL"


@pytest.mark.parametrize(
    ("names", "want"),
    [
        (CMU, "AW AY EY OW OY"),
        (CMU.lower() + " letter:q", "aw ay ey ow oy"),
        ("AY0 AY1 OW2 AA1 T D SH CH IH0", "AY0 AY1 OW2"),
        ("AY1_B AA1_E T_I SH_B IH0_S", "AY1_B"),
        ("aɪ a ɑːɹ əl iː ɚ ɑ̃ tʃ wa n̩ [NOISE]", "aɪ ɑːɹ əl"),
        ("aj ej ɔj ɝ ɑː d", "aj ej ɔj"),
        ("@U aI I@ 3: r\\ tS a3 { N", "@U I@ aI"),
        ("a b c d e", ""),
        ("a er ow ting t", ""),  # word pieces
        ("▁a er ow t", ""),
    ],
)
def test_phones_of_two_targets_are_known_by_name(names, want):
    assert long_phones("auto", names.split()) == tuple(want.split())


def test_names_asked_for_must_exist_and_halves_are_no_names():
    assert long_phones("none", CMU.split()) == ()
    assert long_phones("ER,AY", CMU.split()) == ("AY", "ER")
    with pytest.raises(UsageError, match=r"no phone .XY."):
        long_phones("AY XY", CMU.split())
    for setting in ("auto", "none"):
        with pytest.raises(UsageError, match="name of half a phone"):
            long_phones(setting, ["AY", "AY|2", "T", "SH"])


def test_a_model_says_which_phones_have_halves():
    own = PhoneSet(("SIL", "AY|1", "T", "AY|2"))
    assert own.long == ("AY",) and own.whole.names == ("SIL", "AY", "T")
    assert own.whole_ids.tolist() == [0, 1, 2, 1]
    assert np.flatnonzero(own.ends).tolist() == [3]
    found = pronounce(["tie"], None).words
    got = Pronunciations({**found, "I": [(("AY",), 0.0)]}, {}, (*own.whole.names, "t", "i", "e"))
    assert got.with_halves(["AY"]).words["I"] == [(("AY|1", "AY|2"), 0.0)]
    assert got.with_halves(["AY"]).counts() == got.counts()
    assert Pronunciations({"I": [(("AY",), 0.0)]}, {}, own.whole.names).with_halves(own).ids(
        "I"
    ) == [((1, 3), 0.0)]
