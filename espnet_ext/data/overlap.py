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
    """Return one line for each thing that two sets share.

    Of two sets that are not trained on one may be a part of the other (a test set of one language,
    and that of all).

    Args:
        folders: ``{set: its data directory}``.
        training: Sets that are trained on: they may share utterances among themselves (labelled
            and unlabelled views of the same audio). Default: the first set.
    """
    training = set(training) or set(list(folders)[:1])
    out = []
    for a, b in combinations(folders, 2):
        if {a, b} <= training:
            continue
        first, second = (a, b) if b not in training else (b, a)
        pair = folders[first], folders[second]
        if second not in training and first not in training and _is_part(*pair):
            continue
        out += [f"{first} and {second} share {what}" for what in _ids(*pair)]
        if share := _texts(*pair, first, second):
            out.append(share)
    return out


def _is_part(a: Path, b: Path) -> bool:
    """Whether all utterances of one set are in the other."""
    one, two = ({hash(utt) for utt, _ in _rows(folder / "utt2spk")} for folder in (a, b))
    return bool(one and two) and (one <= two or two <= one)


def _ids(a: Path, b: Path) -> Iterator[str]:
    for file, column, what in (
        ("utt2spk", 0, "utterance ids"),
        ("wav.scp", 1, "audio files"),
        ("utt2spk", 1, "speakers"),
    ):
        known = {hash(row[column]) for row in _rows(a / file)}
        common: dict[str, None] = {}
        for row in _rows(b / file) if known else ():
            if hash(row[column]) in known:
                common[row[column]] = None
        # Without speakers each utterance is its own.
        if common and not (what == "speakers" and all(row[0] == row[1] for row in _rows(b / file))):
            more = ", ..." if len(common) > SHOWN else ""
            yield f"{len(common)} {what} ({', '.join(list(common)[:SHOWN])}{more})"


def _texts(a: Path, b: Path, first: str, second: str) -> str:
    known = {hash(tidy(text)) for _, text in _rows(a / "text")}
    total = common = 0
    for _, text in _rows(b / "text") if known else ():
        total += 1
        common += hash(tidy(text)) in known
    if not common:
        return ""
    share = f"{100 * common / total:.1f} %"
    return f"{common} of {total} texts of {second} ({share}) are texts of {first}, too"


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the rows of a table as far as it is usable; other checks tell the rest."""
    if path.is_file():
        try:
            yield from iter_table(path)
        except DataError:
            return
