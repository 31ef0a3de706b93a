# SPDX-License-Identifier: Apache-2.0
"""Sentence vectors that lack or do not fit are told before training."""

import pytest

from espnet_ext.dual_task.checks import check_sentences
from espnet_ext.errors import DataError


def test_utterances_without_a_vector_are_counted_and_the_first_is_named(dual_data, tmp_path):
    store, plain = dual_data / "sentences", dual_data / "train/plain"
    check_sentences([plain, dual_data / "valid/plain"], store, 6)
    lines = plain.read_text().splitlines()
    lines[2] = lines[2].split()[0] + " prego"
    lines[5] = lines[5].split()[0] + " grazie"
    (tmp_path / "plain").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match="no sentence vector of 'prego', and 1 more have none") as e:
        check_sentences([plain, tmp_path / "plain"], store, 6)
    assert e.value.where == f"{tmp_path}/plain:3, utterance train02"
    assert "./run.sh --stage format" in e.value.how
    with pytest.raises(DataError, match="have 6 values, the model needs 768"):
        check_sentences([plain], store, 768)
    with pytest.raises(DataError, match="no usable sentence embeddings"):
        check_sentences([plain], tmp_path, 6)
