# SPDX-License-Identifier: Apache-2.0
"""Normalisation of transcripts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import UsageError
from espnet_ext.text.normalize import MODES, normalize


def test_normalize():
    text = "What's the “U.S.” `` Navy '' — l\N{RIGHT SINGLE QUOTATION MARK}été ,  2nd ?"
    assert normalize(text, "none") == text
    assert normalize(text, "lower") == text.lower()
    assert normalize(text, "words") == "what's the u s navy l'été 2nd"
    assert normalize("नमस्ते , दुनिया", "words") == "नमस्ते दुनिया"
    with pytest.raises(UsageError, match="did you mean 'words'"):
        normalize(text, "word")


@given(st.text(max_size=30), st.sampled_from(MODES))
def test_normalize_twice_is_once(text, mode):
    once = normalize(text, mode)
    assert normalize(once, mode) == once
