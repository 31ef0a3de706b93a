# SPDX-License-Identifier: Apache-2.0
"""Small MEDIA and PortMEDIA trees in the layouts of ELRA-S0272, -E0024 and -S0371, by hand.

Each oddity of the corpora that is known from public readers has a place in it.
"""

from pathlib import Path

import numpy as np
import soundfile as sf

LOUD, SOFT = 0.5, 0.05
LENGTH_S = 30.0
DATA = "E0024/MEDIA1FR_00/MEDIA1FR/DATA"
HEAD = '<?xml version="1.0" encoding="ISO-8859-1"?>\n'


def sem(concept: str, text: str, specif: str = "null", value: str = "", mode: str = "+") -> str:
    """Return a sem as media_*.xml has it."""
    return (f'<sem concept="{concept}" specif="{specif}" mode="{mode}" value="{value}">'
            f"<transcription>{text}</transcription></sem>\n")  # fmt: skip


def sync(time_s: float) -> str:
    return f'<Sync time="{time_s:.3f}"/>'


def turn(number: int, start_s: float, end_s: float, *sems: str, audio: str = "", who: str = "spk",
         said: str | None = None) -> str:  # fmt: skip
    """Return a turn; its own transcription has the words of all sems again."""
    words = "".join(s.split("<transcription>")[1].split("</transcription>")[0] for s in sems)
    audio = f' audioFilename="/disk/{audio}"' if audio else ""
    context = sem("wrong-annotation", "avec le contexte")
    return (
        f'<turn id="{number}" speaker="{who}" startTime="{start_s:.3f}" endTime="{end_s:.3f}"'
        f"{audio}>\n<transcription>{words if said is None else said}</transcription>\n"
        f'<semAnnotation withContext="false">\n{"".join(sems)}</semAnnotation>\n'
        f'<semAnnotation withContext="true">\n{context}</semAnnotation>\n</turn>\n'
    )


def dialogue(name: str, speaker: str, *turns: str) -> str:
    return f'<dialogue id="{name}" nameSpk="{speaker}">\n{"".join(turns)}</dialogue>\n'


LOT1 = dialogue(
    "100", "speaker#1_08730_846",
    turn(1, 0.0, 1.0, sem("null", "bonjour ici le serveur", mode="null"), who="woz"),
    # two concepts around words without one; specif brings its hyphen
    turn(2, 1.0, 5.0, sem("response", "oui", value="oui"),
         sem("null", " je voudrais", mode="null"),
         sem("nombre-chambre", "deux chambres", "-reservation", "2"),
         sem("null", "à l'hôtel (euh) dix-sept ? l'ami", mode="null"), audio="100.l"),
    # marks: before speech, after speech, within a concept before its end, void ones
    turn(3, 5.0, 12.0, sem("null", f"{sync(5.5)} bonjour {sync(6.5)} alors", mode="null"),
         sem("localisation-ville", f"à Mont de Marsan {sync(8.0)}", "-hotel"),
         sem("temps-mois", f"en {sync(9.0)} mai", "Relative-reservation"), audio="100.l"),
    turn(4, 12.0, 12.0, sem("null", "rien", mode="null"), audio="100.l"),
    turn(5, 29.0, 31.0, sem("null", "trop tard", mode="null"), audio="100.l"),
    turn(6, 13.0, 14.0, sem("null", " ", mode="null"), audio="100.l"),
    turn(7, 14.0, 15.0, audio="100.l", said="sans annotation"),
    turn(8, 29.5, 30.01, sem("null", "merci", mode="null"), audio="100.l"),
)  # fmt: skip
LOT2 = dialogue("200", "speaker_8730_37",
                turn(1, 0.5, 2.0, sem("null", "c'est d'un parking", mode="null"),
                     audio="200.r"))  # fmt: skip
DEV = dialogue("300", "x y", turn(1, 0.0, 2.0, sem("response", "non"), audio="300.r"))
TEST = dialogue(
    "400", "087301123", turn(1, 0.0, 2.0, sem("response", "d'accord"), audio="400.l.wav")
)
TEST2 = """<!DOCTYPE Trans SYSTEM "trans-14.dtd">
<Trans audio_filename="70"><Speakers>
<Speaker id="spk1" name="compère"/><Speaker id="spk2" name="speaker_1_08730_70"/>
</Speakers><Episode><Section>
<Turn speaker="spk1" startTime="0" endTime="1"><Sync time="0"/>allô</Turn>
<Turn speaker="spk2" startTime="1.0" endTime="9.0">
<Sync time="1.000"/>
je pars de <SemDebut concept="localisation-ville-hotel"/>Nîmes<SemFin/>
<Sync time="3.000"/>
<SemDebut concept="null"/>demain<SemFin/> <SemDebut concept="temps-date-reservation"/>le deux
<Sync time="5.000"/> juin <Sync time="6.000"/><SemFin/> voilà
</Turn>
<Turn speaker="spk2" startTime="320.0" endTime="344.408"><Sync time="320.000"/>merci</Turn>
</Section></Episode></Trans>
"""


def put(path: Path, text: str, encoding: str = "iso-8859-1") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def stereo(path: Path, length_s: float, left: float, right: float, rate: int = 8000) -> None:
    """Write a tone, louder on one side."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tone = np.sin(2 * np.pi * 440 * np.arange(round(length_s * rate)) / rate)
    sf.write(path, np.stack([left * tone, right * tone], axis=1), rate, subtype="PCM_16")


def make_media(root: Path) -> Path:
    """Write the tree; callers are the loud side: right for 200 and 300."""
    for name, text in (("lot1", LOT1), ("lot2", LOT2), ("lot3", ""), ("lot4", ""),
                       ("testHC_a_blanc", DEV), ("testHC", TEST)):  # fmt: skip
        put(root / DATA / f"media_{name}.xml", f"{HEAD}<corpus>\n{text}</corpus>\n")
    put(root / DATA / "semantizer_files/70_HC.xml", HEAD + TEST2)
    audio = root / "S0272/MEDIA1FR_01/MEDIA1FR/BLOCK00"
    for name, right in (("100", False), ("200", True), ("300", True), ("400", False)):
        levels = (SOFT, LOUD) if right else (LOUD, SOFT)
        stereo(audio / f"{name}.wav", LENGTH_S, *levels)
    stereo(audio / "70.wav", 322.0, LOUD, SOFT)
    return root


CHANNELS = "L,100\nL,100\nR,200\nR,300\nL,400\nL,70\n"

ITALIAN = """<?xml version="1.0" encoding="UTF-8"?>
<Trans><Speakers><Speaker id="a" name="Compère 1"/><Speaker id="b" name="compère 2"/>
<Speaker id="c" name="cliente"/></Speakers>
<Episode><Section>
<Turn speaker="a" startTime="0" endTime="1">pronto</Turn>
<Turn speaker="c" startTime="1" endTime="3"><Sync time="1"/>vorrei (ehm)
<SemDebut concept="nombre-chambre" valeur="23"/>23 *camere<SemFin/>
<SemDebut concept="null" valeur=""/>grazie<SemFin/></Turn>
<Turn speaker="b" startTime="3" endTime="4">certo</Turn>
<Turn speaker="c" startTime="4" endTime="4">ecco</Turn>
<Turn speaker="c" startTime="4" endTime="5">( * )</Turn>
</Section></Episode></Trans>
"""


def make_pm_lang(root: Path, names: tuple[str, ...]) -> Path:
    """Write PM-LANG; the two files that are broken are broken here, too."""
    for i, name in enumerate(names):
        text = ITALIAN
        if name == "08730_305":
            text = text.removeprefix("<")
        elif name == "08730_675":
            text = f"<{text}"
        block = root / f"PMLANG3IT_00/PMLANG3IT/BLOCK0{i % 2}"
        put(block / f"{name}.xml", text, "utf-8")
        stereo(block / f"{name}.wav", 6.0, LOUD, SOFT, 16000)
    return root


def make_pm_dom(root: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        block = root / "PMDOM2FR_00/PMDOM2FR/BLOCK00"
        put(block / f"{name}.xml", ITALIAN, "utf-8")
        stereo(block / f"{name}.wav", 6.0, LOUD, SOFT, 16000)
    return root
