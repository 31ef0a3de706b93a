# SPDX-License-Identifier: Apache-2.0
"""Join short utterances of one speaker, for losses that need some seconds of audio (CPC: 3 s).

Only utterances shorter than ``join_s`` are joined, in byte order of their ids, until ``join_s`` is
reached. What is left of a speaker at the end goes to its last joined utterance, or, if there is
none, to its last long one; a speaker with less than ``join_s`` in all is one utterance. So all are
shorter than ``3 * join_s`` or than ``max_s``, and no audio is lost.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from espnet_ext.data import audio as audio_io
from espnet_ext.data.format_job import (
    UNREADABLE,
    content_notes,
    drop_reason,
    format_recording,
    write_audio,
)
from espnet_ext.data.rows import key_bytes
from espnet_ext.errors import DataError


def group_short(
    lengths_s: Sequence[tuple[str, float]], join_s: float, max_s: float
) -> list[list[str]]:
    """Choose which utterances of one speaker become one.

    Args:
        lengths_s: ``(utterance, seconds)`` in the order in which they are to be joined.
        join_s: An utterance shorter than this is joined, until this is reached.
        max_s: A long utterance takes what is left over up to this length.

    Returns:
        Groups of two or more ids, each in the given order; who is in none stays as it is.
    """
    groups: list[list[str]] = []
    rest: list[str] = []
    rest_s = 0.0
    for utt, seconds in lengths_s:
        if seconds >= join_s:
            continue
        rest.append(utt)
        rest_s += seconds
        if rest_s >= join_s:
            groups.append(rest)
            rest, rest_s = [], 0.0
    if groups:
        groups[-1] += rest
        rest = []
    host = next(((u, s) for u, s in reversed(lengths_s) if s >= join_s), None)
    if rest and host is not None and host[1] + rest_s <= max_s:
        together = {host[0], *rest}
        rest = [utt for utt, _ in lengths_s if utt in together]
    groups.append(rest)
    return [group for group in groups if len(group) > 1]


def join_short(
    items: list[dict], utt2spk: dict[str, str], join_s: float, max_s: float, n_jobs_map: Callable
) -> list[dict]:
    """Return the work of formatting with one item for each joined utterance.

    Args:
        items: One for each recording, see :func:`~espnet_ext.data.format_job.format_recording`.
        utt2spk: Speakers, completed for the joined utterances; who has none is joined to nobody.
        join_s: See :func:`group_short`.
        max_s: See :func:`group_short`.
        n_jobs_map: Ordered map ``(function, items) -> results``.
    """
    lengths_s: dict[str, list[tuple[str, float]]] = {}
    where = {}
    for item, measured in zip(items, n_jobs_map(measure, items), strict=True):
        for utterance, seconds in zip(item["utts"], measured, strict=True):
            utt = utterance[0]
            where[utt] = (item, utterance)
            if seconds is not None and utt2spk.get(utt):
                lengths_s.setdefault(utt2spk[utt], []).append((utt, seconds))
    joined = []
    for speaker, of_speaker in lengths_s.items():
        of_speaker.sort(key=lambda row: key_bytes(row[0]))
        for group in group_short(of_speaker, join_s, max_s):
            joined.append(_joined_item(group, where))
            utt2spk[joined[-1]["joined"]] = speaker
    gone = {utterance[0] for item in joined for utterance in item["utts"]}
    kept = [{**item, "utts": [u for u in item["utts"] if u[0] not in gone]} for item in items]
    return [*(item for item in kept if item["utts"]), *joined]


def measure(item: dict) -> list[float | None]:
    """Return the seconds of each utterance of a recording; None where the audio is not usable."""
    out: list[float | None] = []
    for _, start_s, end_s, _ in item["utts"]:
        if start_s is not None:
            out.append(end_s - start_s)
            continue
        try:
            out.append(audio_io.info(item["source"], item["allow_pipes"]).duration_s)
        except DataError:
            out.append(None)  # formatting drops it, with the reason
    return out


def _joined_item(group: list[str], where: Mapping[str, tuple[dict, list]]) -> dict:
    name = f"{group[0]}-joined{len(group)}"
    while name in where:
        name += "x"
    first = where[group[0]][0]
    return {
        **{key: first[key] for key in ("allow_pipes", "wav_dir", "options")},
        "joined": name,
        "sources": [where[utt][0]["source"] for utt in group],
        "utts": [where[utt][1] for utt in group],
    }


def format_item(item: dict) -> dict:
    """Do one item of work: a recording, or utterances that become one."""
    return _format_joined(item) if "joined" in item else format_recording(item)


def _format_joined(item: dict) -> dict:
    """Like :func:`~espnet_ext.data.format_job.format_recording`, and ``parts``.

    ``parts`` are lists ``[joined id, utt, first sample, end sample]``.
    """
    out: dict = {"rows": [], "dropped": [], "notes": [], "parts": []}
    name, pieces, end = item["joined"], [], 0
    for source, (utt, start_s, end_s, _) in zip(item["sources"], item["utts"], strict=True):
        speech = _read_part(source, utt, (start_s, end_s), item, out)
        if speech is None:
            continue
        pieces.append(speech)
        out["parts"].append([name, utt, end, end + len(speech)])
        end += len(speech)
    if refusal := drop_reason(end, None, item["options"]):
        out["dropped"] += [[utt, *refusal] for _, utt, *_ in out["parts"]]
        out["parts"] = []
        return out
    path, size, notes = write_audio(np.concatenate(pieces), name, item)
    out["notes"] += notes
    out["rows"].append([name, name, 1.0, path, end, size])
    return out


def _read_part(source: str, utt: str, times: tuple, item: dict, out: dict) -> np.ndarray | None:
    """Return the samples ``(N,)`` of a part at the rate of the result; None if it is dropped."""
    options = item["options"]
    try:
        with audio_io.open_audio(source, item["allow_pipes"]) as f:
            first, last = audio_io.frame_range(audio_io.describe(f), *times, source)
            speech, found = audio_io.read_content(f, first, last, source, options["channel"])
            rate = f.samplerate
    except DataError as e:
        out["dropped"].append([utt, UNREADABLE, f"{e.what}: {source}"])
        return None
    if fault := found.fault(options["faults"]):
        out["dropped"].append([utt, fault.reason, f"{fault.detail}: {source}"])
        return None
    out["notes"] += [[utt, *note] for note in content_notes(found)]
    return audio_io.resample(speech, rate, options["fs"])
