# SPDX-License-Identifier: Apache-2.0
"""The utterances of a Kaldi-style folder with or without ``segments``, and where their audio is."""

from pathlib import Path
from typing import NamedTuple

from espnet_ext.data.rows import parse_segment
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError


class Utterance(NamedTuple):
    """One utterance.

    Attributes:
        id: Its name.
        audio: The file.
        start_s, end_s: Its part of the file; None: all of it.
    """

    id: str
    audio: str
    start_s: float | None = None
    end_s: float | None = None


def utterances(data_dir: Path | str) -> list[Utterance]:
    """Return the utterances of a folder, in the order of ``segments`` or ``wav.scp``.

    Raises:
        DataError: ``wav.scp`` is missing or empty, or a line of ``segments`` is not usable.
    """
    data_dir = Path(data_dir)
    wavs = read_table(data_dir / "wav.scp")
    if not wavs:
        raise DataError("wav.scp is empty", data_dir / "wav.scp", "prepare the data again")
    if not (data_dir / "segments").exists():
        return [Utterance(utt, path) for utt, path in wavs.items()]
    out = []
    for line, (utt, value) in enumerate(read_table(data_dir / "segments").items(), 1):
        parsed = parse_segment(value)
        if parsed is None or parsed[0] not in wavs:
            what = "a segment is 'utterance recording start end', its recording in wav.scp"
            how = f"espnet-ext doctor --data {data_dir}"
            raise DataError(what, f"{data_dir / 'segments'}:{line}", how)
        out.append(Utterance(utt, wavs[parsed[0]], parsed[1], parsed[2]))
    return out
