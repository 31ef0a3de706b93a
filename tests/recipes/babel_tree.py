# SPDX-License-Identifier: Apache-2.0
"""A small Babel language pack in the layout and notation of the LDC's packs; the audio is noise."""

from pathlib import Path

import numpy as np
import soundfile

CALL_S = 4.0
LEXICON = """\
<hes>\t@ m
Maynila\tm a j . " n i . l a
ang\t? a N
bata\t" b a . t a\tb a . " t a ?
ka\tk a
pag-ibig\tp a g # i . b i g
"""
# recording after "BABEL_BP_106_": lines of its transcript
TRAINING = {
    "10001_20120101_120000_inLine": [
        "[0.0]", "<no-speech>",
        "[0.505]", "<sta> ang bata <breath> <hes>",
        "[1.5]", "(()) <laugh>",
        "[2.0]", "*Maynila* ka- ~ang xx- <foreign>",
        "[3.999]",
    ],
    "10001_20120101_120000_outLine": ["[0.2]", "bata", "[1.0]"],
    "10002_20120102_120000_inLine": ["[0]", "pag-ibig", "[1.0]", "ang", "[5.0]"],
    "10003_20120103_120000_inLine": ["[0]", "ang ka", "[1.0]"],
}  # fmt: skip
DEV = {"20001_20120104_120000_inLine": ["[0.0]", "ka ang bata", "[1.25]"]}


def make_babel(root: Path) -> Path:
    """Write ``root/IARPA_BABEL_BP_106`` and return ``root``."""
    base = root / "IARPA_BABEL_BP_106/conversational"
    rng = np.random.default_rng(0)
    for part, recordings in {"training": TRAINING, "dev": DEV}.items():
        for folder in ("audio", "transcription"):
            (base / part / folder).mkdir(parents=True)
        for name, lines in recordings.items():
            stem = f"BABEL_BP_106_{name}"
            text = "\n".join(lines) + "\n"
            (base / part / "transcription" / f"{stem}.txt").write_text(text, encoding="utf-8")
            audio = base / part / "audio" / stem
            if name.startswith("10003"):  # some calls came at 48 kHz
                noise = 0.1 * rng.standard_normal(int(CALL_S * 48000))
                soundfile.write(f"{audio}.wav", noise, 48000, subtype="PCM_24")
            else:
                noise = 0.1 * rng.standard_normal(int(CALL_S * 8000))
                soundfile.write(f"{audio}.sph", noise, 8000, format="NIST", subtype="ULAW")
    (base / "reference_materials").mkdir()
    (base / "reference_materials/lexicon.txt").write_text(LEXICON, encoding="utf-8")
    return root
