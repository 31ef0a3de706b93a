# SPDX-License-Identifier: Apache-2.0
"""Data that cannot be read while a training runs: the message names utterance, file and table.

soundfile's errors name neither. What fails in a loader's worker comes to the main process as a
value and is raised there, without the worker's traceback.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import soundfile
from torch.utils.data import DataLoader

from espnet_ext.data.streams import OWN_READER, STREAMS, find_stream
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError

# What readers of data raise; errors of a preprocessor's code are of other kinds or not found again.
READ_ERRORS = (soundfile.SoundFileError, OSError, ValueError, EOFError, RuntimeError, DataError)
_HOW = "copy or make the file again, then ./run.sh --stage format"


@dataclass(frozen=True)
class Unreadable:
    """An item that could not be loaded."""

    what: str
    where: str
    how: str = _HOW

    def error(self) -> DataError:
        """Return the error to raise."""
        return DataError(self.what, self.where, self.how)


def find_unreadable(dataset: Any, utt: str) -> Unreadable | None:
    """Return which stream of an ESPnet dataset cannot read ``utt``; None if each can."""
    for name, table in getattr(dataset, "loader_dict", {}).items():
        path, _ = dataset.debug_info[name]
        try:
            table[utt]
        except READ_ERRORS as e:
            return _unreadable(utt, name, path, _value(path, utt), e)
    return None


def told_by_preprocessor(error: Exception) -> Unreadable | None:
    """Return what a preprocessor that reads data itself (video) has said; None of other errors."""
    if not isinstance(error, DataError):
        return None
    return Unreadable(error.what, str(error.where), error.how or _HOW)


def _unreadable(utt: str, name: str, path: str, value: str, error: Exception) -> Unreadable:
    reason = error.what if isinstance(error, DataError) else error
    what = f"utterance '{utt}': its {name} cannot be read ({reason})"
    return Unreadable(what, f"{value} (listed in {path})")


def _value(path: str, utt: str) -> str:
    return next((value for key, value in iter_table(path) if key == utt), utt)


class NamingCollate:
    """A collate function that hands on what could not be loaded in place of the batch."""

    def __init__(self, collate: Callable):
        self.collate = collate

    def __call__(self, items: list) -> Any:
        lost = next((item for item in items if isinstance(item, Unreadable)), None)
        return lost or self.collate(items)


class NamingLoader(DataLoader):
    """A loader that raises what its workers could not load."""

    def __iter__(self) -> Iterator[Any]:
        for batch in super().__iter__():
            if isinstance(batch, Unreadable):
                raise batch.error()
            yield batch


def name_culprit(args: argparse.Namespace, error: Exception) -> None:
    """Look for the data that made the collection of statistics fail.

    Args:
        args: ESPnet's options.
        error: What it raised, without a name.

    Raises:
        DataError: The first utterance that cannot be read; nothing is raised if each can.
    """
    for part in (args.train_data_path_and_name_and_type, args.valid_data_path_and_name_and_type):
        for path, name, kind in part:
            kind = kind.removeprefix(OWN_READER)
            if kind not in STREAMS and ":" not in kind:
                continue
            for utt, value in iter_table(path):
                try:
                    find_stream(kind).read(value)
                except READ_ERRORS as e:
                    raise _unreadable(utt, name, path, value, e).error() from error
