# SPDX-License-Identifier: Apache-2.0
"""Fluent Speech Commands for intent classification (SUPERB): sets ic_train, ic_dev and ic_test.

FLUENT_SPEECH_COMMANDS=/path names the folder that holds data/train_data.csv and wavs/. A label is
``action | object | location``.
"""

from pathlib import Path

from csv_rows import csv_rows
from superb_common import SuperbSet, corpus_root

from espnet_ext.errors import DataError

VARIABLES = ("FLUENT_SPEECH_COMMANDS",)
PARTS = {"ic_train": "train", "ic_dev": "valid", "ic_test": "test"}
SLOTS = ("action", "object", "location")
COLUMNS = ("path", "speakerId", *SLOTS)


def read() -> list[SuperbSet]:
    """Return the three sets.

    Raises:
        DataError: The corpus is not there, or has another layout.
    """
    root = corpus_root("FLUENT_SPEECH_COMMANDS", "data/train_data.csv")
    return [read_part(root, root / "data" / f"{p}_data.csv", n) for n, p in PARTS.items()]


def read_part(root: Path, table: Path, name: str) -> SuperbSet:
    """Return the set of a table.

    Raises:
        DataError: The table is missing or has other columns, or a field is empty.
    """
    made = SuperbSet(name)
    if not table.is_file():
        raise DataError("the table is missing", table, "complete the copy")
    header = "the columns are ,path,speakerId,transcription,action,object,location"
    for where, row in csv_rows(table, COLUMNS, "table", header):
        values = [" ".join((row[c] or "").split()) for c in COLUMNS]
        if not all(values) or "|" in "".join(values):
            raise DataError("a field is empty, or holds '|'", where, "download it again")
        path, speaker, *slots = values
        utt = f"{speaker}-{Path(path).stem}"
        made.add(utt, root / path, " | ".join(slots), speaker, where)
    return made
