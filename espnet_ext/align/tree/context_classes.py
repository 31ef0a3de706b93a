# SPDX-License-Identifier: Apache-2.0
"""Classes of frames from phones in context, for alignments without HMM states.

A class is (left phone, phone, right phone) if enough frames have it; the frames of a phone's rare
contexts share (left phone, phone) if those are enough, and else the phone. Silence is one class.
``classes.txt`` names class n in line n, counted from 0: ``left phone right``, ``*`` is any phone.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import write_text
from espnet_ext.lang.phones import SILENCE

ANY = "*"
UNITS = ("triphone", "phone")
Context = tuple[str, str, str]


@dataclass(frozen=True)
class ContextClasses:
    """An inventory of classes.

    Args:
        names: ``names[k]`` is class k: (left, phone, right).
    """

    names: tuple[Context, ...]
    _ids: dict[Context, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_ids", {name: i for i, name in enumerate(self.names)})

    @classmethod
    def from_counts(cls, frames: Counter[Context], unit: str, min_count: int) -> "ContextClasses":
        """Choose classes.

        Args:
            frames: Frames of each phone in its context.
            unit: "triphone", or "phone" for phones without context.
            min_count: Frames that a class with context must have.
        """
        if unit not in UNITS:
            raise UsageError(f"there is no unit '{unit}'", "unit", f"one of {', '.join(UNITS)}")
        phones = sorted({p for _, p, _ in frames} - {SILENCE})
        names: set[Context] = set()
        if unit == "triphone":
            spoken = {c: n for c, n in frames.items() if c[1] != SILENCE}
            names = {c for c, n in spoken.items() if n >= min_count}
            rest: Counter[Context] = Counter()
            for (left, phone, right), n in spoken.items():
                if (left, phone, right) not in names:
                    rest[left, phone, ANY] += n
            names |= {c for c, n in rest.items() if n >= min_count}
        return cls((*((ANY, p, ANY) for p in (SILENCE, *phones)), *sorted(names)))

    @property
    def phones(self) -> tuple[str, ...]:
        """Names of the phones, ``SIL`` first."""
        return tuple(p for left, p, right in self.names if left == right == ANY)

    @property
    def unit(self) -> str:
        """ "triphone" if any class has a context."""
        return UNITS[len(self.phones) == len(self.names)]

    def __len__(self) -> int:
        """K."""
        return len(self.names)

    def of(self, context: Context) -> int:
        """Return the class of a phone in context.

        Raises:
            KeyError: There is no such phone.
        """
        left, phone, _ = context
        ids = self._ids
        for name in (context, (left, phone, ANY)):
            if name in ids:
                return ids[name]
        return ids[ANY, phone, ANY]

    def write(self, path: Path | str) -> None:
        """Write ``classes.txt``."""
        write_text(path, "".join(" ".join(name) + "\n" for name in self.names))

    @classmethod
    def read(cls, path: Path | str) -> "ContextClasses":
        """Read ``classes.txt``, or that of an alignment directory.

        Raises:
            DataError: It is missing or not of this form.
        """
        path = Path(path)
        path = path / "classes.txt" if path.is_dir() else path
        if not path.is_file():
            raise DataError("classes.txt is missing", path, "give an alignment imported from times")
        rows = [tuple(line.split()) for line in path.read_text(encoding="utf-8").splitlines()]
        if not rows or any(len(r) != 3 for r in rows) or rows[0] != (ANY, SILENCE, ANY):
            raise DataError("not a list of classes 'left phone right' that begins with SIL", path)
        if len(set(rows)) != len(rows):
            raise DataError("a class stands twice", path)
        return cls(tuple(rows))


def contexts(phones: Sequence[str]) -> Iterable[Context]:
    """Yield each phone with its neighbours; beyond the ends is silence."""
    padded = [SILENCE, *phones, SILENCE]
    return zip(padded, padded[1:], padded[2:], strict=False)
