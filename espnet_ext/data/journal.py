# SPDX-License-Identifier: Apache-2.0
"""What formatting has finished, one line each, so that an interrupted run is continued.

Memory holds where each line is (some 150 bytes), never the lines.
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from espnet_ext.data.format_job import UNREADABLE
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.tar_member import file_of
from espnet_ext.files import atomic_path, sha256_json

JOURNAL = ".journal.jsonl"


class Journal:
    """One line for each finished recording; ``reused`` counts those taken over.

    Args:
        path: Of the file, which may be missing, or torn at its end by a kill.
    """

    def __init__(self, path: Path):
        self.path, self.reused = path, 0
        self._places: dict[bytes, int] = {}  # signature -> offset of its line
        if not path.exists():
            return
        with open(path, "rb") as f:
            place = 0
            for line in f:
                if entry := _entry(line):
                    self._places[bytes.fromhex(entry["signature"])] = place
                place += len(line)

    def run(
        self, work: Callable[[dict], dict], items: Sequence[dict], n_jobs_map: Callable
    ) -> Iterator[tuple[dict, dict]]:
        """Yield ``(item, result)``: first what is taken over, then what had to be made."""
        todo: dict[int, str] = {}  # place in items -> signature
        self.path.touch()
        with open(self.path, "rb") as old, atomic_path(self.path) as tmp, open(tmp, "wb") as new:
            for i, item in enumerate(items):
                signature = _signature(item)
                line = self._line(old, signature)
                if line and _whole(result := _entry(line)["result"]):
                    new.write(line)
                    self.reused += 1
                    yield item, result
                else:
                    todo[i] = signature
        with open(self.path, "a", encoding="utf-8") as f:
            results = n_jobs_map(work, (items[i] for i in todo))
            for (i, signature), result in zip(todo.items(), results, strict=True):
                # A file that was not readable may have been repaired without a new time stamp.
                bad = any(d[1] == UNREADABLE for d in result["dropped"])
                if signature and not bad:
                    entry = {"signature": signature, "result": result}
                    f.write(json.dumps(entry, ensure_ascii=False) + "\n")
                    f.flush()
                yield items[i], result

    def _line(self, old, signature: str) -> bytes:
        place = self._places.get(bytes.fromhex(signature))
        if place is None or not signature:
            return b""
        old.seek(place)
        return old.readline()


def _entry(line: bytes) -> dict | None:
    try:
        entry = json.loads(line)
        bytes.fromhex(entry["signature"])
        return entry if "result" in entry else None
    except (ValueError, KeyError, TypeError):
        return None  # the line that a kill tore


def _signature(item: dict) -> str:
    """Return a hash of what the result depends on; empty where that cannot be known."""
    seen: list = [item]
    for source in item.get("sources") or [item["source"]]:
        if not source or is_pipe(source):
            return ""
        try:
            status = os.stat(file_of(source))
        except (OSError, ValueError):
            return ""
        # A copy may keep size and mtime of what it replaces (cp -p, rsync -t), not ctime.
        times = [status.st_mtime_ns, status.st_ctime_ns]
        seen += [os.path.abspath(source), status.st_size, *times]
    return sha256_json(seen)


def _whole(result: dict) -> bool:
    try:
        return all(s is None or os.stat(p).st_size == s for _, _, _, p, _, s in result["rows"])
    except OSError:
        return False
