# SPDX-License-Identifier: Apache-2.0
"""MEDIA (French hotel booking by telephone) as a manifest of tagged speech, and its sets.

usage: python local/media.py OUT [--tags full|relax] [--segmentation sync|turn]
                                 [--value words|normalised] [--channels FILE] [--concepts FILE]
                                 [--test2] [--callers DIR] [--set NAME=SET...]

MEDIA=/path holds ELRA-S0272 (audio) and ELRA-E0024 (annotation), each unpacked somewhere below.
train is media_lot1 to 4, dev media_testHC_a_blanc, test media_testHC; --test2 adds the dialogues
that none of them has. Only the caller's turns are used, and only the caller's channel: a mono copy
of each recording goes to --callers, at its own rate.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf
from media_text import (
    RELAX,
    Rules,
    full_name,
    normalise_french,
    read_channels,
    read_rules,
    relaxed,
    speaker_name,
)
from slu_manifest import add_arguments, corpus_folder, make_sets
from slu_reader import Reader, Turn
from slu_xml import (
    NORMALISED,
    SYNC,
    TURN,
    WORDS,
    Close,
    Cutter,
    Event,
    Node,
    Open,
    Sync,
    seconds,
    transcriber_events,
)
from slu_xml import parse as parse_xml

from espnet_ext.data.audio import BLOCK, open_audio
from espnet_ext.data.origin import is_of, origin_of
from espnet_ext.data.slu_manifest import NAME
from espnet_ext.errors import DataError, exit_code
from espnet_ext.files import atomic_path

PARTS = {
    "train": ("media_lot1", "media_lot2", "media_lot3", "media_lot4"),
    "dev": ("media_testHC_a_blanc",),
    "test": ("media_testHC",),
}
TEST2, FOLDER2, ENDING2 = "test2", "semantizer_files", "_HC.xml"
FULL, RELAXED = "full", "relax"
CALLER = "spk"
# The last turn of dialogue 70 ends later than its audio.
END_REPAIRS = {("70", 344.408): 321.0}


class Media:
    """The corpus on disk.

    Args:
        root: Folder with both packages.
        channels: ``{dialogue: channel from 0}`` of the table; may be empty.
        callers: Folder of the mono copies.
    """

    def __init__(self, root: Path, channels: dict[str, int], callers: Path):
        found = {p.name: p for p in sorted(root.rglob("media_*.xml"))}
        names = [f"{part}.xml" for parts in PARTS.values() for part in parts]
        if missing := [name for name in names if name not in found]:
            how = "set MEDIA to the folder that holds ELRA-S0272 and ELRA-E0024, both unpacked"
            raise DataError(f"the annotation {', '.join(missing)} is missing", root, how)
        self.annotation = {name: found[name] for name in names}
        self.audio = {p.stem: p for p in sorted(root.rglob("*.wav"))}
        self.channels, self.callers = channels, callers
        self.contradictions = 0  # dialogues whose turns name the other channel
        self._made: dict[str, Path] = {}

    def caller(self, dialogue: str, named: str, where: str) -> Path:
        """Return mono audio of the caller.

        Args:
            dialogue: Its number.
            named: Audio file of a turn, ``.../<dialogue>.l`` or ``.r``; may be empty.
            where: Of the turn.

        Raises:
            DataError: There is no audio, or nothing tells the channel.
        """
        if dialogue not in self._made:
            path = self.audio.get(dialogue)
            if path is None:
                how = f"complete the copy of ELRA-S0272: it lacks {dialogue}.wav"
                raise DataError(f"the audio of dialogue {dialogue} is missing", where, how)
            side = re.search(r"\.([lr])(?:\.[^./]*)?$", named, re.IGNORECASE)
            by_turn = "lr".index(side[1].lower()) if side else None
            channel = self.channels.get(dialogue, by_turn)
            self.contradictions += by_turn is not None and channel != by_turn
            self._made[dialogue] = take_channel(path, channel, self.callers, where)
        return self._made[dialogue]


def take_channel(path: Path, channel: int | None, out: Path, where: str) -> Path:
    """Write ``out/<name>.wav``, one channel of 16 bit, unless it is there; mono stays as it is.

    Raises:
        DataError: The audio is not readable, or the channel of the caller is not known.
    """
    with open_audio(path) as f:
        if f.channels == 1:
            return path
        if channel is None:
            how = "give the table with --channels channels.csv (lines 'L,100')"
            raise DataError(f"nothing tells the caller's channel of {path.name}", where, how)
        made = out / f"{path.stem}-{'LR'[channel]}.wav"
        if is_of(made, origin := origin_of(path)):
            return made
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(made) as tmp, sf.SoundFile(
            tmp, "w", f.samplerate, 1, "PCM_16", format="WAV"
        ) as mono:  # fmt: skip
            mono.comment = origin
            for block in f.blocks(BLOCK, dtype="int16", always_2d=True):
                mono.write(np.ascontiguousarray(block[:, channel]))
    return made


def sem_events(turn: Node, tags: str, where: str) -> Iterator[Event]:
    """Yield the events of a turn's annotation without context.

    Each ``sem`` has a transcription of its own, whose words are in the turn's transcription, too;
    only the former are read. A sem whose concept or mode is ``null`` stands for words outside
    concepts.
    """
    for annotation in turn.children("semAnnotation"):
        if annotation.get("withContext") != "false":
            continue
        for sem in annotation.children("sem"):
            concept = sem.get("concept")
            if tags == FULL:
                concept = full_name(concept, sem.get("specif"))
            if "null" in (sem.get("concept"), sem.get("mode")):
                concept = ""
            yield Open(concept, sem.get("value"))
            for transcription in sem.children("transcription"):
                yield from _mixed(transcription, where)
            yield Close()


def _mixed(transcription: Node, where: str) -> Iterator[Event]:
    for node in transcription.content:
        if isinstance(node, str):
            yield node
        else:
            is_sync = node.tag == "Sync"
            yield Sync(seconds(node, "time", where)) if is_sync else node.text()


def read_part(media: Media, path: Path, part: str, tags: str, reader: Reader) -> set[str]:
    """Read one ``media_*.xml``; return its dialogues."""
    dialogues = set()
    for dialogue in parse_xml(path).all("dialogue"):
        name = dialogue.get("id")
        dialogues.add(name)
        for turn in dialogue.all("turn"):
            if turn.get("speaker") != CALLER:
                continue
            where = f"{path}:{turn.line}"
            times = seconds(turn, "startTime", where), seconds(turn, "endTime", where)
            said = " ".join(node.text() for node in turn.children("transcription"))
            reader.add(
                Turn(
                    name, media.caller(name, turn.get("audioFilename"), where), *times,
                    speaker_name(dialogue.get("nameSpk")), part, where,
                ),
                list(sem_events(turn, tags, where)), said,
            )  # fmt: skip
    return dialogues


def read_test2(media: Media, used: set[str], rules: Rules, tags: str, reader: Reader) -> None:
    """Read ``semantizer_files/<dialogue>_HC.xml`` of the dialogues that are not used yet."""
    folder = media.annotation["media_testHC.xml"].parent / FOLDER2
    if not folder.is_dir():
        raise DataError("the folder of the later annotation is missing", folder, "omit --test2")
    rename = partial(relaxed, rules=rules) if tags == RELAXED else str
    for name in sorted(set(media.audio) - used):
        path = folder / f"{name}{ENDING2}"
        if not path.is_file():
            reader.skip(path, "recording without annotation")
            continue
        root = parse_xml(path)
        speaker = next((s for s in root.all("Speaker") if s.get("name").startswith("s")), None)
        if speaker is None:
            how = "the caller's name starts with 's'"
            raise DataError("the file names no caller", path, how)
        for turn in root.all("Turn"):
            if turn.get("speaker") != speaker.get("id"):
                continue
            where = f"{path}:{turn.line}"
            start_s, end_s = seconds(turn, "startTime", where), seconds(turn, "endTime", where)
            reader.add(
                Turn(
                    name, media.caller(name, "", where), start_s,
                    END_REPAIRS.get((name, end_s), end_s), speaker_name(speaker.get("name")),
                    TEST2, where,
                ),
                list(transcriber_events(turn, lambda node, p=path: f"{p}:{node.line}", rename)),
                turn.text(),
            )  # fmt: skip


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tags", choices=(FULL, RELAXED), default=FULL)
    parser.add_argument("--segmentation", choices=(SYNC, TURN), default=SYNC)
    parser.add_argument("--value", choices=(WORDS, NORMALISED), default=WORDS)
    parser.add_argument(
        "--channels", type=Path, help="channels.csv; default: the turns' audio name"
    )
    parser.add_argument("--concepts", type=Path, help="concepts_full_relax.csv; default: built in")
    parser.add_argument("--test2", action="store_true", help="the dialogues of no other set, too")
    parser.add_argument("--callers", type=Path, default=Path("downloads/callers"))
    add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    """Write the manifest and the sets."""
    args = options()
    root = corpus_folder("MEDIA", "the folder with ELRA-S0272 and ELRA-E0024")
    table = args.channels or next(iter(sorted(root.rglob("channels.csv"))), None)
    media = Media(root, read_channels(table) if table else {}, args.callers)
    reader = Reader("fr", Cutter(args.segmentation, args.value, normalise_french))
    used: set[str] = set()
    for part, names in PARTS.items():
        for name in names:
            path = media.annotation[f"{name}.xml"]
            used |= read_part(media, path, part, args.tags, reader)
    if args.test2:
        rules = read_rules(args.concepts) if args.concepts else RELAX
        read_test2(media, used, rules, args.tags, reader)
    print(f"MEDIA: {args.tags} tags, values: {args.value}, segmentation: {args.segmentation}")
    if media.contradictions:
        print(f"{media.contradictions} dialogues: the turns name the channel that {table} does not")
    reader.write(args.out / NAME)
    make_sets(args.out / NAME, args.out, args, reader.skipped, same_words=args.value == WORDS)


if __name__ == "__main__":
    sys.exit(exit_code(main))
