# SPDX-License-Identifier: Apache-2.0
"""A small TED-LIUM 2 in the layout and notation of the release; the audio is noise."""

from pathlib import Path

import numpy as np
import soundfile

TALK_S = 3.0
DICTIONARY = """\
'cause K AH Z
's Z
's S
<s> SIL
</s> SIL
<unk> SIL
[NOISE] NSN
a AH
a(2) EY
bono B OW N OW
didn't D IH D AH N T
for F AO R
for(2) F ER
i AY
know N OW
nothing
the DH AH
well W EH L
"""
# talk: lines of its stm after "talk 1 "
TRAIN = {
    "AlGore_2009": [
        "inter_segment_gap 0 0.5 <o,,unknown> ignore_time_segment_in_scoring",
        "AlGore_2009 0.50 1.20 <o,f0,male> <sil> well i didn 't know for(2) {NOISE} "
        "(AlGore_2009-0.50-1.20-F0_M-S1)",
        "AlGore_2009 1.25 2.00 <o,f0,male> 'cause bono 's <unk> (AlGore_2009-1.25-2.00-F0_M-S1)",
        "AlGore_2009 1.25 2.00 <o,f0,male> 'cause bono 's <unk> (AlGore_2009-1.25-2.00-F0_M-S1)",
    ],
    "AlGore_2009P": [
        "AlGore_2009P 0 0.807 <o,f0,male> a [COUGH] zebra (AlGore_2009P-0-0.807-F0_M-S1)",
        "AlGore_2009P 1 1.5 <o,f0,male> {BREATH} <sil> (AlGore_2009P-1-1.5-F0_M-S1)",
        "AlGore_2009P 2.5 3.2 <o,f0,male> the (AlGore_2009P-2.5-3.2-F0_M-S1)",
        "AlGore_2009P 4 5 <o,f0,male> the (AlGore_2009P-4-5-F0_M-S1)",
    ],
}
OTHER = {
    "dev": {
        "Wade_2008": [
            "Wade_2008 0.2 1.1 <F0_M> i 'd 've known",
            "Wade_2008 2.5 3.4 <F0_M> the",
        ]
    },
    "test": {
        "Ana_2010": [
            "Ana_2010 1.6 2.9 <o,f0,female> the well",
            "Ana_2010 0.2 1.6 <o,f0,female> a well",
        ]
    },
}


def make_tedlium2(parent: Path) -> Path:
    """Write ``parent/TEDLIUM_release2`` and return it."""
    root = parent / "TEDLIUM_release2"
    rng = np.random.default_rng(0)
    for name, talks in {"train": TRAIN, **OTHER}.items():
        for talk, lines in talks.items():
            sph = root / name / "sph" / f"{talk}.sph"
            stm = root / name / "stm" / f"{talk}.stm"
            for folder in (sph.parent, stm.parent):
                folder.mkdir(parents=True, exist_ok=True)
            noise = 0.1 * rng.standard_normal(int(TALK_S * 16000))
            soundfile.write(sph, noise, 16000, format="NIST", subtype="PCM_16")
            stm.write_text("".join(f"{talk} 1 {line}\n" for line in lines))
    (root / "TEDLIUM.152k.dic").write_text(DICTIONARY)
    return root


def shorten(sph: Path) -> None:
    """Make the header say what a file compressed with shorten says."""
    head = b"sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    raw = sph.read_bytes()
    sph.write_bytes(raw[:1024].replace(b"end_head\n", head)[:1024] + raw[1024:])
