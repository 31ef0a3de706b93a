# SPDX-License-Identifier: Apache-2.0
"""Kaldi-style folders out of a manifest of tagged speech: one for each set that a recipe names."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from espnet_ext.data.slu_manifest import SluRow, unknown
from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import write_text
from espnet_ext.text import tagged as tags

FILES = ("wav.scp", "segments", "text", "plain", "utt2spk", "utt2lang", "meaning")


class Choice(NamedTuple):
    """Which rows make a set: those of part ``part`` in one of ``languages`` (empty: all)."""

    part: str
    languages: tuple[str, ...] = ()

    def takes(self, row: SluRow) -> bool:
        """Tell whether the row belongs to the set."""
        return row.set == self.part and (not self.languages or row.language in self.languages)


class Skip(NamedTuple):
    """An utterance that was read and not written."""

    where: str
    reason: str
    detail: str = ""


@dataclass
class SetsReport:
    """What was made; ``read == written + len(skipped)``.

    Attributes:
        read: Rows of the manifest.
        written: Rows that are in at least one set.
        sets: ``{set: numbers}``: utterances, hours, speakers, languages, concepts, tags (distinct
            concepts) and no_concept (utterances without one).
        skipped: The other rows.
    """

    read: int = 0
    written: int = 0
    sets: dict[str, dict] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)


def parse_choice(text: str) -> tuple[str, Choice]:
    """Parse ``name=part`` or ``name=part:language,language``; ``part`` alone names itself.

    Raises:
        UsageError: It has another form.
    """
    rule = text.split("=", 1)[-1]
    part, _, languages = rule.partition(":")
    name = text.split("=", 1)[0] if "=" in text else part
    chosen = tuple(x for x in languages.split(",") if x)
    if not name or not part or (":" in rule and not chosen):
        how = "NAME=SET or NAME=SET:LANGUAGE,LANGUAGE, e.g. train_fr_it=train:fr,it"
        raise UsageError(f"'{text}' names no set", "--set", how)
    return name, Choice(part, chosen)


def default_sets(parts: Iterable[str], languages: tuple[str, ...] = ()) -> dict[str, Choice]:
    """Return the sets without rules: each part of the manifest under its own name."""
    return {part: Choice(part, languages) for part in sorted(set(parts) - {""})}


def write_sets(
    rows: Iterable[SluRow], out: Path | str, sets: Mapping[str, Choice], where: object = None
) -> SetsReport:
    """Write ``out/<set>/`` with :data:`FILES` and spk2utt.

    ``text`` is the tagged text, ``plain`` the words; ``segments`` is there where rows have times,
    ``meaning`` where they have one. Memory grows with the rows.

    Args:
        rows: Checked ones.
        out: Folder of the sets.
        sets: ``{name: which rows}``; a row may be in several.
        where: Of the manifest, for messages.

    Raises:
        DataError: A part or language is asked for that no row has, a set would be empty, or only
            some rows of a set have a meaning.
    """
    report, kept = SetsReport(), {name: [] for name in sets}
    parts: dict[str, set[str]] = {}  # part of the manifest -> its languages
    for row in rows:
        report.read += 1
        parts.setdefault(row.set, set()).add(row.language)
        names = [name for name, choice in sets.items() if choice.takes(row)]
        if not row.set:
            report.skipped.append(Skip(row.where, "set is empty", row.id))
        elif not names:
            report.skipped.append(Skip(row.where, "in no set", f"{row.set}, {row.language}"))
        elif not row.text:
            report.skipped.append(Skip(row.where, "no words", row.id))
        else:
            report.written += 1
            for name in names:
                kept[name].append(row)
    if not sets:
        how = "write train, dev or test in the column set of each line"
        raise DataError("no line of the manifest names a set", where, how)
    for name, choice in sets.items():
        _check_set(name, choice, parts, bool(kept[name]), where)
    for name, chosen in kept.items():
        report.sets[name] = _write_set(Path(out) / name, chosen)
    return report


def write_skipped(out: Path | str, skipped: Iterable[Skip]) -> None:
    """Write ``skipped.tsv``: file:line, reason, detail."""
    lines = ["where\treason\tdetail", *("\t".join(skip) for skip in skipped)]
    write_text(Path(out) / "skipped.tsv", "\n".join(lines) + "\n")


def tell(report: SetsReport) -> str:
    """Return the numbers as lines for a person."""
    reasons = Counter(skip.reason for skip in report.skipped)
    why = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
    lines = [f"{report.read} utterances read, {report.written} written, "
             f"{len(report.skipped)} skipped{': ' + why if why else ''}"]  # fmt: skip
    for name, made in report.sets.items():
        lines.append(
            f"{name}: {made['utterances']} utterances ({made['hours']:.2f} h, {made['speakers']} "
            f"speakers, {', '.join(made['languages'])}), {made['concepts']} concepts of "
            f"{made['tags']} kinds, {made['no_concept']} utterances without one"
        )
    return "\n".join(lines)


def _check_set(name: str, choice: Choice, parts: dict, filled: bool, where: object) -> None:
    """Raise when a set asks for what no row has."""
    if choice.part not in parts:
        raise unknown("set", choice.part, filter(None, parts), where)
    for language in choice.languages:
        if language not in parts[choice.part]:
            there = parts[choice.part]
            raise unknown(f"language of set {choice.part}", language, there, where)
    if not filled:
        raise DataError(f"set {name} would be empty: no utterance has words", where, "fill it")


def _write_set(folder: Path, rows: list[SluRow]) -> dict:
    """Write the tables of one set and return its numbers."""
    for old in (*FILES, "spk2utt"):
        (folder / old).unlink(missing_ok=True)
    if all(row.start_s is None for row in rows):
        audio = {row.id: row.audio for row in rows}
    else:
        names = _recordings(row.audio for row in rows)
        audio = {name: path for path, name in names.items()}
        segments = {
            row.id: f"{names[row.audio]} {row.start_s or 0:.3f} {row.end_s:.3f}" for row in rows
        }
        write_table(folder / "segments", segments)
    write_table(folder / "wav.scp", audio)
    write_table(folder / "text", {row.id: row.tagged for row in rows})
    write_table(folder / "plain", {row.id: row.text for row in rows})
    write_table(folder / "utt2lang", {row.id: row.language for row in rows})
    utt2spk = {row.id: row.speaker for row in rows}
    write_table(folder / "utt2spk", utt2spk)
    write_spk2utt(folder, utt2spk)
    if any(row.meaning for row in rows):
        if lacking := next((row for row in rows if not row.meaning), None):
            what = f"'{lacking.id}' has no meaning, and other utterances of its set have one"
            raise DataError(what, lacking.where, "fill the column meaning, or remove it")
        write_table(folder / "meaning", {row.id: row.meaning for row in rows})
    return _numbers(rows)


def _recordings(paths: Iterable[str]) -> dict[str, str]:
    """Return ``{path: name without blanks}``; files of one name get a hash of their path."""
    distinct = dict.fromkeys(paths)
    stems = {path: "_".join(Path(path).stem.split()) for path in distinct}
    uses = Counter(stems.values())
    return {
        path: stem if uses[stem] == 1 else f"{stem}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        for path, stem in stems.items()
    }


def _numbers(rows: list[SluRow]) -> dict:
    used = [tags.tags(row.tagged) for row in rows]
    return {
        "utterances": len(rows),
        "hours": sum(row.end_s - (row.start_s or 0.0) for row in rows) / 3600,
        "speakers": len({row.speaker for row in rows}),
        "languages": sorted({row.language for row in rows}),
        "concepts": sum(map(len, used)),
        "tags": len(set().union(*used)),
        "no_concept": sum(not found for found in used),
    }
