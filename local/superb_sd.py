# SPDX-License-Identifier: Apache-2.0
"""Libri2Mix for speaker diarisation (SUPERB): sets sd_train, sd_dev and sd_test with rttm.

LIBRI2MIX_DIARISATION=/path names the folder that LibriMix's scripts/prepare_diarization.py made of
wav16k/max: train, dev and test, each with wav.scp, utt2spk, segments and rttm. Relative audio paths
are meant from there.
"""

from pathlib import Path

from superb_common import SuperbSet, corpus_root

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError

VARIABLE = "LIBRI2MIX_DIARISATION"
VARIABLES = (VARIABLE,)
PARTS = ("train", "dev", "test")


def read() -> list[SuperbSet]:
    """Return the three sets: whole recordings, as rttm counts time from their beginning.

    Raises:
        DataError: The folder is not there, or lacks a table.
    """
    root = corpus_root(VARIABLE, "train/rttm")
    return [read_part(root, part) for part in PARTS]


def read_part(root: Path, part: str) -> SuperbSet:
    """Return a set; a recording without a line in rttm, or the other way round, is skipped.

    Raises:
        DataError: A table is missing, or no recording is left.
    """
    made = SuperbSet(f"sd_{part}")
    rttm = root / part / "rttm"
    if not rttm.is_file():
        raise DataError("rttm is missing", rttm, "run prepare_diarization.py of LibriMix")
    lines: dict[str, list[str]] = {}
    for line in rttm.read_text(encoding="utf-8").splitlines():
        fields = line.split()
        if fields[:1] == ["SPEAKER"] and len(fields) >= 8:
            lines.setdefault(fields[1], []).append(" ".join(fields))
    wavs = read_table(root / part / "wav.scp")
    for recording in sorted(wavs.keys() | lines.keys()):
        if recording not in wavs:
            made.skip(rttm, "in rttm, and not in wav.scp", recording)
        elif recording not in lines:
            made.skip(rttm, "in wav.scp, and not in rttm", recording)
        else:
            made.add(recording, root / wavs[recording], "", recording, rttm)
            made.rttm += lines[recording]
    return made
