# SPDX-License-Identifier: Apache-2.0
"""Few labels on any corpus: a share of a set keeps its text, the rest becomes unlabelled audio.

The choice is made by a hash of the ids alone, so it needs no seed, is equal on every machine, and
is nested: what is labelled at 10 % is labelled at 25 % too. Every speaker has its share: of a
speaker with n utterances, fraction * n are labelled, rounded up or down.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from espnet_ext.data.audio import info
from espnet_ext.data.rows import parse_segment
from espnet_ext.data.tables import read_table, write_spk2utt, write_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import write_json, write_text

LABELLED, UNLABELLED = "labelled", "unlabelled"
REST, ALL = "rest", "all"
Row = tuple[str, str, str]


def split_labelled(
    rows: Mapping[str, Row], fraction: float
) -> tuple[dict[str, Row], dict[str, Row]]:
    """Choose whose text is kept.

    Args:
        rows: ``{utterance: (audio, text, speaker)}``.
        fraction: Share of the utterances that stay labelled, in (0, 1].

    Returns:
        The labelled rows, round(fraction * N) of N, and the others, each in byte order of the ids.

    Raises:
        UsageError: ``fraction`` is not in (0, 1].
        DataError: No utterance would be labelled.
    """
    chosen = choose_labelled({utt: row[2] for utt, row in rows.items()}, fraction)
    ordered = sorted(rows, key=str.encode)
    return (
        {utt: rows[utt] for utt in ordered if utt in chosen},
        {utt: rows[utt] for utt in ordered if utt not in chosen},
    )


def choose_labelled(utt2spk: Mapping[str, str], fraction: float) -> set[str]:
    """Return the ids of the labelled utterances; see :func:`split_labelled`."""
    if not 0 < fraction <= 1:
        how = "give a share above 0 and up to 1, e.g. 0.25"
        raise UsageError(f"the labelled fraction cannot be {fraction:g}", "labelled fraction", how)
    count = int(fraction * len(utt2spk) + 0.5)
    if not count:
        raise DataError(
            f"no utterance would be labelled: {fraction:g} of {len(utt2spk)}",
            "labelled fraction",
            "give a larger share",
        )
    return set(labelling_order(utt2spk)[:count])


def labelling_order(utt2spk: Mapping[str, str]) -> list[str]:
    """Return all ids in the order in which they are labelled as the fraction grows.

    Within a speaker the order is that of the ids' hashes. Whose turn it is, is the problem of the
    fair chairman: after h of N turns a speaker with n utterances has had h * n / N of them,
    rounded up or down. Giving the turn to the speaker whose next one is due first, among those
    that are not ahead, keeps that for every h.

    Source: Tijdeman, "The chairman assignment problem", Discrete Mathematics 32 (1980).
    """
    waiting: dict[str, list[str]] = defaultdict(list)
    for utt in sorted(utt2spk, key=_hash, reverse=True):
        waiting[utt2spk[utt]].append(utt)
    total, sizes = len(utt2spk), {spk: len(utts) for spk, utts in waiting.items()}
    later = [(1, _hash(spk), spk) for spk in waiting]  # (turn from which it may, ...)
    heapq.heapify(later)
    ready: list[tuple[int, bytes, str]] = []  # (turn by which it must, ...)
    order = []
    for turn in range(1, total + 1):
        while later and later[0][0] <= turn:
            _, tie, spk = heapq.heappop(later)
            given = sizes[spk] - len(waiting[spk])
            due = -(-(given + 1) * total // sizes[spk])
            heapq.heappush(ready, (due, tie, spk))
        _, tie, spk = heapq.heappop(ready)
        order.append(waiting[spk].pop())
        if waiting[spk]:
            given = sizes[spk] - len(waiting[spk])
            heapq.heappush(later, (given * total // sizes[spk] + 1, tie, spk))
    return order


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def split_dir(src: Path | str, out: Path | str, fraction: float, unlabelled: str = REST) -> dict:
    """Make folders ``out/labelled`` and ``out/unlabelled`` of the Kaldi-style folder ``src``.

    The second one has no ``text``. Beside them stand labelled.txt and unlabelled.txt, the ids,
    and labelled.json, what is returned.

    Args:
        src: Folder with wav.scp, text, utt2spk and, if any, segments.
        out: Where the two folders are made.
        fraction: Share of the utterances that stay labelled, in (0, 1].
        unlabelled: ``rest``: the audio whose text is hidden. ``all``: the labelled audio as well,
            an easier setting.

    Returns:
        ``{fraction, labelled, labelled_s, unlabelled, unlabelled_s, overlap}``: numbers of
        utterances, seconds of audio, and how many are in both.

    Raises:
        UsageError: ``fraction`` or ``unlabelled`` is not usable.
        DataError: A table or audio file is not usable, or one of the two sets would be empty.
    """
    src, out = Path(src), Path(out)
    if unlabelled not in (REST, ALL):
        raise UsageError(f"unlabelled cannot be '{unlabelled}'", None, f"{REST} or {ALL}")
    names = ("wav.scp", "text", "utt2spk", "segments")
    tables = {n: read_table(src / n) for n in names if n != "segments" or (src / n).exists()}
    utt2spk = tables["utt2spk"]
    chosen = choose_labelled(utt2spk, fraction)
    others = set(utt2spk) if unlabelled == ALL else set(utt2spk) - chosen
    if not others:
        how = f"give a smaller fraction, or --unlabelled {ALL} for all audio in both sets"
        raise DataError("no utterance is left for the unlabelled set", "labelled fraction", how)
    lengths_s = _lengths_s(src, tables)
    summary: dict = {"fraction": fraction, "overlap": len(chosen & others)}
    for name, utts in ((LABELLED, chosen), (UNLABELLED, others)):
        write_part(out / name, tables, utts, with_text=name == LABELLED)
        write_text(out / f"{name}.txt", "".join(f"{u}\n" for u in sorted(utts, key=str.encode)))
        summary |= {name: len(utts), f"{name}_s": round(sum(lengths_s[u] for u in utts), 3)}
    write_json(out / f"{LABELLED}.json", summary)
    return summary


def describe(summary: Mapping) -> str:
    """Return a line on what :func:`split_dir` made, for people."""
    parts = [f"{n}: {summary[n]} utterances, {summary[f'{n}_s'] / 60:.1f} min"
             for n in (LABELLED, UNLABELLED)]  # fmt: skip
    overlap = summary["overlap"]
    easier = ", an easier setting than audio of its own" if overlap else ""
    return "; ".join([*parts, f"in both: {overlap}{easier}"])


def _lengths_s(src: Path, tables: dict[str, dict[str, str]]) -> dict[str, float]:
    """Return seconds per utterance; every audio file is opened, so a missing one is found."""
    if "segments" not in tables:
        return {utt: _duration_s(src, utt, path) for utt, path in tables["wav.scp"].items()}
    lengths_s = {}
    for utt, value in tables["segments"].items():
        segment = parse_segment(value)
        if segment is None:
            what = f"the segment of '{utt}' is not 'utterance recording start end'"
            raise DataError(what, src / "segments", "correct the line")
        lengths_s[utt] = segment[2] - segment[1]
    return lengths_s


def _duration_s(src: Path, utt: str, path: str) -> float:
    try:
        return info(path).duration_s
    except DataError as e:
        raise DataError(f"'{utt}': {e.what} ({e.where})", src / "wav.scp", e.how) from None


def write_part(folder: Path, tables: dict, utts: set[str], with_text: bool) -> None:
    """Write a folder with some utterances of a set.

    Args:
        folder: Folder to make.
        tables: ``{file name: {key: value}}`` with wav.scp, utt2spk and, if any, text and segments.
        utts: Ids of the utterances.
        with_text: Whether ``text`` is written.
    """
    used = utts
    if "segments" in tables:
        used = {tables["segments"][u].split()[0] for u in utts}
    for name, table in tables.items():
        if name == "text" and not with_text:
            continue
        keys = used if name == "wav.scp" else utts
        write_table(folder / name, {k: v for k, v in table.items() if k in keys})
    write_spk2utt(folder, {u: s for u, s in tables["utt2spk"].items() if u in utts})
