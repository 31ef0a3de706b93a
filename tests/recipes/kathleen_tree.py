# SPDX-License-Identifier: Apache-2.0
"""A small corpus in both layouts of the Kathleen voice; the audio is noise of different lengths."""

from pathlib import Path

import numpy as np
import soundfile

# (prompt, text of each reading); sentences of a few words that are in LEXICON or are not.
NAMES = ("TOM", "DOG", "CAT", "BUS", "MAN", "SHIP", "FIRE", "WOLF")
VERBS = ("SAW", "FED", "LED", "MET", "WON", "HID", "HIT", "CUT")
CMUDICT = """\
bus B AH1 S
cat K AE1 T
dog D AO1 G
fire F AY1 ER0
fire(2) F AY1 R # a comment
man M AE1 N
met M EH1 T
saw S AO1
ship SH IH1 P
the DH AH0
the(2) DH IY0
tom T AA1 M
"""


def sentences(count: int = 40) -> dict[str, list[str]]:
    """Return ``{prompt: text of each reading}``: one to three readings of each."""
    made = {}
    for i in range(count):
        prompt = f"{'ab'[i % 2]}{i + 1:04d}"
        text = f"{NAMES[i % 8].capitalize()} {VERBS[i // 8 % 8].lower()} the {NAMES[i // 5 % 8]}."
        made[prompt] = [text] * (1 + i % 3)
    made["a0001"] = ["Tom's wolf-dog, -- 'the bus' \u2013 met \u2019em cat\u2019s ship!"]
    # The sentence of another prompt was read: the two must not be torn apart.
    made["b0002"] = [made["b0002"][0], made["a0003"][0]]
    return made


def make_table(root: Path, made: dict[str, list[str]], ending: str = "flac") -> Path:
    """Write transcripts.tsv and wav/, 16 kHz mono."""
    (root / "wav").mkdir(parents=True)
    lines = ["id\tprompt\ttext"]
    for prompt, take, text, seconds in _rows(made):
        utt = f"kathleen-arctic_{prompt}-{take}"
        lines.append(f"{utt}\t{prompt}\t{text}")
        soundfile.write(root / f"wav/{utt}.{ending}", _noise(seconds, 16000, 1), 16000)
    (root / "transcripts.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def make_release(root: Path, made: dict[str, list[str]]) -> Path:
    """Write data/arctic_PROMPT_TIME.wav and .txt, 48 kHz stereo, as the release has them."""
    (root / "data").mkdir(parents=True)
    for prompt, take, text, seconds in _rows(made):
        # Times of nine and of ten digits: their order is that of numbers.
        stem = root / f"data/arctic_{prompt}_{999999990 + 7 * take}"
        stem.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
        soundfile.write(stem.with_suffix(".wav"), _noise(seconds, 48000, 2), 48000)
    return root


def _rows(made: dict[str, list[str]]):
    for i, (prompt, texts) in enumerate(made.items()):
        for take, text in enumerate(texts, 1):
            yield prompt, take, text, 0.3 + 0.02 * (i % 7)


def _noise(seconds: float, rate: int, channels: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return 0.1 * rng.standard_normal((round(seconds * rate), channels))
