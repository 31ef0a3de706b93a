# SPDX-License-Identifier: Apache-2.0
"""Sets of SUPERB's tasks in the making: audio, label, speaker, and what is left out, why."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.data.tables import write_set, write_table
from espnet_ext.errors import DataError
from espnet_ext.files import write_text


@dataclass
class SuperbSet:
    """A set: what was read is in ``rows`` or in ``skipped``.

    Attributes:
        name: Folder below ``data/``.
        rows: ``{utterance: (audio, label, speaker)}``.
        times: ``{utterance: (start, end)}`` in seconds of utterances that are parts of a file.
        rttm: Lines of ``rttm``; a set that has some has no ``text``.
        skipped: ``(where, reason, detail)``.
    """

    name: str
    rows: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    times: dict[str, tuple[float, float]] = field(default_factory=dict)
    rttm: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)

    def skip(self, where: object, reason: str, detail: str = "") -> None:
        """Leave something out."""
        self.skipped.append((str(where), reason, detail))

    def add(
        self, utt: str, audio: Path, label: str, speaker: str, where: object,
        times: tuple[float, float] | None = None,
    ) -> None:  # fmt: skip
        """Add an utterance; its id starts with the speaker's, else that is put in front.

        Raises:
            DataError: There is no such audio, or the utterance stands twice.
        """
        utt = utt if utt.startswith(speaker) else f"{speaker}-{utt}"
        if not audio.is_file():
            raise DataError(f"the audio of '{utt}' is missing: {audio}", where, "complete the copy")
        if utt in self.rows:
            raise DataError(f"'{utt}' stands twice", where, "remove one of them")
        self.rows[utt] = (os.path.abspath(audio), label, speaker)
        if times:
            self.times[utt] = times

    def write(self, out: Path) -> None:
        """Write the folder and tell its size.

        Raises:
            DataError: The set has no utterance.
        """
        if not self.rows:
            raise DataError(f"{self.name} has no utterance", self.name, "complete the copy")
        folder = out / self.name
        write_set(folder, self.rows)
        if self.rttm:
            (folder / "text").unlink()
            write_text(folder / "rttm", "\n".join(self.rttm) + "\n")
        if self.times:  # recordings: the files that are cut, and those that are taken whole
            wavs = {u: r[0] for u, r in self.rows.items() if u not in self.times}
            cut = {u: f"{Path(self.rows[u][0]).stem}-whole" for u in self.times}
            lengths = {u: length_s(path) for u, path in wavs.items()}
            segments = {u: f"{u} 0.000 {lengths[u]:.4f}" for u in wavs}
            segments |= {u: f"{cut[u]} {a:.3f} {b:.3f}" for u, (a, b) in self.times.items()}
            write_table(folder / "wav.scp", {**wavs, **{cut[u]: self.rows[u][0] for u in cut}})
            write_table(folder / "segments", segments)
        print(f"{self.name}: {len(self.rows)} utterances, {len(self.skipped)} left out")


def length_s(path: str) -> float:
    """Return the length of a file in seconds, rounded down to 0.1 ms."""
    from espnet_ext.data.audio import info

    return int(info(path).duration_s * 1e4) / 1e4


def corpus_root(variable: str, content: str) -> Path:
    """Return the folder that a variable names.

    Raises:
        DataError: It is not set, or does not hold ``content``.
    """
    value = os.environ.get(variable)
    if not value:
        what = f"the environment variable {variable} is not set"
        raise DataError(what, variable, "see the README of egs2/superb/multistage1")
    if not (Path(value) / content).exists():
        how = f"set {variable} to the folder that holds {content}"
        raise DataError(f"there is no {content}", value, how)
    return Path(value)
