# SPDX-License-Identifier: Apache-2.0
"""A small sentence encoder for a corpus, where no LaBSE is at hand: trained on its training texts.

With the column ``meaning`` and several languages it learns from translations. Otherwise it learns
to find a sentence by copies of it that lack some words: then it knows words, not their meaning.
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from espnet_ext.data.slu_manifest import SluRow
from espnet_ext.errors import DataError
from espnet_ext.files import write_text
from espnet_ext.text import parallel

FOLDER, TABLE = "sentence_encoder", "parallel.tsv"
COPIES = ("whole", "shorter", "shorter_too")
LEFT_OUT = 0.15  # share of the words that a copy lacks
LEAST_TEXTS = 8

Line = tuple[str, str, str]  # meaning, language, text


def teach(rows: Iterable[SluRow], part: str, out: Path, args: parallel.ParallelArgs) -> None:
    """Write ``out/parallel.tsv`` and train ``out/sentence_encoder`` on it.

    Raises:
        DataError: The part has too few different texts, or the encoder is of no use.
    """
    taught = [row for row in rows if row.set == part and row.text]
    lines = translations(taught) or shortened(taught, args.seed)
    if len({text for *_, text in lines}) < LEAST_TEXTS:
        what = f"{part} has fewer than {LEAST_TEXTS} different texts to train a sentence encoder on"
        raise DataError(what, out / TABLE, "SENTENCE_ENCODER=/path ./run.sh names another one")
    table = "".join("\t".join(line) + "\n" for line in [parallel.COLUMNS, *lines])
    write_text(out / TABLE, table)
    parallel.make(out / TABLE, out / FOLDER, None, args)


def translations(rows: Iterable[SluRow]) -> list[Line]:
    """Return the different texts of meanings; empty if there are not two in two languages."""
    lines = dict.fromkeys((r.meaning, r.language, r.text) for r in rows if r.meaning)
    languages = defaultdict(set)
    for meaning, language, _ in lines:
        languages[meaning].add(language)
    return list(lines) if sum(len(known) > 1 for known in languages.values()) > 1 else []


def shortened(rows: Iterable[SluRow], seed: int) -> list[Line]:
    """Return each text and two copies of it without some of its words."""
    draw, lines = random.Random(seed), []
    for number, text in enumerate(dict.fromkeys(row.text for row in rows)):
        words = text.split()
        for copy in COPIES:
            rest = words if copy == COPIES[0] else [w for w in words if draw.random() > LEFT_OUT]
            lines.append((f"text{number}", copy, " ".join(rest or words[:1])))
    return lines
