# SPDX-License-Identifier: Apache-2.0
"""PortMEDIA as a manifest of tagged speech, and its sets: PM-LANG (Italian) or PM-DOM (French).

usage: python local/portmedia.py OUT [--part lang|dom] [--segmentation turn|sync]
                                     [--value words|normalised] [--split N N N] [--set NAME=SET...]

PORTMEDIA=/path holds ELRA-S0371: PMLANG3IT_00/PMLANG3IT/BLOCK*/<dialogue>.xml with the .wav beside
(hotels, as in MEDIA) and PMDOM2FR_00/PMDOM2FR/BLOCK* (theatre tickets). Sets by the sorted list of
files: 304, 100 and 200 dialogues of PM-LANG, 400, 100 and 200 of PM-DOM are train, dev and test.
Turns of the wizard ("compère") are left out. The first channel is the speech: format.channel 0.
"""

import argparse
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from media_text import normalise_italian, strip_marks
from slu_manifest import add_arguments, corpus_folder, make_sets
from slu_reader import Reader, Turn
from slu_xml import NORMALISED, SYNC, TURN, WORDS, Cutter, Node, parse, seconds, transcriber_events

from espnet_ext.data.slu_manifest import NAME
from espnet_ext.errors import DataError, exit_code

WIZARD = "compère"
SETS = ("train", "dev", "test")


class Part(NamedTuple):
    """One of the two corpora: folders, language, dialogues a set, spelling, unusable dialogues."""

    folders: str
    language: str
    split: tuple[int, int, int]
    normalise: Callable[[str], str]
    wrong_audio: frozenset[str] = frozenset()


PARTS = {
    "lang": Part("PMLANG3IT_00/PMLANG3IT", "it", (304, 100, 200), normalise_italian),
    "dom": Part("PMDOM2FR_00/PMDOM2FR", "fr", (400, 100, 200), strip_marks,
                frozenset({"08730_887"})),
}  # fmt: skip


def repair(name: str) -> Callable[[str], str]:
    """Return what mends the first line of two files, if it is still broken."""

    def mend(text: str) -> str:
        if name == "08730_305" and not text.startswith("<"):
            return f"<{text}"
        if name == "08730_675" and not re.match(r"<[?!\w]", text):
            return text[1:]
        return text

    return mend


def wizard_of(root: Node) -> tuple[str, int]:
    """Return the id of the first wizard that the file names, and how many it names."""
    speakers = [s for s in root.all("Speaker") if s.get("name").lower().startswith(WIZARD)]
    return (speakers[0].get("id") if speakers else ""), len(speakers)


def read_file(path: Path, part: str, corpus: Part, reader: Reader) -> int:
    """Read a dialogue; return how many wizards it names."""
    root = parse(path, repair(path.stem))
    wizard, wizards = wizard_of(root)
    names = {s.get("id"): s.get("name") for s in root.all("Speaker")}
    audio = path.with_suffix(".wav")
    if path.stem in corpus.wrong_audio:
        reader.skip(path, "the annotation is that of other audio")
        return wizards
    if not audio.is_file():
        raise DataError("the audio is missing", audio, "complete the copy of ELRA-S0371")
    for turn in root.all("Turn"):
        if wizards and turn.get("speaker") == wizard:
            continue
        where = f"{path}:{turn.line}"
        times = seconds(turn, "startTime", where), seconds(turn, "endTime", where)
        speaker = "_".join((names.get(turn.get("speaker")) or "caller").split())
        reader.add(
            Turn(path.stem, audio, *times, f"{path.stem}_{speaker}", part, where),
            list(transcriber_events(turn, lambda node: f"{path}:{node.line}")),
            turn.text(),
        )
    return wizards


def files_of(root: Path, corpus: Part, split: tuple[int, ...]) -> dict[str, list[Path]]:
    """Return the dialogues of each set.

    Raises:
        DataError: There are more or fewer than the split needs: the sets would be others.
    """
    files = sorted(root.glob(f"{corpus.folders}/BLOCK*/*.xml"), key=str)
    if not files:
        how = "set PORTMEDIA to the folder of ELRA-S0371, or choose the other --part"
        raise DataError(f"there is no {corpus.folders}/BLOCK*/*.xml", root, how)
    if len(files) != sum(split):
        what = f"{len(files)} dialogues, not {sum(split)}: the sets are taken from the sorted list"
        raise DataError(what, root / corpus.folders, "complete the copy, or give --split N N N")
    ends = [sum(split[: i + 1]) for i in range(len(split))]
    return {name: files[end - n : end] for name, n, end in zip(SETS, split, ends, strict=True)}


def main() -> None:
    """Write the manifest and the sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=tuple(PARTS), default="lang")
    parser.add_argument("--segmentation", choices=(TURN, SYNC), default=TURN)
    parser.add_argument("--value", choices=(WORDS, NORMALISED), default=WORDS)
    parser.add_argument("--split", type=int, nargs=3, metavar="N", help="dialogues of each set")
    add_arguments(parser)
    args = parser.parse_args()
    root, corpus = corpus_folder("PORTMEDIA", "the folder of ELRA-S0371"), PARTS[args.part]
    reader = Reader(corpus.language, Cutter(args.segmentation, args.value, corpus.normalise))
    several = 0
    for part, files in files_of(root, corpus, tuple(args.split or corpus.split)).items():
        several += sum(read_file(path, part, corpus, reader) > 1 for path in files)
    print(f"PortMEDIA {args.part}: values: {args.value}, segmentation: {args.segmentation}")
    if several:
        print(f"{several} dialogues name several wizards; the turns of the first are left out")
    reader.write(args.out / NAME)
    make_sets(args.out / NAME, args.out, args, reader.skipped, same_words=args.value == WORDS)


if __name__ == "__main__":
    sys.exit(exit_code(main))
