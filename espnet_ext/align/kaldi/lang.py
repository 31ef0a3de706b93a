# SPDX-License-Identifier: Apache-2.0
"""Kaldi's ``lang`` folder: names of phones, silence, places in the word, pronunciations."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE

PLACES = {"_B": "begin", "_E": "end", "_I": "internal", "_S": "singleton"}
SILENCES = frozenset({"sil", "sp", "spn", "nsn", "lau", "oov"})  # names used where no list is given
Span = tuple[int, int]


@dataclass(frozen=True)
class Lang:
    """What is known of a model's phones.

    Args:
        names: Kaldi phone id -> name in ``phones.txt``.
        base: Kaldi phone id -> name without its place in the word; ``SIL`` between words.
        silence: Ids of silence and noise phones.
        places: Kaldi phone id -> nonword, begin, end, internal or singleton; empty if phones do
            not tell their place.
        pronunciations: Word -> sequences of phone ids.
        oov: The word that stands for unknown ones.
    """

    names: dict[int, str]
    base: dict[int, str]
    silence: frozenset[int]
    places: dict[int, str]
    pronunciations: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)
    oov: str = ""

    @property
    def phone_names(self) -> tuple[str, ...]:
        """Distinct base names, ``SIL`` first."""
        ordered = dict.fromkeys(self.base[i] for i in sorted(self.base))
        return (SILENCE, *(n for n in ordered if n != SILENCE))

    @property
    def optional_silence(self) -> frozenset[int]:
        """Ids of the phones named ``SIL``."""
        return frozenset(i for i, name in self.base.items() if name == SILENCE)

    def find_words(self, phones: Sequence[int], words: Sequence[str] | None) -> list[Span]:
        """Return each word's phones ``[first, last)``.

        Args:
            phones: ``(P,)`` phone ids.
            words: The transcript; needed where phones do not tell their place.

        Raises:
            ValueError: The phones do not make words, or not as many as the transcript has.
        """
        if self.places:
            spans = list(self._by_place(phones))
        elif words is not None and self.pronunciations:
            spans = self._by_pronunciation(phones, words)
        else:
            raise ValueError("phones without _B _E _I _S need a transcript and align_lexicon.txt")
        if words is not None and len(spans) != len(words):
            raise ValueError(f"{len(spans)} words in the alignment, {len(words)} in the transcript")
        return spans

    def _by_place(self, phones: Sequence[int]) -> Iterator[Span]:
        start = None
        for i, phone in enumerate(phones):
            place = self.places[int(phone)]
            inside = place in ("internal", "end")
            if inside != (start is not None):
                raise ValueError(f"{self.names[int(phone)]} as phone {i} is not in its place")
            if place == "begin":
                start = i
            elif place == "singleton":
                yield i, i + 1
            elif place == "end":
                yield start, i + 1
                start = None
        if start is not None:
            raise ValueError("the last word does not end")

    def _by_pronunciation(self, phones: Sequence[int], words: Sequence[str]) -> list[Span]:
        phones = tuple(int(p) for p in phones)
        reached: list[dict[int, int]] = []  # per word: its end -> its start
        ends = {0}
        for word in words:
            known = self.pronunciations.get(word) or self.pronunciations.get(self.oov, [])
            found = {}
            for start in self._after_silence(phones, ends):
                for p in known:
                    if phones[start : start + len(p)] == p:
                        found.setdefault(start + len(p), start)
            if not found:
                raise ValueError(f"no pronunciation of '{word}' fits the phones")
            reached.append(found)
            ends = set(found)
        finals = [e for e in ends if len(phones) in self._after_silence(phones, {e})]
        if not finals:
            raise ValueError("phones are left over behind the last word")
        spans: list[Span] = []
        end = max(finals)
        for found in reversed(reached):
            # Silence before the later word was skipped: go back over it to an end of this one.
            while end not in found:
                end -= 1
            spans.append((found[end], end))
            end = found[end]
        return spans[::-1]

    def _after_silence(self, phones: tuple[int, ...], ends: Iterable[int]) -> set[int]:
        """Return the places that can be reached from ``ends`` over silence."""
        out = set()
        for at in ends:
            out.add(at)
            while at < len(phones) and phones[at] in self.optional_silence:
                at += 1
                out.add(at)
        return out


def read_lang(lang: Path | str | None, experiment: Path | str, phones: Iterable[int]) -> Lang:
    """Read what is there of a ``lang`` folder.

    Args:
        lang: Folder with phones.txt; None: phones.txt of the experiment.
        experiment: Folder of alignments, often with a copy of phones.txt.
        phones: Ids of the model's phones.

    Raises:
        DataError: phones.txt is missing, lacks a phone, or differs from that of the experiment.
    """
    own = Path(experiment) / "phones.txt"
    folder = Path(lang) if lang is not None else None
    path = folder / "phones.txt" if folder else own
    if not path.is_file():
        raise DataError(
            "phones.txt is missing", path, "give the lang folder of the experiment (--lang)"
        )
    ids, table = list(phones), _symbols(path)
    if lacking := [i for i in ids if i not in table]:
        raise DataError(
            f"phones of the model have no name: {', '.join(map(str, lacking[:5]))}", path,
            "give the lang folder that the model was trained with",
        )  # fmt: skip
    names = {i: table[i] for i in ids}
    if folder and own.is_file():
        other = _symbols(own)
        if odd := [i for i in ids if other.get(i) != names[i]]:
            raise DataError(
                f"phone {odd[0]} is '{names[odd[0]]}' here and '{other.get(odd[0])}' in {own}",
                path, "give the lang folder that the model was trained with",
            )  # fmt: skip
    places = _places(folder, names)
    base = {i: _base(n) if places.get(i, "nonword") != "nonword" else n for i, n in names.items()}
    silence, optional = _silences(folder, names, base)
    base |= {i: SILENCE for i in base if base[i] in optional}
    prons = {} if places else _pronunciations(folder, names)
    return Lang(names, base, silence, places, prons, _oov(folder))


def _symbols(path: Path) -> dict[int, str]:
    table = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].isdigit():
            raise DataError("the line is not 'name number'", f"{path}:{number}")
        table[int(fields[1])] = fields[0]
    return table


def _base(name: str) -> str:
    return name[:-2] if name[-2:] in PLACES and len(name) > 2 else name


def _places(folder: Path | None, names: dict[int, str]) -> dict[int, str]:
    for form in ("int", "txt"):
        path = folder / "phones" / f"word_boundary.{form}" if folder else None
        if path and path.is_file():
            rows = [r for r in _rows(path) if len(r) == 2]
            by_key = {k: v for k, v in rows}
            keys = {i: str(i) if form == "int" else n for i, n in names.items()}
            if set(by_key.values()) - {"nonword", *PLACES.values()}:
                raise DataError("unknown places of phones in words", path)
            return {i: by_key.get(k, "nonword") for i, k in keys.items()}
    marked = {n for n in names.values() if n[-2:] in PLACES}
    full = {_base(n) for n in marked if {_base(n) + s for s in PLACES} <= marked}
    places = {i: PLACES[n[-2:]] if _base(n) in full and n in marked else "nonword"
              for i, n in names.items()}  # fmt: skip
    return places if full else {}


def _silences(
    folder: Path | None, names: dict[int, str], base: dict[int, str]
) -> tuple[frozenset[int], frozenset[str]]:
    """Return ids of silence phones, and base names of silence between words."""
    by_name = {n: i for i, n in names.items()}
    listed = [r[0] for r in _rows(folder / "phones" / "silence.txt")] if folder else []
    silence = {by_name[n] for n in listed if n in by_name}
    silence = silence or {i for i, n in base.items() if n.lower() in SILENCES}
    optional = [r[0] for r in _rows(folder / "phones" / "optional_silence.txt")] if folder else []
    chosen = {base[by_name[n]] for n in optional if n in by_name}
    chosen = chosen or {n for n in base.values() if n.lower() in ("sil", "sp")}
    return frozenset(silence), frozenset(chosen)


def _pronunciations(folder: Path | None, names: dict[int, str]) -> dict[str, list[tuple[int, ...]]]:
    """Read align_lexicon.txt: ``word word phone phone ...``."""
    by_name = {n: i for i, n in names.items()}
    out: dict[str, list[tuple[int, ...]]] = {}
    for row in _rows(folder / "phones" / "align_lexicon.txt") if folder else []:
        if len(row) > 2 and row[0] != "<eps>" and all(p in by_name for p in row[2:]):
            out.setdefault(row[1], []).append(tuple(by_name[p] for p in row[2:]))
    return out


def _oov(folder: Path | None) -> str:
    rows = _rows(folder / "oov.txt") if folder else []
    return rows[0][0] if rows else ""


def _rows(path: Path) -> list[list[str]]:
    if not path.is_file():
        return []
    return [r for line in path.read_text(encoding="utf-8").splitlines() if (r := line.split())]
