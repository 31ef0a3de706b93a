# SPDX-License-Identifier: Apache-2.0
"""Names of phones and their numbers; silence is number 0."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from espnet_ext.errors import DataError

SILENCE = "SIL"
SILENCE_ID = 0
STATES = 3  # emitting HMM states of every phone, left to right, no skips
HALVES = ("|1", "|2")  # after the name of a long phone: its two units, each with STATES states
NOISE_PHONES = frozenset(("SIL", "SPN", "NSN", "LAU", "LAUGHTER", "NOISE"))
LETTER = "letter:"  # before a letter that stands for a phone beside phones
SPOKEN_NOISE = "SPN"  # a sound of speech that is no known phone
SILENCE_NAMES = frozenset({"", "sil", "sp", "silence", "<eps>", "<sil>", "pau", "h#", "_"})
_DISAMBIGUATION = re.compile(r"#\d+")


def is_silence(name: str) -> bool:
    """Tell whether a phone stands for silence in any of the usual spellings."""
    return name.strip().lower() in SILENCE_NAMES


def special_phones(pronunciations: Iterable[tuple[str, Iterable[str]]]) -> list[str]:
    """Return warnings of phones in words that hardly are meant as phones.

    Args:
        pronunciations: ``(word, phone names)``.
    """
    first: dict[str, str] = {}
    for word, names in pronunciations:
        for name in names:
            if is_silence(name) or _DISAMBIGUATION.fullmatch(name):
                first.setdefault(name, word)
    said = {
        True: "is a mark of Kaldi's graphs, no phone: give lexicon.txt, not lexicon_disambig.txt",
        False: f"is taken for a phone of its own; the aligner's silence is called {SILENCE}",
    }
    out = []
    for name, word in sorted(first.items()):
        what = said[name.startswith("#") and name != "#"]
        if name == SILENCE:
            what = "is silence, and stands inside a word"
        out.append(f"warning: the phone '{name}', as in '{word}', {what}")
    return out


@dataclass(frozen=True)
class PhoneSet:
    """An ordered set of phone names, silence first.

    The aligner's own set may have halves of long phones (``AY|1``, ``AY|2``), which outputs must
    not show: :attr:`whole` is the set that they have.

    Args:
        names: ``names[i]`` is phone ``i``; ``names[0]`` must be ``SIL``.
    """

    names: tuple[str, ...]
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.names or self.names[0] != SILENCE or len(set(self.names)) != len(self.names):
            raise DataError("a phone set starts with SIL and names each phone once", "phones")
        object.__setattr__(self, "_ids", {name: i for i, name in enumerate(self.names)})

    @classmethod
    def of(cls, phones: Iterable[str]) -> "PhoneSet":
        """Make a set from phone names in any order and number."""
        return cls((SILENCE, *sorted(set(phones) - {SILENCE})))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def whole(self) -> "PhoneSet":
        """The set with the halves put together."""
        return PhoneSet(tuple(dict.fromkeys(map(_whole, self.names))))

    @cached_property
    def whole_ids(self) -> np.ndarray:
        """``(P,)`` int16 number in :attr:`whole` of each phone."""
        return np.array([self.whole.id(_whole(n)) for n in self.names], np.int16)

    @cached_property
    def ends(self) -> np.ndarray:
        """``(P,)`` whether a phone is the second half of a long one."""
        return np.array([n.endswith(HALVES[1]) for n in self.names])

    @property
    def long(self) -> tuple[str, ...]:
        """Names of the phones that have halves."""
        return tuple(_whole(n) for n in self.names if n.endswith(HALVES[1]))

    def id(self, name: str) -> int:
        """Return the number of a phone.

        Raises:
            DataError: There is no such phone.
        """
        try:
            return self._ids[name]
        except KeyError:
            raise DataError(
                f"the phone '{name}' is not in the model's phone set", "lexicon",
                "train with this lexicon, or use that of the model",
            ) from None  # fmt: skip


def _whole(name: str) -> str:
    for half in HALVES:
        name = name.removesuffix(half)
    return name
