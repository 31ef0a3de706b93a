# SPDX-License-Identifier: Apache-2.0
"""Lines of Kaldi tables as bytes that may be anything; what :mod:`check` and :mod:`fix` share.

A line is first cleaned to one normal form, ``key value`` or ``key``: no BOM, NUL or CR, one space
after the key, none at the ends. All findings and repairs are defined on that form, so that a
repaired table is clean by construction. Bytes that are not UTF-8 survive as surrogate escapes.
"""

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

BOM = b"\xef\xbb\xbf"
MAIN = ("wav.scp", "segments", "text", "utt2spk", "spk2utt")
NEEDS_VALUE = ("wav.scp", "text", "utt2spk")
NOT_PER_UTTERANCE = ("stm", "glm", "spk2gender", "reco2dur", "reco2file_and_channel", "dropped.tsv")
_SNIFF_BYTES = 1 << 16
_GAP = re.compile("[ \t\v\f\x1c-\x1f\x85\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Row:
    """A cleaned line: number from 1, key, value, and the names of what was odd about it."""

    line: int
    key: str
    value: str
    odd: tuple[str, ...] = ()


@dataclass
class Table:
    """What a check remembers of a table: ids and line numbers, not the lines.

    ``values`` holds the first value of each key, its hash where the values can be long.
    """

    path: Path
    lines: dict[str, int] = field(default_factory=dict)
    values: dict[str, str | int] = field(default_factory=dict)
    valued: set[str] = field(default_factory=set)
    odd: dict[str, list[int]] = field(default_factory=dict)  # kind -> [first line, how many]
    unsorted: Row | None = None
    not_utf8: list[tuple[int, str]] = field(default_factory=list)
    empty: list[tuple[int, str]] = field(default_factory=list)
    twice: list[tuple[int, str, bool]] = field(default_factory=list)  # True: identical


def clean_line(raw: bytes, line: int, name: str) -> Row:
    """Bring the bytes of one line of table ``name`` to the normal form."""
    odd = [] if raw.endswith(b"\n") else ["newline"]
    body = raw.removesuffix(b"\n")
    if body.endswith(b"\r"):
        odd.append("crlf")
        body = body[:-1]
    if b"\0" in body:
        odd.append("nul")
        body = body.replace(b"\0", b"")
    while BOM in body:
        if "bom" not in odd:
            odd.append("bom")
        body = body.replace(BOM, b"")
    stray_cr = b"\r" in body
    try:
        text = body.replace(b"\r", b" ").decode()
    except UnicodeDecodeError:
        odd.append("utf8")
        text = body.replace(b"\r", b" ").decode("utf-8", "surrogateescape")
    key, value = [*text.split(maxsplit=1), "", ""][:2]
    value = _tidy(value.strip(), name)
    if not key:
        odd.append("blank")
    elif text != f"{key} {value}".rstrip(" ") or stray_cr:
        at, *rest = re.split("[ \t]", text, maxsplit=1)
        same = (at, _tidy("".join(rest).strip(), name)) == (key, value) and not stray_cr
        tab = same and text[len(at) : len(at) + 1] == "\t"
        odd.append("tab" if tab else "space" if same else "separator")
    return Row(line, key, value, tuple(odd))


def _tidy(value: str, name: str) -> str:
    if name == "wav.scp":
        return value  # a path may hold two spaces
    if name in ("segments", "utt2spk", "spk2utt"):
        return " ".join(value.split())
    return _GAP.sub(" ", value).strip()


def iter_rows(path: Path, name: str) -> Iterator[Row]:
    """Yield the cleaned lines of a table, blank ones too."""
    with open(path, "rb") as f:
        for number, raw in enumerate(f, 1):
            yield clean_line(raw, number, name)


def key_bytes(key: str) -> bytes:
    """Return the bytes that ``LC_ALL=C sort`` would compare."""
    return key.encode("utf-8", "surrogateescape")


def load(
    path: Path,
    name: str,
    needs_value: bool | None = None,
    visit: Callable[[Row], None] | None = None,
) -> Table:
    """Read a table for a check; memory holds its ids, not its lines.

    Args:
        path: Of the file.
        name: Of the table.
        needs_value: Whether a line must have a value; None: as usual for this name.
        visit: Called with each line that has a key and a value.
    """
    if needs_value is None:
        needs_value = name in NEEDS_VALUE
    table, last = Table(path), b""
    long_values = name not in ("wav.scp", "segments", "utt2spk", "spk2utt")
    for row in iter_rows(path, name):
        for kind in row.odd:
            table.odd.setdefault(kind, [row.line, 0])[1] += 1
        if not row.key:
            continue
        if "utf8" in row.odd:
            table.not_utf8.append((row.line, row.key))
        now = key_bytes(row.key)
        if now < last and table.unsorted is None:
            table.unsorted = row
        last = now
        _enter(table, row, needs_value, long_values)
        if visit and row.value:
            visit(row)
    return table


def _enter(table: Table, row: Row, needs_value: bool, long_value: bool) -> None:
    key, value = row.key, hash(row.value) if long_value and row.value else row.value
    first = table.values.get(key)
    if needs_value and not row.value:
        table.empty.append((row.line, key))
    elif first is not None and not (needs_value and first == ""):
        table.twice.append((row.line, key, first == value))
    if row.value:
        table.valued.add(key)
    if first is None or (needs_value and first == ""):
        table.values[key] = value
        table.lines[key] = row.line


def parse_segment(value: str) -> tuple[str, float, float] | None:
    """Parse ``recording start end`` (s); None unless it is that, with finite numbers."""
    parts = value.split()
    if len(parts) != 3:
        return None
    try:
        start_s, end_s = float(parts[1]), float(parts[2])
    except ValueError:
        return None
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        return None
    return parts[0], start_s, end_s


@dataclass(frozen=True)
class Ids:
    """Utterance ids of a directory: all of them, and why each incomplete one is incomplete."""

    all: set[str]
    lacking: dict[str, list[str]]

    @property
    def droppable(self) -> bool:
        """Dropping is safe only while something remains."""
        return len(self.lacking) < len(self.all)


def utterance_ids(tables: dict[str, "Table | None"]) -> Ids:
    """Compare the ids of the tables; absent and empty tables constrain nothing.

    Tables besides :data:`MAIN` are further streams, with a line for each utterance.

    The keys of wav.scp are utterances unless there is a segments file; then they are recordings.
    """
    segmented = tables.get("segments") is not None
    tables = {n: t for n, t in tables.items() if t is not None and t.lines}
    wav, segments = tables.get("wav.scp"), tables.get("segments")
    has: dict[str, Collection[str]] = {}
    everything: set[str] = set()
    for name in ("text", "utt2spk", *(n for n in tables if n not in MAIN)):
        if name in tables:
            has[name] = tables[name].valued
            everything |= tables[name].lines.keys()
    if segments is not None:
        has["segments"] = segments.lines.keys()
        everything |= segments.lines.keys()
        if wav is not None:
            has["wav.scp"] = everything - _without_recording(segments, wav)
    elif wav is not None and not segmented:
        has["wav.scp"] = wav.valued
        everything |= wav.lines.keys()
    lacking = {}
    for utt in everything:
        missing = [name for name, keys in has.items() if utt not in keys]
        if missing:
            lacking[utt] = missing
    return Ids(everything, lacking)


def _without_recording(segments: Table, wav: Table) -> set[str]:
    parsed = ((utt, parse_segment(str(value))) for utt, value in segments.values.items())
    return {utt for utt, segment in parsed if segment and segment[0] not in wav.valued}


def expected_spk2utt(utt2spk: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Invert ``(utterance, speaker)`` rows to the values of spk2utt, in byte order."""
    inverse: dict[str, list[str]] = {}
    for utt, spk in sorted(utt2spk, key=lambda row: key_bytes(row[0])):
        inverse.setdefault(spk, []).append(utt)
    return {s: " ".join(inverse[s]) for s in sorted(inverse, key=key_bytes)}


def extra_tables(data_dir: Path, utts: Collection[str]) -> list[str]:
    """Name the other tables keyed by utterance (intent, lang, ...).

    A file counts when at least half of the lines at its beginning start with an utterance id.
    """
    found = []
    for path in sorted(data_dir.iterdir()):
        name = path.name
        skip = name.startswith(".") or name in MAIN or name in NOT_PER_UTTERANCE
        if skip or path.suffix in (".json", ".md", ".yaml", ".tsv", ".scp") or not path.is_file():
            continue
        try:
            with open(path, "rb") as f:
                lines = f.read(_SNIFF_BYTES).split(b"\n")
        except OSError:
            continue
        keys = [k for k in (clean_line(raw, 0, name).key for raw in lines) if k]
        if keys and 2 * sum(k in utts for k in keys) >= len(keys):
            found.append(name)
    return found
