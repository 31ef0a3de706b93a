# SPDX-License-Identifier: Apache-2.0
"""Types of streams that ESPnet does not know, entered into its two registries of readers.

ESPnet looks a type up in ``DATA_TYPES`` of ``espnet2.train.dataset`` (training: a table as a
mapping) and of ``espnet2.train.iterable_dataset`` (statistics, inference: value by value). A type
``module:object`` of recipe.yaml is entered as ``stream:module:object``; nothing of ESPnet's own is
changed.
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from espnet2.train.dataset import DATA_TYPES as TABLES
from espnet2.train.iterable_dataset import DATA_TYPES as VALUES

from espnet_ext.data.lookup import TableLookup
from espnet_ext.data.streams import OWN_READER, find_stream


class StreamTable(Mapping):
    """``{utterance: array}`` of a table, each read when it is asked for; nothing is held.

    Args:
        path: Of the table.
        kind: Type of the stream, as in recipe.yaml.
    """

    def __init__(self, path: str, kind: str):
        self.kind, self.values_by_key = kind, TableLookup(path)

    def __getitem__(self, utt: str) -> np.ndarray:
        return find_stream(self.kind).read(self.values_by_key[utt])

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_key)

    def __len__(self) -> int:
        return len(self.values_by_key)


def register(args: argparse.Namespace) -> None:
    """Enter the types ``stream:...`` of a training's data options; needed in each process."""
    for option in ("train", "valid", "stream"):
        for data in getattr(args, f"{option}_data_path_and_name_and_type", None) or ():
            name = data[-1]
            if name.startswith(OWN_READER) and name not in VALUES:
                kind = name.removeprefix(OWN_READER)
                reader = find_stream(kind)
                TABLES[f"{re.escape(name)}$"] = {  # ESPnet compares by re.match
                    "func": partial(StreamTable, kind=kind),
                    "kwargs": [],
                    "help": reader.__doc__ or kind,
                }
                VALUES[name] = reader.read
