# SPDX-License-Identifier: Apache-2.0
"""Repair of a data directory: only what is safe, with the originals kept, each drop listed.

What a person must decide stays an error: two values for one key, bytes that are not UTF-8, audio
that is not on disk, times far beyond the audio.
"""

import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from espnet_ext.data import audio as audio_io
from espnet_ext.data import rows
from espnet_ext.data.check import clipped_end
from espnet_ext.data.findings import printable
from espnet_ext.data.pipes import is_pipe
from espnet_ext.errors import DataError, EspnetExtError
from espnet_ext.files import atomic_dir, atomic_path

Rows = list[tuple[str, str]]
_REASON = {
    "text": "no text",
    "utt2spk": "no speaker",
    "wav.scp": "no audio",
    "segments": "no segment",
}


def fix_dir(
    data_dir: Path | str, *, allow_pipes: bool = False, streams: Collection[str] = ()
) -> list[str]:
    """Repair ``data_dir`` in place; the files that change are kept under ``.backup-<n>/``.

    Lines are normalised (CR LF, BOM, NUL, tabs) and sorted by bytes, identical duplicates removed,
    incomplete utterances dropped (unless none would remain), segment ends at most 0.5 s beyond
    the audio clipped, spk2utt rebuilt from utt2spk. A second call changes nothing.

    Args:
        data_dir: Folder with wav.scp, text, utt2spk, spk2utt, and segments if any.
        allow_pipes: Run commands in wav.scp to learn how long their audio is.
        streams: Further tables with a line for each utterance, e.g. video.scp.

    Returns:
        What was done, one line each; the last line is always ``utterances: in = out + dropped``.

    Raises:
        DataError: The folder does not exist.
    """
    data_dir = Path(data_dir)
    if not data_dir.is_dir():
        raise DataError("the data folder does not exist", data_dir, "correct the path")
    known = dict.fromkeys((*rows.MAIN, *streams))
    tables = {name: _load(data_dir, name) for name in known}
    ids = rows.utterance_ids(tables)
    drop = set(ids.lacking) if ids.droppable else set()
    names = [n for n in known if tables[n] is not None]
    content: dict[str, Rows] = {}
    said: list[str] = []
    for name in dict.fromkeys(names + rows.extra_tables(data_dir, ids.all)):
        # Recordings of wav.scp are no utterances where there are segments.
        unwanted = set() if name == "spk2utt" or _holds_recordings(name, tables) else drop
        content[name] = _read(data_dir / name, name, unwanted, ids.droppable)
    if "segments" in content:
        content["segments"], clipped = _clip(content, allow_pipes)
        said += clipped
    content = {name: _sort_unique(table) for name, table in content.items()}
    _rebuild_spk2utt(data_dir, content)
    said = _write_changed(data_dir, content, tables) + said
    said += [printable(f"dropped {u}: {_why(ids, tables, u)}") for u in sorted(drop)]
    if ids.lacking and not drop:
        said.append("nothing dropped: no utterance is complete in all files")
    out = len(ids.all) - len(drop)
    return [*said, f"utterances: {len(ids.all)} in = {out} out + {len(drop)} dropped"]


def _load(data_dir: Path, name: str) -> rows.Table | None:
    path = data_dir / name
    try:
        return rows.load(path, name) if path.is_file() else None
    except OSError:
        return None  # unreadable: check reports it, nothing here can repair it


def _holds_recordings(name: str, tables: dict[str, rows.Table | None]) -> bool:
    segments = tables["segments"]
    return name == "wav.scp" and segments is not None


def _read(path: Path, name: str, unwanted: set[str], drop_empty: bool) -> Rows:
    table = [(r.key, r.value) for r in rows.iter_rows(path, name) if r.key]
    drop_empty = drop_empty and name in rows.NEEDS_VALUE
    return [(k, v) for k, v in table if k not in unwanted and (v or not drop_empty)]


def _sort_unique(table: Iterable[tuple[str, str]]) -> Rows:
    # The sort is stable, so the first of two values for one key stays the first.
    return sorted(dict.fromkeys(table), key=lambda row: rows.key_bytes(row[0]))


def _clip(content: dict[str, Rows], allow_pipes: bool) -> tuple[Rows, list[str]]:
    entries: dict[str, str] = {}
    for recording, entry in content.get("wav.scp", []):
        if not entries.get(recording):
            entries[recording] = entry
    durations: dict[str, float | None] = {}
    out, said = [], []
    for utt, value in content["segments"]:
        segment = rows.parse_segment(value)
        if segment is not None:
            recording, start_s, end_s = segment
            if recording not in durations:
                durations[recording] = _duration(entries.get(recording, ""), allow_pipes)
            duration_s = durations[recording]
            end = None if duration_s is None else clipped_end(start_s, end_s, duration_s)
            if end is not None:
                said.append(printable(f"clipped {utt}: end {end_s:g} s to {end} s"))
                value = f"{recording} {value.split()[1]} {end}"
        out.append((utt, value))
    return out, said


def _duration(entry: str, allow_pipes: bool) -> float | None:
    if not entry or (is_pipe(entry) and not allow_pipes):
        return None
    try:
        return audio_io.info(entry, allow_pipes).duration_s
    except EspnetExtError:
        return None  # check reports it


def _rebuild_spk2utt(data_dir: Path, content: dict[str, Rows]) -> None:
    utt2spk, path = content.get("utt2spk"), data_dir / "spk2utt"
    blocked = "spk2utt" not in content and (path.exists() or path.is_symlink())
    if not utt2spk or blocked:
        return
    one_each = len({utt for utt, _ in utt2spk}) == len(utt2spk)
    if one_each and all(spk and " " not in spk for _, spk in utt2spk):
        content["spk2utt"] = list(rows.expected_spk2utt(utt2spk).items())


def _write_changed(
    data_dir: Path, content: dict[str, Rows], tables: dict[str, rows.Table | None]
) -> list[str]:
    changed = {}
    for name, table in content.items():
        data = b"".join(rows.key_bytes(f"{k} {v}".rstrip(" ") + "\n") for k, v in table)
        path = data_dir / name
        if not path.exists() or path.read_bytes() != data:
            changed[name] = data
    if not changed:
        return []
    number = 1
    while (data_dir / f".backup-{number}").exists():
        number += 1
    backup = data_dir / f".backup-{number}"
    said = []
    with atomic_dir(backup) as tmp:
        for name in changed:
            if (data_dir / name).exists():
                shutil.copy2(data_dir / name, tmp / name)
    for name, data in changed.items():
        with atomic_path(data_dir / name) as tmp:
            tmp.write_bytes(data)
        said.append(f"{name}: {_what(tables.get(name))}")
    return [*said, f"originals kept in {backup}"]


def _what(table: rows.Table | None) -> str:
    if table is None:
        return "rewritten"
    did = [f"{count} x {kind}" for kind, (_, count) in table.odd.items() if kind != "utf8"]
    if table.unsorted:
        did.append("sorted")
    if same := sum(same for _, _, same in table.twice):
        did.append(f"{same} identical duplicates removed")
    return ", ".join(did) or "rewritten"


def _why(ids: rows.Ids, tables: dict[str, rows.Table | None], utt: str) -> str:
    why = []
    for name in ids.lacking[utt]:
        table = tables[name]
        empty = name == "text" and table is not None and utt in table.lines
        why.append("empty text" if empty else _REASON.get(name, f"nothing in {name}"))
    return ", ".join(why)
