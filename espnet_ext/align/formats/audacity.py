# SPDX-License-Identifier: Apache-2.0
"""Audacity's label files: UTT.words.txt and UTT.phones.txt, a line ``start tab end tab label``.

In Audacity: File, Import, Labels. Lengths of utterances are in ``utt2dur``.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from espnet_ext.align.formats.ctm import format_s
from espnet_ext.align.formats.textgrid import NO_SCORE, named
from espnet_ext.align.formats.tiers import (
    LENGTHS,
    TIERS,
    Interval,
    Losses,
    Utterance,
    Utterances,
    files_below,
    last_end_s,
)
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError

ENDINGS = {tier: f".{tier}.txt" for tier in TIERS}


def render(u: Utterance, losses: Losses) -> dict[str, str]:
    """Return the files of an utterance, by their endings."""
    return {
        ENDINGS[tier]: "".join(
            f"{format_s(i.start_s)}\t{format_s(i.end_s)}\t{_line(u.name, i, losses)}\n"
            for i in rows
        )
        for tier, rows in u.tiers.items()
    }


def _line(utt: str, i: Interval, losses: Losses) -> str:
    if i.score is not None:
        losses.tell(NO_SCORE, utt, i)
    name = re.sub("[\r\n]", " ", i.name)
    if name != i.name:
        losses.tell("a label is one line, written with a space", utt, i)
    return name


def read(path: Path) -> Mapping[str, Utterance]:
    """Return the label files below a folder by utterance (the file's name), or one file.

    Raises:
        DataError: There is none, or two are of one utterance.
    """
    lengths: dict[str, str] = {}
    if path.is_file():
        tier = next((t for t, ending in ENDINGS.items() if path.name.endswith(ending)), "words")
        found = {path.name.removesuffix(ENDINGS[tier]).removesuffix(".txt"): {tier: path}}
    else:
        found = {}
        for tier, ending in ENDINGS.items():
            for utt, file in files_below(path, ending).items():
                found.setdefault(utt, {})[tier] = file
        if (path / LENGTHS).is_file():
            lengths = read_table(path / LENGTHS)
    if not found:
        endings = " or ".join("UTT" + e for e in ENDINGS.values())
        raise DataError("there are no label files in the folder", path, f"name them {endings}")

    def load(utt: str, files: dict[str, Path]) -> Utterance:
        tiers = {tier: _read_tier(file, tier) for tier, file in files.items()}
        return Utterance(utt, max(float(lengths.get(utt, 0.0)), last_end_s(tiers)), tiers)

    return Utterances(found, load)


def _read_tier(path: Path, tier: str) -> list[Interval]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"the labels cannot be read ({e})", path) from None
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("\\"):  # a range of frequencies
            continue
        try:
            start, end, label = [*line.split("\t", 2), ""][:3]
            entries.append((float(start), float(end), label))
        except ValueError:
            raise DataError(
                "the line is no label", f"{path}:{number}", "write: start, tab, end, tab, label"
            ) from None
    return named(entries, tier, path)
