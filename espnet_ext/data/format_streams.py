# SPDX-License-Identifier: Apache-2.0
"""The way through format of everything but the audio in wav.scp: text, video, labels, numbers."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from espnet_ext.data.streams import AUDIO, find_stream
from espnet_ext.data.streams.base import apart
from espnet_ext.errors import DataError, UsageError

CHUNK = 200  # values of a job


class Formatted(NamedTuple):
    """What :func:`format_streams` found.

    Attributes:
        unusable: ``{utterance: (reason, detail)}``.
        notes: ``(utterance, what, numbers)`` of what was changed.
        seconds: ``(file, utterance, seconds)`` of what must last as long as the audio.
    """

    unusable: dict[str, tuple[str, str]]
    notes: list[tuple[str, str, str]]
    seconds: list[tuple[str, str, float]]


def format_streams(
    tables: dict[str, dict[str, str]],
    streams: Mapping[str, str],
    folder: Path,
    fs: int,
    n_jobs_map: Callable,
) -> Formatted:
    """Replace the values of the streams in ``tables`` by those for ``dump/``.

    Args:
        tables: ``{file: {utterance: value}}``; values that cannot be used are removed.
        streams: ``{file: type}``.
        folder: Where streams may write files, each below a folder of its own.
        fs: Sampling rate of the result in Hz.
        n_jobs_map: Ordered map ``(function, items) -> results`` over plain data.

    Returns:
        What cannot be used, what was changed, and how long what runs beside the audio is.
    """
    out = Formatted({}, [], [])
    for file, kind in streams.items():
        table = tables.get(file)
        if file == AUDIO or table is None:
            continue
        own = Path(folder, file.partition(".")[0])
        jobs = _jobs(table, {"type": kind, "folder": str(own), "fs": fs})
        for result in (map if find_stream(kind).in_table else n_jobs_map)(format_values, jobs):
            table.update(result["values"])
            out.notes.extend((utt, f"{file} {what}", how) for utt, what, how in result["notes"])
            out.seconds.extend((file, utt, seconds) for utt, seconds in result["seconds"])
            for utt, what in result["dropped"]:
                out.unusable.setdefault(utt, (f"unusable in {file}", what))
    return out


def _jobs(table: dict[str, str], common: dict) -> Iterator[dict]:
    rows = iter([[utt, value] for utt, value in table.items() if value])
    while chunk := list(islice(rows, CHUNK)):
        yield {**common, "values": chunk}


def format_values(job: dict) -> dict:
    """Format some values of one stream; the part that runs in workers."""
    kind = find_stream(job["type"])
    out: dict = {"values": {}, "notes": [], "dropped": [], "seconds": []}
    for utt, value in job["values"]:
        try:
            made = kind.format(value, utt, Path(job["folder"]))
            if (rate := kind.rate_hz(made)) not in (None, job["fs"]):
                how = "convert it: only wav.scp is resampled"
                raise DataError(f"{rate} Hz instead of {job['fs']} Hz", utt, how)
            seconds = kind.duration_s(made)
        except DataError as e:
            out["dropped"].append([utt, e.what])
            continue
        out["values"][utt] = made
        if seconds is not None:
            out["seconds"].append([utt, seconds])
        if kind.in_table:
            if made != value:
                out["notes"].append([utt, "rewritten", kind.usual_form])
            out["notes"] += [[utt, what, how] for level, what, how in kind.check(made)]
    return out


def misfits(rows: Iterable[tuple], formatted: Formatted, fs: int) -> dict[str, tuple[str, str]]:
    """Return ``{copy: (reason, detail)}`` of audio that something beside it does not fit.

    Args:
        rows: Of the result: copy, utterance, speed, path, samples.
        formatted: With the lengths of what runs beside the audio.
        fs: Sampling rate of the result in Hz.
    """
    audio_s = {utt: (copy, samples / fs) for copy, utt, _, _, samples in rows}
    out = {}
    for file, utt, seconds in formatted.seconds:
        copy, length_s = audio_s.get(utt, ("", seconds))
        if length_s and (detail := apart(seconds, length_s)):
            out[copy] = (f"{file} does not fit the audio", detail)
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
