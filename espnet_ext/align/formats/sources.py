# SPDX-License-Identifier: Apache-2.0
"""Alignments of any origin behind one face, for comparing them.

Known are: an alignment directory, a folder of TextGrids, a CTM file whose name says "phone" or
"word", and the manifest.jsonl of the synthetic corpus, whose times are exact.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.align.formats.ctm import Ctm, Interval
from espnet_ext.align.formats.directory import AlignmentDir, Header
from espnet_ext.align.formats.textgrid import SUFFIX, TextGridTier
from espnet_ext.errors import DataError, UsageError

Tier = Mapping[str, list[Interval]]


@dataclass(frozen=True)
class Source:
    """An alignment to compare.

    Args:
        name: Where it lies.
        utts: Names of its utterances.
        phones: Phones by utterance; None if it has none.
        words: Words by utterance; None if it has none.
        directory: The alignment directory, where it is one.
    """

    name: str
    utts: tuple[str, ...]
    phones: Tier | None
    words: Tier | None
    directory: AlignmentDir | None = None

    @property
    def header(self) -> Header | None:
        """The header of an alignment directory."""
        return self.directory.header if self.directory else None


class Manifest(Mapping[str, list[Interval]]):
    """Phones or words of a manifest.jsonl by utterance; lines are read when asked for."""

    def __init__(self, path: Path, tier: str, offsets: dict[str, int]):
        self.path, self.tier, self._offsets = path, tier, offsets

    def __getitem__(self, utt: str) -> list[Interval]:
        with open(self.path, "rb") as f:
            f.seek(self._offsets[utt])
            row = json.loads(f.readline())
        try:
            return [Interval(float(s), float(e), name) for name, s, e in row[self.tier]]
        except (KeyError, TypeError, ValueError) as e:
            raise DataError(f"'{utt}' has no usable {self.tier} ({e})", self.path) from e

    def __iter__(self) -> Iterator[str]:
        return iter(self._offsets)

    def __len__(self) -> int:
        return len(self._offsets)

    def __contains__(self, utt: object) -> bool:
        return utt in self._offsets


def open_alignment(path: Path | str | AlignmentDir) -> Source:
    """Open an alignment of any known form.

    Raises:
        UsageError: The form is not known.
        DataError: A file is missing or not usable.
    """
    if isinstance(path, AlignmentDir):
        return _from_directory(path)
    path = Path(path)
    if not path.exists():
        raise DataError("there is no such alignment", path)
    for fits, read in FORMS:
        if fits(path):
            return read(path)
    raise UsageError(
        "not a readable alignment", path,
        "give an alignment directory, a folder of TextGrids, a CTM file or a manifest.jsonl",
    )  # fmt: skip


def _from_directory(path: Path | AlignmentDir) -> Source:
    a = path if isinstance(path, AlignmentDir) else AlignmentDir(path)
    return Source(str(a.path), tuple(a.utts), a.phones, a.words, a)


def _from_textgrids(path: Path) -> Source:
    phones, words = TextGridTier(path, "phones"), TextGridTier(path, "words")
    return Source(str(path), tuple(phones), phones, words)


def _from_ctm(path: Path) -> Source:
    kinds = [k for k in ("phone", "word") if k in path.name.lower()]
    if len(kinds) != 1:
        raise UsageError(
            "does this CTM file hold phones or words?", path, "name it phones.ctm or words.ctm"
        )
    ctm = Ctm(path)
    tiers = (ctm, None) if kinds == ["phone"] else (None, ctm)
    return Source(str(path), tuple(ctm), *tiers)


def _from_manifest(path: Path) -> Source:
    offsets: dict[str, int] = {}
    at = 0
    with open(path, "rb") as f:
        for number, line in enumerate(f, 1):
            try:
                offsets[json.loads(line)["id"]] = at
            except (ValueError, KeyError, TypeError) as e:
                raise DataError("the line is no utterance", f"{path}:{number}") from e
            at += len(line)
    tiers = (Manifest(path, tier, offsets) for tier in ("phones", "words"))
    return Source(str(path), tuple(offsets), *tiers)


FORMS: list[tuple[Callable[[Path], bool], Callable[[Path], Source]]] = [
    (lambda p: (p / "header.json").is_file(), _from_directory),
    (lambda p: (p / "manifest.jsonl").is_file(), lambda p: _from_manifest(p / "manifest.jsonl")),
    (lambda p: p.is_dir() and next(p.rglob("*" + SUFFIX), None) is not None, _from_textgrids),
    (lambda p: p.suffix == ".ctm", _from_ctm),
    (lambda p: p.suffix == ".jsonl", _from_manifest),
]
