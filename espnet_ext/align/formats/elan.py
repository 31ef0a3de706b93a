# SPDX-License-Identifier: Apache-2.0
"""ELAN's annotation files (.eaf): a file for an utterance, with the tiers "words" and "phones".

Times are whole milliseconds. The length of the utterance is a property in the header. Where the
audio is known, the file names it, and where in it the utterance begins.

Source: EAF 3.0 schema, https://www.mpi.nl/tools/elan/EAFv3.0.xsd
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from espnet_ext.align.formats.textgrid import NO_LENGTH, NO_SCORE, named, tier_of
from espnet_ext.align.formats.tiers import (
    Interval,
    Losses,
    Utterance,
    file_each,
    last_end_s,
)
from espnet_ext.errors import DataError

ENDING = ".eaf"
INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
LENGTH = "length_s"
TYPE = "default-lt"  # ELAN's own name of a tier type without constraints
MIME = {".wav": "audio/x-wav", ".mp3": "audio/mpeg", ".flac": "audio/flac", ".ogg": "audio/ogg"}
ROUNDED = "a time is rounded to milliseconds"
SAME_MS = 5e-7  # s
# XML has no place for these; a carriage return would come back as a line feed.
_ILLEGAL = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]")


def render(u: Utterance, losses: Losses) -> dict[str, str]:
    """Return the file of an utterance, by its ending."""
    root = ET.Element(
        "ANNOTATION_DOCUMENT", AUTHOR="espnet_ext", FORMAT="3.0", VERSION="3.0",
        DATE=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    root.set(f"{{{INSTANCE}}}noNamespaceSchemaLocation", SCHEMA)
    header = ET.SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    if u.audio:
        path = Path(u.audio)
        about = {"MEDIA_URL": path.absolute().as_uri(), "RELATIVE_MEDIA_URL": f"./{path.name}"}
        about["MIME_TYPE"] = MIME.get(path.suffix.lower(), "unknown")
        if u.start_s:
            about["TIME_ORIGIN"] = str(_ms(u.start_s))
        ET.SubElement(header, "MEDIA_DESCRIPTOR", about)
    ET.SubElement(header, "PROPERTY", NAME=LENGTH).text = repr(float(u.length_s))
    order = ET.SubElement(root, "TIME_ORDER")
    slots: list[int] = []  # their times
    for name, rows in u.tiers.items():
        tier = ET.SubElement(root, "TIER", LINGUISTIC_TYPE_REF=TYPE, TIER_ID=name)
        if u.speaker:
            tier.set("PARTICIPANT", _legal(u.speaker))
        for i in _kept(u.name, rows, losses):
            refs = {}
            for n, time in enumerate((i.start_s, i.end_s), 1):
                slots.append(_ms(time))
                refs[f"TIME_SLOT_REF{n}"] = f"ts{len(slots)}"
            outer = ET.SubElement(tier, "ANNOTATION")
            refs["ANNOTATION_ID"] = f"a{len(slots) // 2}"
            inner = ET.SubElement(outer, "ALIGNABLE_ANNOTATION", refs)
            ET.SubElement(inner, "ANNOTATION_VALUE").text = _legal(i.name)
    for time, number in sorted(zip(slots, range(1, len(slots) + 1), strict=True)):
        ET.SubElement(order, "TIME_SLOT", TIME_SLOT_ID=f"ts{number}", TIME_VALUE=str(time))
    ET.SubElement(root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID=TYPE, TIME_ALIGNABLE="true")
    ET.indent(root)
    text = ET.tostring(root, encoding="unicode")
    return {ENDING: f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'}


def _kept(utt: str, rows: list[Interval], losses: Losses) -> list[Interval]:
    """Return the intervals that can be written; tell of what they lose."""
    kept = []
    for i in rows:
        if _ms(i.start_s) >= _ms(i.end_s):
            losses.tell(NO_LENGTH, utt, i)
            continue
        if any(abs(t - _ms(t) / 1000) > SAME_MS for t in (i.start_s, i.end_s)):
            losses.tell(ROUNDED, utt, i)
        if _legal(i.name) != i.name:
            losses.tell("a control character cannot stand in XML, written as U+FFFD", utt, i)
        if i.score is not None:
            losses.tell(NO_SCORE, utt, i)
        kept.append(i)
    return kept


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _legal(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)


def read(path: Path) -> Mapping[str, Utterance]:
    """Return the .eaf files below a folder, or one file; see :func:`.tiers.file_each`."""
    return file_each(path, ENDING, ".eaf file", _load)


def _load(utt: str, path: Path) -> Utterance:
    try:
        root = ET.parse(path).getroot()  # noqa: S314 (expat limits what entities grow to)
        slots = {s.attrib["TIME_SLOT_ID"]: s.get("TIME_VALUE") for s in root.iter("TIME_SLOT")}
        tiers, speaker = {}, ""
        for tier in root.iter("TIER"):
            if (kind := tier_of(tier.attrib["TIER_ID"])) is None:
                continue
            if kind in tiers:
                raise DataError(f"there are two tiers of {kind}", path, "write one file a speaker")
            tiers[kind] = named(_entries(tier, slots, path), kind, path)
            speaker = speaker or tier.get("PARTICIPANT", "")
        lengths = [p.text for p in root.iter("PROPERTY") if p.get("NAME") == LENGTH]
        length_s = float(lengths[0]) if lengths else 0.0
    except (ET.ParseError, ValueError, KeyError, TypeError, OSError) as e:
        raise DataError(f"not an .eaf file that can be read ({e})", path) from None
    if not tiers:
        raise DataError("no tier 'words' or 'phones'", path)
    return Utterance(utt, max(length_s, last_end_s(tiers)), tiers, speaker)


def _entries(tier: ET.Element, slots: Mapping[str, str | None], path: Path):
    """Yield start, end and label of a tier's annotations."""
    for a in tier.iter("ALIGNABLE_ANNOTATION"):
        label = a.findtext("ANNOTATION_VALUE") or ""
        times = [slots[a.attrib[f"TIME_SLOT_REF{n}"]] for n in (1, 2)]
        if None in times:
            raise DataError(f"'{label}' has no time", path, "give each annotation a start and end")
        yield float(times[0]) / 1000, float(times[1]) / 1000, label
