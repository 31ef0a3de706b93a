# SPDX-License-Identifier: Apache-2.0
"""Words and phones of the shown utterances, and the confidence in a recipe's alignments."""

import statistics
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from espnet_ext.align import models
from espnet_ext.align.evaluate.check import ALL, CHECK
from espnet_ext.align.formats.sources import open_alignment
from espnet_ext.align.formats.tiers import Utterance
from espnet_ext.data.tables import write_set
from espnet_ext.errors import DataError, SetupError
from espnet_ext.report.media import Sound
from espnet_ext.text.tagged import plain

BINS = 20
DOUBTFUL = 15  # rows that are shown
NO_ALIGNER = "none"


def find_alignment(
    recipe: Path, set_name: str, given: Sequence[str], utts: Collection[str]
) -> tuple[dict[str, Utterance], str]:
    """Return the alignments of utterances that are on disk, and where.

    Args:
        recipe: Folder of the recipe; stage 3 writes ``dump/<set>/align`` there.
        set_name: The set.
        given: Alignments of the user, in any format; they go before the recipe's.
        utts: The utterances that are wanted.

    Raises:
        DataError: A given one cannot be read.
    """
    own = recipe / "dump" / set_name / "align"
    places = [*map(_inner, given), *([own] if (own / "header.json").is_file() else [])]
    found: dict[str, Utterance] = {}
    used = []
    for place in places:
        known = open_alignment(place).utterances
        more = {u: known[u] for u in utts if u in known and u not in found}
        used += [str(place)] if more else []
        found |= more
    return found, ", ".join(used)


def check_aligner(given: str) -> None:
    """Refuse an aligner that is not there, before time is spent.

    Raises:
        DataError: There is none.
    """
    if given and given != NO_ALIGNER and not (models.folder(given) / "model.json").is_file():
        how = f"give the OUT of 'espnet-ext align train', {', '.join(models.names())} or none"
        raise DataError("there is no aligner", f"--aligner {given}", how)


def find_aligner(recipe: Path, given: str) -> str:
    """Return the folder or name of an aligner; empty if there is none or none is wanted."""
    own = recipe / "dump" / "align" / "model"
    if given:
        return "" if given == NO_ALIGNER else given
    return str(own) if (own / "model.json").is_file() else ""


def align(
    aligner: str, sounds: Mapping[str, Sound], texts: Mapping[str, str]
) -> tuple[dict[str, Utterance], dict[str, str]]:
    """Align utterances with their references.

    Args:
        aligner: Its folder or name.
        sounds: By utterance.
        texts: Their words, maybe tagged.

    Returns:
        Alignments, and why other utterances have none.

    Raises:
        DataError: There is no such aligner.
    """
    from espnet_ext.align.model import find
    from espnet_ext.align.run import apply_aligner

    model = find(aligner)
    rows: dict[str, tuple[str, str, str]] = {}
    with tempfile.TemporaryDirectory() as name:
        tmp = Path(name)
        for i, (utt, s) in enumerate(sounds.items()):
            path = tmp / f"{i}.wav"
            soundfile.write(path, s.samples, s.rate, subtype="FLOAT")
            rows[utt] = (str(path), plain(texts[utt]), utt)
        write_set(tmp / "data", rows)
        try:
            apply_aligner(
                model, tmp / "data", tmp / "out", tmp / "work", map, lambda _: None, textgrid=False
            )
        except (DataError, SetupError) as e:
            return {}, dict.fromkeys(sounds, e.what)
        source = open_alignment(tmp / "out")
        failed = {u: f"{why} {detail}".strip() for u, why, detail in _skipped(tmp / "out")}
        return {u: source.utterances[u] for u in source.utts}, failed


def _skipped(folder: Path) -> list[list[str]]:
    return _rows(folder / "skipped.tsv", 3)


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Return the rows of a table with a head; empty where there is none."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [[*x.split("\t"), *[""] * columns][:columns] for x in lines]


@dataclass(frozen=True)
class Confidences:
    """How sure the aligner is of a set's transcripts.

    Attributes:
        where: Folder of the alignment.
        utterances: How many have a confidence.
        median: Of the confidences that all words of an utterance were spoken.
        bins: Utterances by confidence, from 0 to 1.
        doubtful: How many have a word that was probably not spoken.
        rows: The first of these: utterance, confidence, words.
    """

    where: str
    utterances: int
    median: float
    bins: list[int]
    doubtful: int
    rows: list[list[str]]


def confidences(recipes: Iterable[Path], given: Iterable[str]) -> list[Confidences]:
    """Return the confidences of alignments, a part for each folder that has any.

    Args:
        recipes: Folders of recipes; those of all sets are taken.
        given: Alignments of the user.
    """
    out = []
    found = [(f"{r.parent.name}/{r.name}/", p.parent.relative_to(r), p)
             for r in recipes for p in sorted((r / "dump").glob(f"*/align/{ALL}"))]  # fmt: skip
    found += [("", p, p / ALL) for p in map(_inner, given)]
    for recipe, where, path in found:
        values = [float(row[1]) for row in _rows(path, 2)]
        if not values:
            continue
        bins = [0] * BINS
        for v in values:
            bins[min(BINS - 1, int(v * BINS))] += 1
        rows = _rows(path.with_name(CHECK), 3)
        median = statistics.median(values)
        shown = rows[:DOUBTFUL]
        out.append(Confidences(f"{recipe}{where}", len(values), median, bins, len(rows), shown))
    return out


def _inner(place: str) -> Path:
    """Return the alignment inside OUT of ``espnet-ext align``, or the path itself."""
    inner = Path(place) / "alignment"
    return inner if (inner / "header.json").is_file() else Path(place)
