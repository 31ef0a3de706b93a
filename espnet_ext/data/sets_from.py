# SPDX-License-Identifier: Apache-2.0
"""Data folders that exist already, as the sets of a recipe.

usage: python -m espnet_ext.data.sets_from OUT --from NAME=DIR...

The tables of each DIR go to OUT/NAME with the same lines. Files that they name become absolute: a
relative one is meant from DIR, from the folder above the folder of DIR (of data/train, the folder
that holds data), or from where run.sh was called. Without utt2spk each utterance is its own
speaker.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from espnet_ext.data.audio import info
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.rows import parse_segment
from espnet_ext.data.slu_manifest import SluRow, check_row
from espnet_ext.data.tables import iter_table, read_table, write_spk2utt, write_table
from espnet_ext.data.tar_member import file_of
from espnet_ext.data.video_plan import parse_value
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.paths import absolute, called_from
from espnet_ext.text import tagged as tags

FILES = ("wav.scp", "video.scp")  # tables whose values are files
MORE = ("segments", "text", "plain", "meaning", "utt2spk", "utt2lang")
TEXTS = ("text_manual", "text_asr", "label")
NO_LANGUAGE = "und"  # undetermined, in ISO 639


def parse_folders(given: Iterable[str]) -> dict[str, Path]:
    """Return ``{set: folder}`` of arguments ``NAME=DIR``.

    Raises:
        UsageError: One has another form, or a name stands twice.
        DataError: A folder does not exist, or has no table of a data folder.
    """
    found: dict[str, Path] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not name or not equals or not folder or "/" in name:
            raise UsageError(f"'{text}' names no set", "--from", "NAME=DIR, train=/data/train")
        if name in found:
            raise UsageError(f"the set '{name}' stands twice", "--from", "name each set once")
        found[name] = absolute(folder)
        check_folder(found[name])
    return found


def check_folder(folder: Path) -> None:
    """Raise if a folder is no data folder.

    Raises:
        DataError: It does not exist, or has neither wav.scp nor text_manual.
    """
    if not folder.is_dir():
        raise DataError("the data folder does not exist", folder, "correct the path")
    if not any((folder / name).is_file() for name in (FILES[0], TEXTS[0])):
        what = f"the data folder has neither {FILES[0]} nor {TEXTS[0]}"
        raise DataError(what, folder, "name the folder of one set, for example data/train")


def find_file(entry: str, where: str, folder: Path) -> str:
    """Return the absolute path of a file that a table of ``folder`` names.

    Raises:
        DataError: There is none.
    """
    for start in (folder, folder.parent.parent, called_from()):
        path = os.path.abspath(start / os.path.expanduser(entry))
        if entry and os.path.isfile(path):
            return path
    how = f"correct the path, absolute or from {folder}"
    raise DataError(f"the audio file is missing: {entry or '(empty)'}", where, how)


def files_of(table: Path) -> Iterator[tuple[str, str]]:
    """Yield ``(key, value with an absolute path, or a command as it is)`` of wav.scp and the like.

    What follows the path stays: the place of audio in a shard, the times of a video.
    """
    for number, (key, entry) in enumerate(iter_table(table), 1):
        path = parse_value(entry).path if table.name == "video.scp" else file_of(entry)
        if not is_pipe(entry):
            found = find_file(path, f"{table}:{number}", table.parent)
            entry = f"{found}{entry[len(path) :]}"
        yield key, entry


def copy_set(folder: Path, out: Path) -> int:
    """Write the tables of a data folder to another one; return the number of utterances.

    Raises:
        DataError: A table is broken, or names a file that is missing.
    """
    there = [name for name in (*FILES, *MORE, *TEXTS) if (folder / name).is_file()]
    for name in there:
        table = folder / name
        write_table(out / name, files_of(table) if name in FILES else iter_table(table))
    if FILES[0] not in there:
        return len(read_table(out / there[0]))
    if "utt2spk" not in there:
        key = "segments" if "segments" in there else FILES[0]
        write_table(out / "utt2spk", ((utt, utt) for utt, _ in iter_table(out / key)))
    speakers = read_table(out / "utt2spk")
    write_spk2utt(out, speakers)
    return len(speakers)


def slu_rows(folders: dict[str, Path], language: str = NO_LANGUAGE) -> Iterator[SluRow]:
    """Yield the utterances of data folders whose ``text`` has concepts.

    Args:
        folders: ``{set: folder}``.
        language: Of utterances that utt2lang does not name.

    Raises:
        DataError: A table is missing or broken, tags are wrong, or audio is a command.
    """
    for name, folder in folders.items():
        audio = dict(files_of(folder / FILES[0]))
        parts = read_table(folder / "segments") if (folder / "segments").exists() else {}
        optional = {file: read_table(folder / file) if (folder / file).exists() else {}
                    for file in ("plain", "utt2spk", "utt2lang", "meaning")}  # fmt: skip
        for number, (utt, text) in enumerate(iter_table(folder / "text"), 1):
            where = f"{folder / 'text'}:{number}"
            recording, start_s, end_s = _part(utt, parts, where)
            if recording not in audio or is_pipe(audio[recording]):
                what = f"'{recording}' has no audio file in wav.scp"
                raise DataError(what, where, "add it; write what a command makes into a file")
            if end_s is not None and end_s < 0:  # Kaldi's way to say: to the end
                end_s = info(audio[recording]).duration_s
            plain = optional["plain"].get(utt, tags.plain(text))
            speaker = optional["utt2spk"].get(utt) or utt
            spoken = optional["utt2lang"].get(utt) or language
            meaning = optional["meaning"].get(utt, "")
            row = SluRow(utt, audio[recording], start_s, end_s, speaker, spoken, plain, text,
                         name, meaning, where)  # fmt: skip
            check_row(row)  # here, where the line can be named
            yield row


def _part(utt: str, segments: dict[str, str], where: str) -> tuple[str, float | None, float | None]:
    """Return recording, start and end of an utterance in seconds."""
    if not segments:
        return utt, None, None
    segment = parse_segment(segments.get(utt, ""))
    if segment is None:
        raise DataError(f"'{utt}' is not in segments, or not as 'recording start end'", where)
    return segment


def main() -> None:
    """Copy the sets and tell their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", nargs="+", required=True, metavar="NAME=DIR", dest="folders")
    args = parser.parse_args()
    for name, folder in parse_folders(args.folders).items():
        print(f"{name}: {copy_set(folder, args.out / name)} utterances of {folder}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
