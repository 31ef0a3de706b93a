# SPDX-License-Identifier: Apache-2.0
"""A small MuST-C in the layout of the corpus, version 1 or 2; the audio is noise."""

from pathlib import Path

import numpy as np
import soundfile

# talk, start in seconds, duration, English, translation
ROWS = {
    "train": [
        ("ted_1", 0.5, 1.5, "Thank you.", "Danke."),
        ("ted_1", 2.25, 0.05, "Yes!", "Ja!"),  # widened
        ("ted_1", 2.25, 0.05, "Yes!", "Ja!"),  # repeated
        ("ted_1", 3.9, 0.1, "So", "Also"),  # widened to the left: the audio ends at 4 s
        ("ted_23", 0.0, 1.0, "(Applause)", ""),  # no translation
        ("ted_23", 1.0, 1.25, "It's   late.", "Es ist spät."),
        ("ted_23", 9.0, 1.0, "Lost", "Verloren"),  # beyond the audio
    ],
    "dev": [("ted_7", 0.0, 1.0, "Go on", "Weiter")],
    "tst-COMMON": [("ted_8", 0.0, 1.0, "Why?", "Warum?"), ("ted_8", 1.0, 1.0, "So.", "So.")],
    "tst-HE": [("ted_9", 0.0, 2.0, "Here", "Hier")],
}
SECONDS = 4.0


def make_must_c(parent: Path, version: int = 1, language: str = "de") -> Path:
    """Write ``parent/MUSTC/en-XX`` and return ``parent/MUSTC``."""
    root = parent / "MUSTC"
    rng = np.random.default_rng(0)
    for split, rows in ROWS.items():
        folder = root / f"en-{language}" / "data" / split
        (folder / "wav").mkdir(parents=True)
        (folder / "txt").mkdir()
        for talk in {row[0] for row in rows}:
            noise = 0.1 * rng.standard_normal(int(SECONDS * 16000))
            soundfile.write(folder / "wav" / f"{talk}.wav", noise, 16000)
        more = "rW: 3, uW: 0, " if version == 2 else ""
        marks = [
            f"- {{duration: {d:.6f}, offset: {s:.6f}, {more}speaker_id: spk.{t[4:]}, wav: {t}.wav}}"
            for t, s, d, _, _ in rows
        ]
        for suffix, lines in (
            ("yaml", marks), ("en", [r[3] for r in rows]), (language, [r[4] for r in rows])
        ):  # fmt: skip
            text = "".join(f"{line}\n" for line in lines)
            (folder / "txt" / f"{split}.{suffix}").write_text(text, encoding="utf-8")
    return root
