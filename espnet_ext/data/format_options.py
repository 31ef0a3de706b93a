# SPDX-License-Identifier: Apache-2.0
"""What formatting is asked for, and what it tells."""

import math
from dataclasses import dataclass, field

from espnet_ext.data import content
from espnet_ext.errors import UsageError

SHOWN = 3  # utterances named in a line of the summary


@dataclass(frozen=True)
class FormatOptions:
    """How to format a data directory.

    Args:
        fs: Sampling rate of the result in Hz.
        min_s: Shortest utterance kept, in seconds.
        max_s: Longest utterance kept, in seconds.
        speeds: Speed factors, 1 for the original; tempo and pitch change together.
        audio_format: ``flac`` or ``wav``, both 16 bit.
        ctc_stride: Feature frames (10 ms) per encoder frame.
        ctc_units: What CTC will predict, for dropping what is too short for it: ``char`` (exact),
            ``tagged`` (exact where tags are one unit), ``word`` (a lower bound for any BPE), None
            for no such check.
        channel: Channel of the audio to take, counted from 0; None averages all.
        faults: Faults of the audio's content for which an utterance is dropped; others are noted.
    """

    fs: int = 16000
    min_s: float = 0.1
    max_s: float = 30.0
    speeds: tuple[float, ...] = (1.0,)
    audio_format: str = "flac"
    ctc_stride: int = 4
    ctc_units: str | None = None
    channel: int | None = None
    faults: tuple[str, ...] = content.ALL

    def __post_init__(self) -> None:
        names = [f"{s:g}" for s in self.speeds]
        checks = {
            "fs": self.fs >= 100,
            "min_s": 0 <= self.min_s < self.max_s,
            "speeds": names
            and len(set(names)) == len(names)
            and all(math.isfinite(s) and s > 0 for s in self.speeds),
            "audio_format": self.audio_format in ("flac", "wav"),
            "ctc_stride": self.ctc_stride >= 1,
            "ctc_units": self.ctc_units in ("char", "tagged", "word", None),
            "channel": self.channel is None or self.channel >= 0,
            "faults": set(content.BROKEN) <= set(self.faults) <= set(content.ALL),
        }
        for name, good in checks.items():
            if not good:
                value = getattr(self, name)
                raise UsageError(f"{name} cannot be {value!r}", "format options", "see its docs")


@dataclass
class FormatReport:
    """What formatting did; ``read * len(speeds) == written + joined + len(dropped)``.

    Args:
        read: Utterances of the source.
        written: Utterances of the result, speed copies counted.
        dropped: ``(utterance, reason, numbers)``, speed copies counted.
        notes: ``(utterance, what, numbers)`` of what is kept and should be looked at (clipped,
            unequal channels, scaled against clipping).
        unused: What was left out because no audio belongs to it, one line each.
        reused: Recordings whose result an earlier, interrupted run had finished.
        joined: Utterances that are part of the one that another begins.
    """

    read: int
    written: int = 0
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[tuple[str, str, str]] = field(default_factory=list)
    reused: int = 0
    joined: int = 0
    unused: list[str] = field(default_factory=list)

    @property
    def summary(self) -> list[str]:
        """One line for each kind of note, with the first utterances, and what was left out."""
        kinds: dict[str, list[str]] = {}
        for utt, what, _ in self.notes:
            kinds.setdefault(what, []).append(utt)
        lines = []
        for what, utts in sorted(kinds.items()):
            more = ", ..." if len(utts) > SHOWN else ""
            lines.append(f"{len(utts)} x {what} ({', '.join(utts[:SHOWN])}{more})")
        return [*lines, *self.unused]
