# SPDX-License-Identifier: Apache-2.0
"""Sets of text from lists: python local/data.py OUT, with MANIFEST=/path/to/the/lists.

MANIFEST holds train.tsv, valid.tsv and test.tsv: id<TAB>manual text<TAB>ASR text<TAB>label in each
line. EDIT: read_set, when the corpus has other lists. Where it has no ASR text, make some first:
``espnet-ext transcribe`` from audio, ``espnet-ext simulate-asr`` from a recogniser's errors.
"""

import os
import sys
from pathlib import Path

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, exit_code

SETS = ("train", "valid", "test")  # EDIT: as in 'data:' of recipe.yaml
FILES = ("text_manual", "text_asr", "label")


def read_set(root: Path, name: str) -> dict[str, tuple[str, str, str]]:
    """Return ``{utterance: (manual text, ASR text, label)}`` of one list.

    The ASR text may be empty. A label is one word for each of ``format.args.heads``.
    """
    source, rows = root / f"{name}.tsv", {}
    if not source.is_file():
        raise DataError(f"{source.name} is missing", source, "MANIFEST=/path/to/the/lists ./run.sh")
    for number, line in enumerate(source.read_text(encoding="utf-8-sig").splitlines(), 1):
        fields = [" ".join(field.split()) for field in line.split("\t")]
        if len(fields) != 4 or not fields[0] or not fields[3]:
            what = "the line is not id<TAB>manual text<TAB>ASR text<TAB>label"
            raise DataError(what, f"{source}:{number}", "separate the four by one tab each")
        utt = fields[0].replace(" ", "_")
        if utt in rows:
            raise DataError(f"'{utt}' stands twice", f"{source}:{number}", "give it another id")
        rows[utt] = (fields[1], fields[2], fields[3])
    return rows


def main() -> None:
    """Write the folders, a table for each column."""
    out, root = Path(sys.argv[1]), Path(os.environ.get("MANIFEST", ""))
    for name in SETS:
        rows = read_set(root, name)
        for column, file in enumerate(FILES):
            write_table(out / name / file, {utt: row[column] for utt, row in rows.items()})
        labels = {label for *_, label in rows.values()}
        print(f"{name}: {len(rows)} utterances, {len(labels)} labels")


if __name__ == "__main__":
    sys.exit(exit_code(main))
