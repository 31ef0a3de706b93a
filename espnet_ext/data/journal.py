# SPDX-License-Identifier: Apache-2.0
"""What formatting has finished, one line each, so that an interrupted run is continued."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from espnet_ext.data.format_job import UNREADABLE
from espnet_ext.data.pipes import is_pipe
from espnet_ext.files import sha256_json, write_text

JOURNAL = ".journal.jsonl"


class Journal:
    """One line for each finished recording, so that an interrupted run is continued."""

    def __init__(self, path: Path):
        self.path, self.reused = path, 0
        self.done: dict[str, dict] = {}
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                entry = json.loads(line)
                self.done[entry["signature"]] = entry["result"]
            except (ValueError, KeyError, TypeError):
                continue  # the line that a kill tore

    def run(
        self, work: Callable[[dict], dict], items: list[dict], n_jobs_map: Callable
    ) -> Iterator[tuple[dict, dict]]:
        """Yield ``(item, result)``: first what is taken over, then what had to be made."""
        signatures = [_signature(item) for item in items]
        old = {i: r for i, s in enumerate(signatures) if (r := self.done.get(s)) and _whole(r)}
        self.reused = len(old)
        lines = [_line(signatures[i], result) for i, result in old.items()]
        write_text(self.path, "".join(lines))
        yield from ((items[i], result) for i, result in old.items())
        todo = [i for i in range(len(items)) if i not in old]
        with open(self.path, "a", encoding="utf-8") as f:
            results = n_jobs_map(work, [items[i] for i in todo])
            for i, result in zip(todo, results, strict=True):
                # A file that was not readable may have been repaired without a new time stamp.
                bad = any(d[1] == UNREADABLE for d in result["dropped"])
                if signatures[i] and not bad:
                    f.write(_line(signatures[i], result))
                    f.flush()
                yield items[i], result


def _line(signature: str, result: dict) -> str:
    return json.dumps({"signature": signature, "result": result}, ensure_ascii=False) + "\n"


def _signature(item: dict) -> str:
    """Return a hash of what the result depends on; empty where that cannot be known."""
    seen: list = [item]
    for source in item.get("sources") or [item["source"]]:
        if not source or is_pipe(source):
            return ""
        try:
            status = os.stat(source)
        except (OSError, ValueError):
            return ""
        seen += [os.path.abspath(source), status.st_size, status.st_mtime_ns]
    return sha256_json(seen)


def _whole(result: dict) -> bool:
    try:
        return all(s is None or os.stat(p).st_size == s for _, _, _, p, _, s in result["rows"])
    except OSError:
        return False
