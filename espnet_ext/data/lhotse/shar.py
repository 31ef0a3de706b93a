# SPDX-License-Identifier: Apache-2.0
"""lhotse's Shar: ``cuts.000000.jsonl.gz`` beside ``recording.000000.tar``, shard by shard.

The tar has two members a cut, in its order: ``ID.flac`` (or .wav, ...) and ``ID.json``; they are
``ID.nodata`` and ``ID.nometa`` where a cut has no audio. Only the headers of members are read here;
the audio of a cut becomes ``SHARD.tar:OFFSET:BYTES``, see :mod:`espnet_ext.data.tar_member`.
"""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from espnet_ext.data.lhotse.manifest import ENDINGS, read_lines
from espnet_ext.data.tar_member import Member
from espnet_ext.errors import DataError

_AGAIN = "copy the shard again, or make it again in lhotse"


class Data(NamedTuple):
    """The audio of a cut in a shard: its id and place; None: the shard has none for it."""

    id: str
    member: Member | None


def read_shards(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(file:line, cut)`` of all shards; recordings name their place in the tar.

    Raises:
        DataError: There are no shards; one is missing, cut off, or its files do not fit together.
    """
    shards = sorted(p for p in folder.glob("cuts*") if p.name.endswith(ENDINGS))
    if not shards:
        raise DataError("the folder has no Shar shards (cuts.000000.jsonl.gz, ...)", folder)
    for cuts in shards:
        yield from _read_shard(cuts, _recordings_of(cuts))


def _recordings_of(cuts: Path) -> Path:
    stem = next(cuts.name.removesuffix(x) for x in ENDINGS[::-1] if cuts.name.endswith(x))
    tar = cuts.with_name(f"recording{stem.removeprefix('cuts')}.tar")
    if tar.is_file():
        return tar
    if (packed := next(iter(sorted(cuts.parent.glob(f"{tar.name}.*"))), None)) is not None:
        how = "unpack it; its audio is compressed anyway"
        raise DataError("a compressed shard cannot be read at any place", packed, how)
    what = f"the shard of {cuts.name} has no audio: {tar.name} is missing"
    raise DataError(what, cuts.parent, "export the field 'recording' in lhotse, or copy it")


def _read_shard(cuts: Path, tar: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    members, last = _members(tar), None
    for where, cut in read_lines(cuts):
        name = cut.get("id")
        data = next(members, None)
        if data is None:
            what = f"the shard ends before the audio of cut '{name}'"
            raise DataError(what, tar, f"{_AGAIN}; the cut is {where}")
        if data.id != name:
            what = f"the audio of '{data.id}' is where that of cut '{name}' should be"
            raise DataError(what, tar, f"the two files are not of one export: see {where}")
        yield where, _placed(cut, data, where)
        last = name
    if (data := next(members, None)) is not None:
        what = f"the cuts end after '{last}', and the shard goes on with '{data.id}'"
        raise DataError(what, cuts, _AGAIN)


def _placed(cut: dict[str, Any], data: Data, where: str) -> dict[str, Any]:
    """Return a cut whose recording is the member: just the cut's own audio."""
    if data.member is None:
        return {**cut, "recording": None}
    try:
        channels = cut.get("channel", 0)
        channels = channels if isinstance(channels, list) else [channels]
        source = {"type": "file", "channels": channels, "source": str(data.member)}
        recording = {"id": cut["id"], "sources": [source], "duration": cut["duration"]}
    except KeyError as e:
        raise DataError(f"the cut '{data.id}' lacks the field {e}", where, _AGAIN) from None
    return {**cut, "start": 0.0, "recording": recording}


def _members(tar: Path) -> Iterator[Data]:
    """Yield the audio of each cut in a shard."""
    path, size, name = os.path.abspath(tar), tar.stat().st_size, ""
    try:
        with tarfile.open(tar, "r:") as f:
            while (info := f.next()) is not None:
                f.members.clear()  # it would remember all
                name, _, ending = info.name.rpartition(".")
                if info.offset_data + info.size > size:
                    what = f"the shard is cut off within '{info.name}'"
                    raise DataError(what, tar, _AGAIN)
                if ending in ("json", "nometa"):
                    continue
                member = Member(path, info.offset_data, info.size)
                yield Data(name, None if ending == "nodata" else member)
    except (tarfile.TarError, OSError, EOFError) as e:
        after = f" after '{name}'" if name else ""
        raise DataError(f"the shard is damaged{after} ({e})", tar, _AGAIN) from None
