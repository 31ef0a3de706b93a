# SPDX-License-Identifier: Apache-2.0
"""What the importers of alignments share: a summary, and lengths of utterances to check against."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.align.formats.directory import AlignmentWriter
from espnet_ext.align.formats.header import FILE
from espnet_ext.data import audio
from espnet_ext.data.tables import iter_table, read_table
from espnet_ext.errors import DataError
from espnet_ext.files import check_replaceable

TOLERANCE_FRAMES = 3
SHOWN = 5


@dataclass
class ImportSummary:
    """What an import did.

    Args:
        out: The alignment directory.
        unit: Unit of its classes.
        num_classes: K.
        utterances: Utterances written.
        frames: Frames written.
        silence_frames: Frames whose phone is silence.
        skipped: Reason -> utterances left out.
        first_skipped: One of them, and why.
        warnings: What the user should know, by kind: texts that name files or utterances.
        facts: Further values for the report (model, jobs, Gaussians, ...).
    """

    out: Path
    unit: str
    num_classes: int
    utterances: int = 0
    frames: int = 0
    silence_frames: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first_skipped: str = ""
    warnings: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)

    def warn(self, kind: str, detail: str) -> None:
        """Remember a warning."""
        self.warnings.setdefault(kind, []).append(detail)

    def skip(self, writer: AlignmentWriter, utt: str, reason: str, detail: str = "") -> None:
        """Record an utterance that is left out."""
        writer.skip(utt, reason, detail)
        self.skipped[reason] += 1
        self.first_skipped = self.first_skipped or f"{utt}: {detail or reason}"

    def lines(self) -> list[str]:
        """Return the summary for a person."""
        share = self.silence_frames / max(1, self.frames)
        rows = [
            f"{self.out}: {self.utterances} utterances, {self.frames} frames "
            f"({share:.1%} silence), {self.num_classes} classes ({self.unit})"
        ]
        rows += [f"  {name}: {value}" for name, value in self.facts.items()]
        rows += [f"  skipped: {n} ({reason})" for reason, n in self.skipped.most_common()]
        for kind, details in self.warnings.items():
            more = f"; and {len(details) - SHOWN} more" if len(details) > SHOWN else ""
            rows.append(f"  warning: {kind} ({len(details)}): {'; '.join(details[:SHOWN])}{more}")
        return rows


def durations_s(data: Path | str) -> dict[str, float]:
    """Return the length of each utterance of a Kaldi-style folder in seconds.

    They come from utt2dur, utt2num_samples (with the rate in ``rate`` or of the first audio
    file), segments, or the headers of the audio files, whichever is there first.

    Raises:
        DataError: None of these can be used.
    """
    data = Path(data)
    for table in ("utt2dur", "utt2num_samples", "segments", "wav.scp"):
        if not (data / table).is_file():
            continue
        rate = rate_hz(data) if table == "utt2num_samples" else 1.0
        out = {}
        for utt, value in iter_table(data / table):
            try:
                out[utt] = _duration(table, value, rate)
            except (ValueError, IndexError):
                raise DataError(f"'{value}' tells no length", data / table) from None
        return out
    raise DataError(
        "the folder tells no lengths of utterances", data,
        "it needs utt2dur, utt2num_samples, segments or wav.scp",
    )  # fmt: skip


def _duration(table: str, value: str, rate: float) -> float:
    if table == "segments":
        _, start, end = value.split()
        return math.inf if float(end) == -1 else float(end) - float(start)
    if table == "wav.scp":
        return audio.info(value).duration_s
    return float(value) / rate


def check_out(out: Path | str, *sources: Path | str | None) -> None:
    """Refuse to replace what is no alignment, or has one of the sources in it.

    Raises:
        UsageError: So it is.
    """
    check_replaceable(Path(out), FILE, [Path(x) for x in sources if x is not None])


def rate_hz(data: Path) -> float:
    """Return the rate at which a folder's utt2num_samples counts.

    Raises:
        DataError: Neither a file ``rate`` nor audio tells it.
    """
    if (data / "rate").is_file():
        return float((data / "rate").read_text(encoding="ascii"))
    if (data / "wav.scp").is_file():
        for _, value in iter_table(data / "wav.scp"):
            return float(audio.info(value).rate)
    raise DataError(
        "utt2num_samples counts samples of an unknown rate", data,
        "write the rate in Hz to a file 'rate' there, or add utt2dur or wav.scp",
    )  # fmt: skip


def read_texts(text: Path | str) -> dict[str, str]:
    """Read a ``text`` file, or that of a Kaldi-style folder."""
    path = Path(text)
    return read_table(path / "text" if path.is_dir() else path)
