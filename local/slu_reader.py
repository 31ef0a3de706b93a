# SPDX-License-Identifier: Apache-2.0
"""Annotated turns into the rows of a manifest; what is left out is listed with its reason."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from slu_xml import Cut, Cutter, Event

from espnet_ext.data.audio import END_TOLERANCE_S
from espnet_ext.data.slu_manifest import SHORTEST_S, SluRow, audio_lengths, write
from espnet_ext.data.slu_sets import Skip
from espnet_ext.errors import DataError


class Turn(NamedTuple):
    """A turn of a caller: ``[start_s, end_s)`` of a file; ``where`` is file:line."""

    recording: str
    audio: Path
    start_s: float
    end_s: float
    speaker: str
    part: str
    where: str


class Reader:
    """Collects utterances: ``read == len(rows) + len(skipped)``.

    Args:
        language: Of the corpus.
        cutter: Makes utterances of a turn.
    """

    def __init__(self, language: str, cutter: Cutter):
        self.language, self.cutter = language, cutter
        self.rows: dict[str, SluRow] = {}
        self.skipped: list[Skip] = []
        self.turns = 0
        self.different = 0  # turns whose annotation has other words than their transcript
        self._length_s = audio_lengths()

    def skip(self, where: object, reason: str, detail: str = "") -> None:
        """Leave something out."""
        self.skipped.append(Skip(str(where), reason, detail))

    def add(self, turn: Turn, events: Iterable[Event], said: str) -> None:
        """Take the utterances of a turn.

        Args:
            turn: Its place.
            events: Of its annotation.
            said: Its transcript; a turn with words and without annotated ones is told apart.
        """
        self.turns += 1
        cuts = self.cutter(events, turn.start_s, turn.end_s)
        normal = " ".join(self.cutter.normalise(said).split())
        if not cuts:
            self.skip(turn.where, "no annotation" if normal else "no words", normal)
            return
        self.different += "".join(normal.split()) != "".join("".join(c.text for c in cuts).split())
        for cut in cuts:
            self._add(turn, cut)

    def _add(self, turn: Turn, cut: Cut) -> None:
        length_s = self._length_s(str(turn.audio))
        times = f"[{cut.start_s:g}, {cut.end_s:g}) s"
        name = f"{turn.recording}-{round(cut.start_s * 1000):07d}-{round(cut.end_s * 1000):07d}"
        if cut.end_s - cut.start_s < SHORTEST_S:
            self.skip(turn.where, "no duration", f"{times}: {cut.text}")
        elif cut.end_s > length_s + END_TOLERANCE_S or cut.start_s + SHORTEST_S > length_s:
            self.skip(turn.where, "beyond the audio", f"{times} of {length_s:.3f} s: {cut.text}")
        elif name in self.rows:
            self.skip(turn.where, "times of an utterance before", f"{times}: {cut.text}")
        else:
            self.rows[name] = SluRow(
                name, str(turn.audio.absolute()), cut.start_s, min(cut.end_s, length_s),
                turn.speaker, self.language, cut.text, cut.tagged, turn.part, "", turn.where,
            )  # fmt: skip

    def write(self, path: Path) -> None:
        """Write the manifest and tell the numbers.

        Raises:
            DataError: There is no utterance.
        """
        if not self.rows:
            raise DataError("no utterance of the corpus can be used", path, "see its layout")
        write(path, self.rows.values())
        reasons = Counter(skip.reason for skip in self.skipped)
        why = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
        print(f"{self.turns} turns; {len(self.rows)} utterances written to {path.name}, "
              f"{len(self.skipped)} left out{': ' + why if why else ''}")  # fmt: skip
        if self.different:
            print(f"{self.different} turns: the annotated words are not those of the transcript")
        if self.cutter.unclosed:
            print(f"{self.cutter.unclosed} concepts have no end mark and end with their turn, "
                  "or where the next one begins")  # fmt: skip
