# SPDX-License-Identifier: Apache-2.0
"""Any labelled and unlabelled audio into Kaldi-style folders labelled, unlabelled, dev and test.

usage: python local/manifest.py OUT [--labelled DIR] [--unlabelled DIR] [--valid DIR] [--test DIR]
                                    [--held-out SHARE]

The four folders are taken from LABELLED, UNLABELLED, VALID and TEST where no option is given. Each
holds one of these, looked for in this order:

  wav.scp       with text (not in the unlabelled one), and utt2spk and segments if any
  manifest.tsv  with a first line that names its columns: id, audio, text, and speaker if any
  manifest.jsonl  one object with these keys a line
  audio files   of the unlabelled folder: all .wav, .flac, .sph and .ogg below it; the id is the
                path with - for /, the speaker is the folder

Audio in a manifest is named from its folder. Without VALID or TEST a share of the labelled
utterances, the same of every speaker, is held out.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import json_lines

from espnet_ext.data.labelled import labelling_order, write_part
from espnet_ext.data.lines import table_rows
from espnet_ext.data.rows import parse_segment
from espnet_ext.data.sets_from import files_of, find_file
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.paths import called_from

ENDINGS = (".wav", ".flac", ".sph", ".ogg")
COLUMNS = ("id", "audio", "text", "speaker")
FOLDERS = {"labelled": "LABELLED", "unlabelled": "UNLABELLED", "valid": "VALID", "test": "TEST"}
Tables = dict[str, dict[str, str]]


def read_source(folder: Path, with_text: bool) -> Tables:
    """Read a folder of any of the kinds into ``{file name: {key: value}}``.

    Raises:
        DataError: There is nothing of that kind, text where none may be, none where it must be,
            an id stands twice, or audio is missing.
    """
    if not folder.is_dir():
        raise DataError("the folder does not exist", folder, "correct the path")
    if not with_text and (folder / "text").exists():
        refuse_text(folder / "text")
    for name, read in (("wav.scp", read_kaldi), ("manifest.tsv", read_tsv),
                       ("manifest.jsonl", read_jsonl)):  # fmt: skip
        if (folder / name).exists():
            tables = read(folder / name, with_text)
            break
    else:
        if with_text:
            names = "wav.scp with text, manifest.tsv or manifest.jsonl"
            raise DataError("the folder has no list of utterances", folder, f"it needs {names}")
        tables = read_audio(folder)
    if not tables["utt2spk"]:
        raise DataError("the set is empty: it lists no utterance", folder, "fill it")
    return tables


def refuse_text(where: object) -> None:
    """Raise: unlabelled data must not hold text."""
    how = "remove the text, or use the folder as LABELLED; training must not see hidden text"
    raise DataError("the unlabelled data holds text", where, how)


def read_kaldi(scp: Path, with_text: bool) -> Tables:
    """Read wav.scp and its neighbours; audio is named from its folder or the current one."""
    folder = scp.parent
    tables = {"wav.scp": dict(files_of(scp))}
    if (folder / "segments").exists():
        tables["segments"] = read_table(folder / "segments")
        for number, (utt, value) in enumerate(tables["segments"].items(), 1):
            segment, where = parse_segment(value), f"{folder / 'segments'}:{number}"
            if segment is None:
                what = f"the segment of '{utt}' is not 'utterance recording start end'"
                raise DataError(what, where, "correct the line")
            if segment[0] not in tables["wav.scp"]:
                raise DataError(f"the recording of '{utt}' is not in wav.scp", where, "add it")
    utts = tables.get("segments", tables["wav.scp"])
    if with_text:
        tables["text"] = read_table(folder / "text")
    given = read_table(folder / "utt2spk") if (folder / "utt2spk").exists() else {}
    tables["utt2spk"] = {utt: given.get(utt) or utt for utt in utts}
    return tables


def read_tsv(path: Path, with_text: bool) -> Tables:
    """Read manifest.tsv."""
    columns, rows = table_rows(path, COLUMNS[: 3 if with_text else 2], ("speaker",))
    if not with_text and "text" in columns:
        refuse_text(f"{path}:1 (column text)")
    return from_manifest(path, rows, with_text)


def read_jsonl(path: Path, with_text: bool) -> Tables:
    """Read manifest.jsonl."""
    return from_manifest(path, json_lines.objects(path), with_text)


def from_manifest(path: Path, objects: Iterator[tuple[int, dict]], with_text: bool) -> Tables:
    """Turn the objects of a manifest into tables."""
    names = ("wav.scp", "text", "utt2spk") if with_text else ("wav.scp", "utt2spk")
    tables: Tables = {name: {} for name in names}
    needed = COLUMNS[: 3 if with_text else 2]
    for number, row in objects:
        where = f"{path}:{number}"
        if not with_text and "text" in row:
            refuse_text(where)
        for key in needed:
            if not isinstance(row.get(key), str) or not (row[key].strip() or key == "text"):
                raise DataError(f"'{key}' is missing or no text", where, "give it")
        utt, speaker = row["id"], row.get("speaker") or row["id"]
        if utt.split() != [utt] or not isinstance(speaker, str) or speaker.split() != [speaker]:
            raise DataError("an id or speaker holds blanks", where, "use _ in place of a blank")
        if utt in tables["utt2spk"]:
            raise DataError(f"'{utt}' stands twice", where, "remove one of them")
        tables["wav.scp"][utt] = find_file(row["audio"], where, path.parent)
        tables["utt2spk"][utt] = speaker
        if with_text:
            tables["text"][utt] = " ".join(row["text"].split())
    return tables


def read_audio(folder: Path) -> Tables:
    """List the audio files below a folder."""
    tables: Tables = {"wav.scp": {}, "utt2spk": {}}
    files = sorted(p for p in folder.rglob("*")
                   if p.suffix.lower() in ENDINGS and not p.name.startswith("."))  # fmt: skip
    for path in files:
        *parents, name = path.relative_to(folder).with_suffix("").parts
        utt = "_".join("-".join([*parents, name]).split())
        if utt in tables["wav.scp"]:
            what = f"two files would have the id '{utt}'"
            raise DataError(what, f"{tables['wav.scp'][utt]} and {path}", "rename one of them")
        tables["wav.scp"][utt] = os.path.abspath(path)
        tables["utt2spk"][utt] = "_".join("-".join(parents).split()) or utt
    if not files:
        what = f"the folder has no wav.scp, no manifest and no audio ({', '.join(ENDINGS)})"
        raise DataError(what, folder, "correct the path")
    return tables


def audio_of(tables: Tables, utt: str) -> tuple[str, ...]:
    """Return what tells the audio of an utterance from all others."""
    if "segments" not in tables:
        return (os.path.realpath(tables["wav.scp"][utt]),)
    recording, *times = tables["segments"][utt].split()
    return (os.path.realpath(tables["wav.scp"][recording]), *times)


def overlap(a: Tables, b: Tables) -> set[str]:
    """Return the utterances of ``b`` whose audio is in ``a`` too."""
    known = {audio_of(a, utt) for utt in a["utt2spk"]}
    return {utt for utt in b["utt2spk"] if audio_of(b, utt) in known}


def refuse_equal_ids(a: Tables, b: Tables) -> None:
    """Raise if an id stands for different audio in the two sets that are trained on together."""
    for utt in sorted(a["utt2spk"].keys() & b["utt2spk"].keys()):
        if (one := audio_of(a, utt)) != (other := audio_of(b, utt)):
            where = f"{' '.join(one)} and {' '.join(other)}"
            what = f"'{utt}' is the id of different audio in LABELLED and UNLABELLED"
            raise DataError(what, where, "rename one of them")


def held_out(labelled: Tables, share: float, names: list[str]) -> dict[str, set[str]]:
    """Choose ``share`` of the labelled utterances, by hash, for each of the sets ``names``."""
    order = labelling_order(labelled["utt2spk"])
    count = max(1, int(share * len(order) + 0.5))
    if len(order) <= count * len(names):
        what = f"{len(order)} labelled utterances are too few to hold out {count} for each of"
        raise DataError(f"{what} {', '.join(names)}", "LABELLED", "give VALID and TEST")
    return {name: set(order[i * count : (i + 1) * count]) for i, name in enumerate(names)}


def make(out: Path, given: dict[str, Path | None], share: float) -> None:
    """Write the four folders and say what is in them."""
    for name in ("labelled", "unlabelled"):
        if given[name] is None:
            how = f"{FOLDERS[name]}=/path/to/folder ./run.sh"
            raise DataError(f"The environment variable {FOLDERS[name]} is not set", None, how)
    sets = {name: read_source(folder, name != "unlabelled")
            for name, folder in given.items() if folder is not None}  # fmt: skip
    utts = {name: set(tables["utt2spk"]) for name, tables in sets.items()}
    refuse_equal_ids(sets["labelled"], sets["unlabelled"])
    both = overlap(sets["labelled"], sets["unlabelled"])
    absent = [name for name in ("valid", "test") if name not in sets]
    for name, chosen in held_out(sets["labelled"], share, absent).items() if absent else ():
        sets[name], utts[name] = sets["labelled"], chosen
        utts["labelled"] -= chosen
        print(f"{name}: {FOLDERS[name]} is not set, so {len(chosen)} labelled utterances "
              "(by hash of the id, the same share of every speaker) are held out")  # fmt: skip
        hidden = {audio_of(sets["labelled"], utt) for utt in chosen}
        utts["unlabelled"] -= {u for u in both if audio_of(sets["unlabelled"], u) in hidden}
    for name, chosen in utts.items():
        if not chosen:
            raise DataError(f"no utterance is left for {name}", FOLDERS[name], "give more data")
        folder = "dev" if name == "valid" else name
        write_part(out / folder, sets[name], chosen, with_text=name != "unlabelled")
        print(f"{folder}: {len(chosen)} utterances, "
              f"{len({sets[name]['utt2spk'][u] for u in chosen})} speakers")  # fmt: skip
    tell_overlaps(sets, utts, given)


def tell_overlaps(sets: dict[str, Tables], utts: dict[str, set[str]], given: dict) -> None:
    """Say what is in two sets; what is tested must not be what is trained on."""
    pairs = [("labelled", "unlabelled", "an easier setting than audio of its own")]
    leaks = [(a, b) for a in ("labelled", "unlabelled") for b in ("valid", "test") if given[b]]
    pairs += [(a, b, "its scores are not those of unseen speech") for a, b in leaks]
    for a, b, meaning in pairs:
        common = len(overlap(sets[a], sets[b]) & utts[b])
        if common or (a, b) == ("labelled", "unlabelled"):
            note = f": {meaning}" if common else ""
            print(f"{common} of {len(utts[b])} {b} utterances are {a} ones too{note}")


def main() -> None:
    """Read options and environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    for name, variable in FOLDERS.items():
        parser.add_argument(f"--{name}", default=os.environ.get(variable))
    parser.add_argument("--held-out", type=float, default=0.1)
    args = vars(parser.parse_args())
    if not 0 < args["held_out"] < 0.5:
        raise UsageError(f"--held-out cannot be {args['held_out']}", None, "above 0, below 0.5")
    given = {name: called_from() / os.path.expanduser(args[name]) if args[name] else None
             for name in FOLDERS}  # fmt: skip
    make(args["out"], given, args["held_out"])


if __name__ == "__main__":
    sys.exit(exit_code(main))
