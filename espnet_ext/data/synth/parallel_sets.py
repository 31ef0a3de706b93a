# SPDX-License-Identifier: Apache-2.0
"""Which sets a corpus of several languages has, and their files; see :mod:`.parallel`."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from espnet_ext.data import slu_manifest, slu_sets
from espnet_ext.data.slu_manifest import SluRow
from espnet_ext.data.synth.events import SILENCE
from espnet_ext.data.synth.grammar import Sentence
from espnet_ext.data.synth.layout import RATE_HZ
from espnet_ext.data.synth.meanings import DEV, TEST, TRAIN
from espnet_ext.data.tables import write_table
from espnet_ext.errors import UsageError
from espnet_ext.files import write_text

POOL, POOL_DEV = "pool", "pool_dev"
FRAME_SAMPLES = RATE_HZ // 100


@dataclass(frozen=True)
class ParallelRequest:
    """What a corpus holds; equal requests give equal bytes.

    Attributes:
        seed: Draws meanings, wordings, rooms and noise.
        pool: Languages of ``pool`` and of the two tables of texts.
        languages: Languages with ``train_<l>``, ``dev_<l>`` and ``test_<l>``.
        joint: Groups of languages that are also sets together: ``train_fr_it``.
        shares: Language, or languages as in ``fr_it``, and the percentages of its training set that
            are sets: ``train_ar_05``; a smaller share is part of a larger one.
        minutes: Training speech of each language, in minutes.
        pool_minutes: Speech of ``pool``, all languages together, in minutes.
        dev_utts, test_utts, pool_dev_utts: Utterances of each language.
    """

    seed: int = 1
    pool: tuple[str, ...] = ("en", "fr", "it", "ar")
    languages: tuple[str, ...] = ("fr", "it", "ar")
    joint: tuple[tuple[str, ...], ...] = (("fr", "it"),)
    shares: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("fr", (25, 50)),
        ("it", (25, 50)),
        ("fr_it", (25, 50)),
        ("ar", (5, 10, 25, 50)),
    )
    minutes: float = 12.0
    pool_minutes: float = 20.0
    dev_utts: int = 70
    test_utts: int = 120
    pool_dev_utts: int = 15

    def check(self) -> None:
        """Raise UsageError unless every value is usable."""
        lowest = {"minutes": 1e-3, "pool_minutes": 1e-3, "dev_utts": 1, "test_utts": 1}
        for name, low in (lowest | {"pool_dev_utts": 1, "seed": 0}).items():
            if not low <= getattr(self, name) <= 100_000:
                what = f"{name} is {getattr(self, name)}"
                raise UsageError(what, name, f"give a value in {low:g}..100000")

    def held_out(self) -> dict[str, int]:
        """Return the parts whose meanings no other part has, with their sizes."""
        return {DEV: self.dev_utts, TEST: self.test_utts, POOL_DEV: self.pool_dev_utts}


class Choice(NamedTuple):
    """Which rows make a set: a part, its languages, and how much of it, in order of speaking."""

    part: str
    languages: tuple[str, ...]
    percent: int = 100

    def take(self, rows: Iterable[dict]) -> list[dict]:
        """Return the rows of the set; a share has one of each language at least."""
        mine = [r for r in rows if r["split"] == self.part and r["language"] in self.languages]
        if self.percent == 100:
            return mine
        taken = []
        for language in self.languages:
            spoken = [row for row in mine if row["language"] == language]
            spoken.sort(key=lambda row: row["order"])
            taken += spoken[: max(1, round(len(spoken) * self.percent / 100))]
        return taken


def sets_of(request: ParallelRequest) -> dict[str, Choice]:
    """Return the sets by name."""
    sets = {part: Choice(part, request.pool) for part in (POOL, POOL_DEV)}
    for group in (*((language,) for language in request.languages), *request.joint):
        for part in (TRAIN, DEV, TEST):
            sets["_".join((part, *group))] = Choice(part, group)
    for group, shares in request.shares:
        for percent in shares:
            name = f"{TRAIN}_{group}_{percent:02d}"
            sets[name] = Choice(TRAIN, tuple(group.split("_")), percent)
    return sets


def write_sets(
    folder: Path, out_dir: str, sets: Mapping[str, Choice], rows: Sequence[dict]
) -> dict[str, dict]:
    """Write manifest.tsv, phones.txt, and the folders of the sets.

    A set has ``wav.scp``, ``text`` (tagged), ``plain``, ``utt2spk``, ``spk2utt``, ``utt2lang`` and
    ``meaning``; those of the pool have ``phones``, too.

    Args:
        folder: Existing folder to write to.
        out_dir: Name ``folder`` will have in the end; ``wav.scp`` names the audio by it.
        sets: Which rows make which set.
        rows: The utterances, see :func:`espnet_ext.data.synth.corpus.speak`; each also has its
            ``language``, ``meaning``, ``tagged`` text and ``order`` in its part.

    Returns:
        Set to its ``utterances``, ``hours``, ``speakers``, ``languages``, ``meanings`` ...
    """
    labels = {p[0] for row in rows if row["split"] in (POOL, POOL_DEV) for p in row["phones"]}
    phones = [SILENCE, *sorted(labels - {SILENCE})]
    write_text(folder / "phones.txt", "".join(f"{phone}\n" for phone in phones))
    ids = {phone: i for i, phone in enumerate(phones)}
    listed = (_slu_row(row, "")._replace(end_s=None) for row in rows)
    slu_manifest.write(folder / slu_manifest.NAME, listed)
    counts = {}
    for name, choice in sets.items():
        chosen = choice.take(rows)
        made = [_slu_row(row, out_dir) for row in chosen]
        report = slu_sets.write_sets(made, folder, {name: slu_sets.Choice(choice.part)})
        counts[name] = report.sets[name] | {"meanings": len({row.meaning for row in made})}
        if choice.part in (POOL, POOL_DEV):
            frames = ((r["id"], frame_labels(r["phones"], r["duration_s"], ids)) for r in chosen)
            lines = {utt: " ".join(map(str, labels)) for utt, labels in frames}
            write_table(folder / name / "phones", lines)
    return counts


def _slu_row(row: dict, out_dir: str) -> SluRow:
    return SluRow(
        id=row["id"],
        audio=str(Path(out_dir, row["audio"])),
        start_s=None,
        end_s=row["duration_s"],
        speaker=row["speaker"]["id"],
        language=row["language"],
        text=row["text"],
        tagged=row["tagged"],
        set=row["split"],
        meaning=row["meaning"],
    )


def frame_labels(
    phones: Sequence[Sequence], duration_s: float, ids: Mapping[str, int]
) -> list[int]:
    """Return a label for each 10 ms, label k for ``[k, k + 1)`` of them: the phone at the centre.

    Args:
        phones: ``(label, start_s, end_s)``, without gaps, from 0 to ``duration_s``.
        duration_s: Length of the utterance; a started frame at its end has a label, too.
        ids: Label to number.
    """
    n_samples = round(duration_s * RATE_HZ)
    centres = np.arange(-(-n_samples // FRAME_SAMPLES)) * FRAME_SAMPLES + FRAME_SAMPLES // 2
    ends = np.array([round(end_s * RATE_HZ) for _, _, end_s in phones])
    at = np.minimum(np.searchsorted(ends, centres, side="right"), len(phones) - 1)
    return [ids[phones[i][0]] for i in at]


def write_texts(
    path: Path, known: Mapping[str, Mapping[str, list[Sentence]]], meanings: Iterable[str]
) -> None:
    """Write a table with header: meaning, language, text; all wordings in all languages."""
    lines = ["meaning\tlanguage\ttext"]
    for meaning in sorted(meanings):
        for language, found in known.items():
            lines += [f"{meaning}\t{language}\t{s.text}" for s in found[meaning]]
    write_text(path, "\n".join(lines) + "\n")
