# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech as Kaldi-style folders: labelled, unlabelled (no text), dev, test_clean, test_other.

usage: python local/librispeech.py OUT [--downloads DIR] [--labelled PART...]
                                       [--unlabelled PART...] [--dev PART...]

LIBRISPEECH=/path names an existing copy: the folder that holds train-clean-100 and so on, or
LibriSpeech/ with them. Otherwise the parts that are asked for are downloaded from OpenSLR 12.
Utterance ids and texts are those of the corpus; a speaker is a reader with a chapter, as in the
recipes of Kaldi and ESPnet. The transcripts of unlabelled parts are not even opened.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from espnet_ext.data.download import extract, fetch
from espnet_ext.data.lines import utf8_lines
from espnet_ext.data.tables import write_set, write_spk2utt, write_table
from espnet_ext.errors import DataError, SetupError, UsageError, exit_code, nearest
from espnet_ext.recipe.console import Progress

URL = "https://www.openslr.org/resources/12/{}.tar.gz"
FOLDER = "LibriSpeech"
# Checksums as torchaudio has them; OpenSLR publishes MD5 sums.
SHA256 = {
    "dev-clean": "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
}
# Size of the archive; the content takes as much again.
ARCHIVE_GB = {
    "dev-clean": 0.34, "dev-other": 0.32, "test-clean": 0.35, "test-other": 0.33,
    "train-clean-100": 6.4, "train-clean-360": 23.1, "train-other-500": 30.6,
}  # fmt: skip
EXPECTED = {
    "dev-clean": 2703, "dev-other": 2864, "test-clean": 2620, "test-other": 2939,
    "train-clean-100": 28539, "train-clean-360": 104014, "train-other-500": 148688,
}  # fmt: skip

Rows = dict[str, tuple[str, str, str]]


def find_corpus(parts: Iterable[str], downloads: Path) -> dict[str, Path]:
    """Return ``{part: its folder}``; parts are downloaded if LIBRISPEECH is not set.

    Raises:
        DataError: A part is missing in the copy that LIBRISPEECH names, or in an archive.
        SetupError: Too little disk space, or the network fails.
    """
    given = os.environ.get("LIBRISPEECH")
    if not given:
        _need_space(parts, downloads)
    found = {}
    for part in parts:
        root = Path(given) if given else _download(part, downloads)
        below = (root / part, root / FOLDER / part)
        folder = next((f for f in below if f.is_dir()), None)
        if folder is None:
            how = (
                f"set LIBRISPEECH to the folder that holds {part} or {FOLDER}/{part}; "
                "other parts are chosen by prepare.args"
            )
            raise DataError(f"there is no {part}", root, how)
        found[part] = folder
    return found


def _need_space(parts: Iterable[str], downloads: Path) -> None:
    downloads.mkdir(parents=True, exist_ok=True)
    archive = {p: downloads / f"{p}.tar.gz" for p in parts if not (downloads / p).is_dir()}
    need_gb = sum(ARCHIVE_GB[p] * (1 if a.exists() else 2) for p, a in archive.items())
    free_gb = shutil.disk_usage(downloads).free / 1e9
    if need_gb > free_gb:
        what = f"archives and content need {need_gb:.0f} GB, and {free_gb:.0f} GB are free"
        raise SetupError(what, downloads, "free some space, or choose smaller parts")


def _download(part: str, downloads: Path) -> Path:
    root = downloads / part
    if not root.is_dir():
        archive = downloads / f"{part}.tar.gz"
        fetch(URL.format(part), archive, sha256=SHA256[part], progress=Progress(part, "bytes"))
        extract(archive, root)
    return root


def audio_of(folder: Path) -> dict[str, Path]:
    """Return ``{utterance: flac file}`` of a part.

    Raises:
        DataError: There is none, or a file is not named and placed as LibriSpeech does.
    """
    found = {}
    for path in sorted(folder.glob("*/*/*.flac")):
        reader, chapter = path.parts[-3:-1]
        if not path.name.startswith(f"{reader}-{chapter}-"):
            how = "the layout is READER/CHAPTER/READER-CHAPTER-NUMBER.flac: copy the part again"
            raise DataError("the audio file is in another reader's or chapter's folder", path, how)
        found[path.stem] = path
    if not found:
        raise DataError("there is no READER/CHAPTER/*.flac", folder, "complete the copy")
    return found


def read_labelled(folder: Path) -> Rows:
    """Return ``{utterance: (audio, text, speaker)}`` of a part.

    Raises:
        DataError: A transcript without audio, audio without transcript, a line that is not
            'utterance text' of its chapter, or an utterance that stands twice.
    """
    audio, rows = audio_of(folder), {}
    for source in sorted(folder.glob("*/*/*.trans.txt")):
        speaker = source.name.removesuffix(".trans.txt")
        for number, line in utf8_lines(source):
            utt, text = [*line.split(maxsplit=1), "", ""][:2]
            where = f"{source}:{number}"
            if not text.strip() or not utt.startswith(f"{speaker}-"):
                what = f"the line is not '{speaker}-NUMBER TEXT'"
                raise DataError(what, where, "copy or download the part again")
            if utt not in audio:
                what = f"the audio of '{utt}' is missing: {source.parent / utt}.flac"
                raise DataError(what, where, "copy or download the part again")
            if utt in rows:
                raise DataError(f"'{utt}' stands twice", where, "remove one of the lines")
            rows[utt] = (os.path.abspath(audio[utt]), " ".join(text.split()), speaker)
    if lost := sorted(audio.keys() - rows.keys()):
        path = audio[lost[0]]
        source = path.parent / f"{lost[0].rpartition('-')[0]}.trans.txt"
        what = f"{len(lost)} of {len(audio)} audio files have no transcript, the first is {path}"
        raise DataError(what, source, "copy or download the part again")
    return rows


def write_unlabelled(out: Path, audio: dict[str, Path]) -> None:
    """Write wav.scp, utt2spk and spk2utt, no text."""
    write_table(out / "wav.scp", {utt: os.path.abspath(path) for utt, path in audio.items()})
    utt2spk = {utt: utt.rpartition("-")[0] for utt in audio}
    write_table(out / "utt2spk", utt2spk)
    write_spk2utt(out, utt2spk)


def tell(name: str, parts: list[str], count: int) -> None:
    """Print the size of a set, and that of the whole corpus where it differs."""
    whole = sum(EXPECTED[p] for p in parts)
    note = "" if count == whole else f" (note: the whole corpus has {whole})"
    print(f"{name}: {count} utterances of {' + '.join(parts)}{note}")


def write_labelled(out: Path, name: str, parts: list[str], folders: dict[str, Path]) -> None:
    """Write set ``out/name`` of some parts with their transcripts, and tell its size.

    Raises:
        DataError: See :func:`read_labelled`.
    """
    rows: Rows = {}
    for part in parts:
        rows |= read_labelled(folders[part])
    write_set(out / name, rows)
    tell(name, parts, len(rows))


def check_parts(parts: Iterable[str], option: str) -> list[str]:
    """Return the parts, each once.

    Raises:
        UsageError: LibriSpeech has no such part.
    """
    for part in (parts := list(dict.fromkeys(parts))):
        if part not in EXPECTED:
            raise UsageError(f"LibriSpeech has no part '{part}'", option, nearest(part, EXPECTED))
    return parts


def options() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UsageError: A part that LibriSpeech does not have.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--labelled", nargs="+", default=["train-clean-100"])
    parser.add_argument("--unlabelled", nargs="+", default=["train-clean-360"])
    parser.add_argument("--dev", nargs="+", default=["dev-clean", "dev-other"])
    args = parser.parse_args()
    for name in ("labelled", "unlabelled", "dev"):
        setattr(args, name, check_parts(getattr(args, name), f"--{name}"))
    held_out = {*args.dev, "test-clean", "test-other"}
    if seen := sorted(held_out & {*args.labelled, *args.unlabelled}):
        raise UsageError(
            f"{seen[0]} would be trained on and scored", "--labelled, --unlabelled, --dev",
            "keep development and test sets out of the training data",
        )  # fmt: skip
    return args


def main() -> None:
    """Write the five sets."""
    args = options()
    sets = {
        "labelled": args.labelled, "dev": args.dev,
        "test_clean": ["test-clean"], "test_other": ["test-other"],
    }  # fmt: skip
    wanted = dict.fromkeys(p for parts in (*sets.values(), args.unlabelled) for p in parts)
    folders = find_corpus(wanted, args.downloads)
    for name, parts in sets.items():
        write_labelled(args.out, name, parts, folders)
    audio: dict[str, Path] = {}
    for part in args.unlabelled:
        audio |= audio_of(folders[part])
    write_unlabelled(args.out / "unlabelled", audio)
    tell("unlabelled", args.unlabelled, len(audio))
    both = sorted({*args.labelled} & {*args.unlabelled})
    if both:
        print(f"note: {', '.join(both)} is in both sets, an easier setting than audio of its own")


if __name__ == "__main__":
    sys.exit(exit_code(main))
