# SPDX-License-Identifier: Apache-2.0
"""A small Switchboard-1 and Hub5e_00 in the layout and notation of the LDC's; the audio is tones.

Side A is a loud tone, side B a soft one, so that a test hears which side it was given.
"""

from pathlib import Path

import numpy as np

CALL_S = 8.0
LOUD, SOFT = 0.5, 0.05
# call: {side: lines of its transcript after "swNNNNS-ms98-a-"}
CALLS = {
    "2001": {
        "A": ["0001 0.000000 0.977625 [silence]",
              "0002 0.977625 2.500000 hi um [laughter-yeah] i'd like th[e]- to talk [noise]",
              "0003 2.500000 4.500000 [laughter] [vocalized-noise]",
              "0004 4.500000 8.200000 uh-huh them_1 [it'n/isn't] {yuppiedom} <b_aside> ok",
              "0005 9.000000 9.900000 too late"],
        "B": ["0001 0.000000 3.000000 yeah", "0002 3.000000 7.000000 yeah"],
    },
    "2005": {"A": ["0001 0.0 4.0 secret words"], "B": ["0001 1.0 5.0 yeah", "0002 6.0 7.0 um"]},
    "2006": {"A": ["0001 0.0 4.0 so"], "B": ["0001 1.0 5.0 yeah"]},
    "3010": {"A": ["0001 0.0 4.0 right"], "B": ["0001 1.0 5.0 yeah"]},
    "4940": {"A": ["0001 0.0 4.0 well"], "B": ["0001 1.0 5.0 yeah"]},
}  # fmt: skip
STM = """\
;; CATEGORY "0" "" ""
;; LABEL "O" "Overall" "Overall"
sw_4390 A sw_4390_A 0.50 2.00 <O,sw,M,sw-M> (%hesitation) <contraction e_form="[i=>i]['m=>am]">i'm here (th-)
sw_4390 B sw_4390_B 2.25 4.00 <O,sw,F,sw-F> { gonna / going to / @ } go <b_aside> now <e_aside>
sw_4390 A sw_4390_A 4.00 5.00 <O,sw,M,sw-M> IGNORE_TIME_SEGMENT_IN_SCORING
en_4156 A en_4156_A 0.10 2.10 <O,en,F,en-F> (oh) yeah ((right))
en_4156 B en_4156_B 3.00 4.00 <O,en,F,en-F> (%hesitation)
"""  # noqa: E501


def mu_law(x: np.ndarray) -> np.ndarray:
    """Code samples in [-1, 1] as G.711 does, ``(N, C)`` to bytes ``(N, C)``."""
    linear = np.clip(np.abs(x) * 32767, 0, 32635).astype(int) + 132
    exponent = np.floor(np.log2(linear)).astype(int) - 7
    mantissa = (linear >> (exponent + 3)) & 15
    return (~((x < 0) << 7 | exponent << 4 | mantissa) & 255).astype(np.uint8)


def write_sph(path: Path, samples: np.ndarray) -> None:
    """Write mu-law ``(N, C)`` with a header such as LDC97S62 has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = [
        "conversation_id -s4 2001", "database_id -s13 SWITCHBOARD-1",
        f"channel_count -i {samples.shape[1]}", f"sample_count -i {len(samples)}",
        "sample_rate -i 8000", "sample_n_bytes -i 1", "sample_byte_format -s1 1",
        "sample_sig_bits -i 8", "sample_coding -s4 ulaw", "end_head",
    ]  # fmt: skip
    head = "NIST_1A\n   1024\n" + "\n".join(fields) + "\n"
    path.write_bytes(head.encode().ljust(1024) + mu_law(samples).tobytes())


def call_audio(length_s: float = CALL_S) -> np.ndarray:
    """Return ``(N, 2)``: side A loud, side B soft."""
    tone = np.sin(2 * np.pi * 440 * np.arange(int(length_s * 8000)) / 8000)
    return np.stack([LOUD * tone, SOFT * tone], axis=1)


def make_swbd(root: Path) -> dict[str, str]:
    """Write the four corpora below ``root``; return the variables that name them."""
    base = root / "LDC97S62"
    for call in CALLS:
        write_sph(base / f"swb1_d{1 + (call > '3')}/data/sw0{call}.sph", call_audio())
    for call, sides in CALLS.items():
        folder = root / "ms98/swb_ms98_transcriptions" / call[:2] / call
        folder.mkdir(parents=True)
        for side, lines in sides.items():
            name = f"sw{call}{side}-ms98-a"
            text = "".join(f"{name}-{line}\n" for line in lines)
            (folder / f"{name}-trans.text").write_text(text)
            (folder / f"{name}-word.text").write_text(f"{name}-0001 0.0 1.0 [silence]\n")
    for name in ("sw_4390", "en_4156"):
        write_sph(root / f"LDC2002S09/hub5e_00/english/{name}.sph", call_audio(5.0))
    stm = root / "LDC2002T43/reference/hub5e00.english.000405.stm"
    stm.parent.mkdir(parents=True)
    stm.write_text(STM)
    return {
        "SWBD": str(base), "SWBD_TRANSCRIPTS": str(root / "ms98"),
        "EVAL2000": str(root / "LDC2002S09"), "EVAL2000_TRANSCRIPTS": str(root / "LDC2002T43"),
    }  # fmt: skip
