# SPDX-License-Identifier: Apache-2.0
"""CMU AN4 into Kaldi-style folders train, dev and test, with the split of ESPnet's AN4 recipe.

The dictionary of the corpus becomes OUT/lexicon.txt.

usage: python local/an4.py OUT [--downloads DIR] [--dev N]
                               [--labelled-fraction F [--unlabelled rest|all]]

AN4=/path names an existing copy: the web distribution (.sph) or the same tree with .flac or .wav.
Otherwise it is downloaded. Development = the first 100 training utterances in the byte order of
their ids, which start with the speaker; test = the official 130 utterances. With a labelled
fraction there are labelled and unlabelled in place of train: see espnet_ext.data.labelled.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

from espnet_ext.data import labelled
from espnet_ext.data.download import extract, fetch
from espnet_ext.data.tables import write_set
from espnet_ext.errors import DataError, exit_code
from espnet_ext.files import write_text
from espnet_ext.recipe.console import Progress

# A public mirror of the web distribution; its checksum is the one NVIDIA NeMo's tools check.
URL = "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz"
SHA256 = "a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12"
DEV_UTTERANCES = 100
EXPECTED = {"train": 848, "dev": 100, "test": 130}
LINE = re.compile(r"(?:<s> )?(?P<text>.*?)(?: </s>)? \((?P<file>[^()]+)\)")
ENDINGS = (".sph", ".flac", ".wav")


def find_corpus(downloads: Path) -> Path:
    """Return the folder with ``etc/`` and ``wav/``; download it if AN4 is not set."""
    given = os.environ.get("AN4")
    root = Path(given) if given else downloads / "an4"
    if not given and not root.is_dir():
        archive = fetch(
            URL, downloads / "an4_sphere.tar.gz", sha256=SHA256, progress=Progress("AN4", "bytes")
        )
        extract(archive, root)
    for folder in (root, root / "an4"):
        if (folder / "etc/an4_train.transcription").is_file():
            return folder
    raise DataError("this is not AN4: there is no etc/an4_train.transcription", root,
                    "set AN4 to the folder that holds etc/ and wav/")  # fmt: skip


def read_part(root: Path, part: str) -> dict[str, tuple[str, str, str]]:
    """Return ``{utterance: (audio file, text, speaker)}`` of ``train`` or ``test``."""
    ids_file = root / f"etc/an4_{part}.fileids"
    paths = {Path(x).name: x for x in ids_file.read_text(encoding="ascii").split()}
    rows = {}
    source = root / f"etc/an4_{part}.transcription"
    for number, line in enumerate(source.read_text(encoding="ascii").splitlines(), 1):
        match = LINE.fullmatch(line.strip())
        if match is None or match["file"] not in paths:
            raise DataError(
                "the line is not 'TEXT (file id)' of a known file", f"{source}:{number}"
            )
        session, speaker, channel = match["file"].split("-")
        audio = _audio(root / "wav" / paths[match["file"]])
        rows[f"{speaker}-{session}-{channel}"] = (str(audio), match["text"], speaker)
    return rows


def _audio(stem: Path) -> Path:
    for ending in ENDINGS:
        if (path := stem.with_name(stem.name + ending)).is_file():
            return Path(os.path.abspath(path))
    raise DataError("the audio file is missing", f"{stem}{{{','.join(ENDINGS)}}}")


def main() -> None:
    """Write the three sets and check their sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--dev", type=int, default=DEV_UTTERANCES)
    parser.add_argument("--labelled-fraction", type=float)
    parser.add_argument("--unlabelled", choices=(labelled.REST, labelled.ALL), default="rest")
    args = parser.parse_args()
    root = find_corpus(args.downloads)
    train, test = read_part(root, "train"), read_part(root, "test")
    ordered = sorted(train, key=str.encode)
    sets = {
        "train": {u: train[u] for u in ordered[args.dev :]},
        "dev": {u: train[u] for u in ordered[: args.dev]},
        "test": test,
    }
    for name, rows in sets.items():
        write_set(args.out / name, rows)
        note = "" if len(rows) == EXPECTED[name] else f" (the whole corpus has {EXPECTED[name]})"
        print(f"{name}: {len(rows)} utterances{note}")
    if args.labelled_fraction is not None:
        train = args.out / "train"
        summary = labelled.split_dir(train, args.out, args.labelled_fraction, args.unlabelled)
        print(labelled.describe(summary))
        shutil.rmtree(train)  # it holds the texts that are hidden
    if (dictionary := root / "etc/an4.dic").is_file():
        write_text(args.out / "lexicon.txt", dictionary.read_text(encoding="ascii"))


if __name__ == "__main__":
    sys.exit(exit_code(main))
