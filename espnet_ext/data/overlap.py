# SPDX-License-Identifier: Apache-2.0
"""What sets of a corpus share: utterances, audio, speakers, texts. A test must not be in training.

Memory: one number of eight bytes for each text, id and path of the sets.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError

SHOWN = 3


def overlaps(folders: Mapping[str, Path], training: Iterable[str] = ()) -> list[str]:
    """Return one line for each two sets that share something.

    Args:
        folders: ``{set: its data directory}``.
        training: Sets that are trained on. They may share utterances among themselves (labelled
            and unlabelled views of the same audio), and so may the others (a test set of one
            language, and that of all): only a training set and another set are compared. Default:
            all sets are compared with each other.
    """
    training = set(training)
    out = []
    for a, b in combinations(folders, 2):
        if training and (a in training) == (b in training):
            continue
        first, second = (b, a) if b in training else (a, b)
        pair = folders[first], folders[second]
        told = list(_ids(*pair))
        shared = [f"{first} and {second} share {', '.join(told)}"] if told else []
        shared += _texts(*pair, first, second)
        if shared:
            out.append("; ".join(shared))
    return out


def _ids(a: Path, b: Path) -> Iterator[str]:
    for file, column, what in (
        ("utt2spk", 0, "utterance ids"),
        ("wav.scp", 1, "audio files"),
        ("utt2spk", 1, "speakers"),
    ):
        known = {hash(row[column]) for row in rows_of(a / file)}
        common: dict[str, None] = {}
        for row in rows_of(b / file) if known else ():
            if hash(row[column]) in known:
                common[row[column]] = None
        # Without speakers each utterance is its own.
        own = what == "speakers" and all(row[0] == row[1] for row in rows_of(b / file))
        if common and not own:
            more = ", ..." if len(common) > SHOWN else ""
            yield f"{len(common)} {what} ({', '.join(list(common)[:SHOWN])}{more})"


def _texts(a: Path, b: Path, first: str, second: str) -> list[str]:
    known = {hash(tidy(text)) for _, text in rows_of(a / "text")}
    total = common = 0
    for _, text in rows_of(b / "text") if known else ():
        total += 1
        common += hash(tidy(text)) in known
    if not common:
        return []
    share = f"{100 * common / total:.1f} %"
    return [f"{common} of {total} texts of {second} ({share}) are texts of {first}, too"]


def rows_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the rows of a table as far as it is usable; other checks tell the rest."""
    if path.is_file():
        try:
            yield from iter_table(path)
        except DataError:
            return
