# SPDX-License-Identifier: Apache-2.0
"""What a conversion of cuts did, for a person."""

from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.align.formats.tiers import Losses

REFUSED, ALIGNMENT = "refused.tsv", "alignment"
SHOWN = 3
FORGOTTEN = (
    "all alignments are left out: their times count from the beginning of the recording, and "
    "shards do not tell where a cut began; convert the manifest that the shards were made of"
)


@dataclass
class Converted:
    """Figures of a conversion.

    Args:
        utterances: How many were written.
        aligned: How many of them have an alignment.
        misplaced: How many have one that does not lie in them.
        forgotten: All alignments were left out for that.
        refused: What was not written; all of it stands in refused.tsv.
        first: The first of these, with the reason.
        losses: What CTM files could not hold.
    """

    utterances: int = 0
    aligned: int = 0
    misplaced: int = 0
    forgotten: bool = False
    refused: int = 0
    first: list[str] = field(default_factory=list)
    losses: Losses = field(default_factory=Losses)

    def refuse(self, what: str) -> None:
        """Count what was refused."""
        self.refused += 1
        if len(self.first) < SHOWN:
            self.first.append(what)

    def lines(self, folder: Path) -> list[str]:
        """Return lines for a person; ``folder`` is what was written."""
        out = [f"{self.utterances:,} utterances written", *self.losses.lines()]
        if self.aligned:
            how = f"espnet-ext align import {folder / ALIGNMENT} OUT --data {folder}"
            out.append(f"{self.aligned:,} have alignments; for labels: {how}")
        if self.misplaced:
            what = "alignments left out: their times are not in the utterance"
            out.append(f"warning: {self.misplaced:,} {what}")
            out += [FORGOTTEN] if self.forgotten else []
        if self.refused:
            more = "; ..." if self.refused > len(self.first) else ""
            out.append(f"warning: {self.refused:,} refused: {'; '.join(self.first)}{more}")
            out.append(f"see {folder / REFUSED}")
        return out
