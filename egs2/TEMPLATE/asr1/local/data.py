# SPDX-License-Identifier: Apache-2.0
"""Kaldi-style folders from lists: python local/data.py OUT, with MANIFEST=/path/to/the/lists.

MANIFEST holds train.tsv, dev.tsv and test.tsv: id<TAB>audio<TAB>text<TAB>speaker in each line,
the audio's path absolute or from that folder. EDIT: read_set, when the corpus has other lists.
"""

import os
import sys
from pathlib import Path

from espnet_ext.data.tables import write_set
from espnet_ext.errors import DataError, exit_code

SETS = ("train", "dev", "test")  # EDIT: as in 'data:' of recipe.yaml


def read_set(root: Path, name: str) -> dict[str, tuple[str, str, str]]:
    """Return ``{utterance: (audio file, text, speaker)}`` of one list."""
    source, rows = root / f"{name}.tsv", {}
    if not source.is_file():
        raise DataError(f"{source.name} is missing", source, "MANIFEST=/path/to/the/lists ./run.sh")
    for number, line in enumerate(source.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = [" ".join(field.split()) for field in line.split("\t")]
        if len(fields) != 4 or not all(fields):
            raise DataError(
                "the line is not id<TAB>audio<TAB>text<TAB>speaker", f"{source}:{number}"
            )
        utt, audio, text, speaker = fields  # EDIT: text counts as it is, with case and punctuation
        utt, speaker = utt.replace(" ", "_"), speaker.replace(" ", "_")
        # Kaldi's tools want utterances in the order of their speakers: the id starts with it.
        utt = utt if utt.startswith(speaker) else f"{speaker}-{utt}"
        if utt in rows:
            raise DataError(f"'{utt}' stands twice", f"{source}:{number}", "give it another id")
        rows[utt] = (str((root / audio).resolve()), text, speaker)
    return rows


def main() -> None:
    """Write the folders; names and order of the files are those of every Kaldi recipe."""
    out, root = Path(sys.argv[1]), Path(os.environ.get("MANIFEST", ""))
    for name in SETS:
        rows = read_set(root, name)
        write_set(out / name, rows)
        print(f"{name}: {len(rows)} utterances")


if __name__ == "__main__":
    sys.exit(exit_code(main))
