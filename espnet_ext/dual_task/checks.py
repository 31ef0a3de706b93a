# SPDX-License-Identifier: Apache-2.0
"""Checks of data before training: does every utterance have its sentence vector?"""

from collections.abc import Iterable
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError
from espnet_ext.text.sentence_store import AGAIN, SentenceStore


def check_sentences(tables: Iterable[Path | str], folder: Path | str, width: int) -> None:
    """Check that the store has the texts of all tables; a training would meet a lack much later.

    Args:
        tables: ``utterance text`` of the stream ``sentence``.
        folder: Of the store.
        width: Values that a vector must have.

    Raises:
        DataError: The store is not usable, or lacks a text: names the first and their number.
    """
    store = SentenceStore(folder, width)
    first, count = None, 0
    for table in tables:
        for number, (utt, text) in enumerate(iter_table(table), 1):
            if text not in store:
                first = first or (text, f"{table}:{number}, utterance {utt}")
                count += 1
    if first:
        more = f", and {count - 1} more have none" if count > 1 else ""
        how = f"{AGAIN} makes those of all sets of the recipe"
        raise DataError(f"there is no sentence vector of '{first[0]}'{more}", first[1], how)
