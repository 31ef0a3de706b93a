# SPDX-License-Identifier: Apache-2.0
"""The way through format of everything but the audio in wav.scp: text, video, labels, numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from espnet_ext.data.streams import AUDIO, find_stream
from espnet_ext.errors import DataError, UsageError

CHUNK = 200  # values of a job


def format_streams(
    tables: dict[str, dict[str, str]],
    streams: Mapping[str, str],
    folder: Path,
    fs: int,
    n_jobs_map: Callable,
) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str, str]]]:
    """Replace the values of the streams in ``tables`` by those for ``dump/``.

    Args:
        tables: ``{file: {utterance: value}}``; values that cannot be used are removed.
        streams: ``{file: type}``.
        folder: Where streams may write files, each below a folder of its own.
        fs: Sampling rate of the result in Hz.
        n_jobs_map: Ordered map ``(function, items) -> results`` over plain data.

    Returns:
        ``{utterance: (reason, detail)}`` of what cannot be used, and notes on what was changed.
    """
    unusable: dict[str, tuple[str, str]] = {}
    notes = []
    for file, kind in streams.items():
        table = tables.get(file)
        if file == AUDIO or table is None:
            continue
        own = Path(folder, file.partition(".")[0])
        jobs = _jobs(table, {"type": kind, "folder": str(own), "fs": fs})
        for result in (map if find_stream(kind).in_table else n_jobs_map)(format_values, jobs):
            table.update(result["values"])
            notes += [(utt, f"{file} {what}", how) for utt, what, how in result["notes"]]
            for utt, what in result["dropped"]:
                unusable.setdefault(utt, (f"unusable in {file}", what))
    return unusable, notes


def _jobs(table: dict[str, str], common: dict) -> Iterator[dict]:
    rows = iter([[utt, value] for utt, value in table.items() if value])
    while chunk := list(islice(rows, CHUNK)):
        yield {**common, "values": chunk}


def format_values(job: dict) -> dict:
    """Format some values of one stream; the part that runs in workers."""
    kind, out = find_stream(job["type"]), {"values": {}, "notes": [], "dropped": []}
    for utt, value in job["values"]:
        try:
            made = kind.format(value, utt, Path(job["folder"]))
            if (rate := kind.rate_hz(made)) not in (None, job["fs"]):
                how = "convert it: only wav.scp is resampled"
                raise DataError(f"{rate} Hz instead of {job['fs']} Hz", utt, how)
        except DataError as e:
            out["dropped"].append([utt, e.what])
            continue
        out["values"][utt] = made
        if kind.in_table:
            if made != value:
                out["notes"].append([utt, "rewritten", kind.usual_form])
            out["notes"] += [[utt, what, how] for level, what, how in kind.check(made)]
    return out


def check_speeds(streams: Mapping[str, str], speeds: Sequence[float]) -> None:
    """Refuse speed copies of audio where another stream would no longer fit.

    Raises:
        UsageError: There are such a stream and such copies.
    """
    if all(speed == 1 for speed in speeds):
        return
    for file, kind in streams.items():
        if file != AUDIO and not find_stream(kind).with_speed:
            how = "use speeds [1.0], or a type of stream with with_speed = True"
            raise UsageError(f"{file} would not fit speed copies of the audio", "speeds", how)
