# SPDX-License-Identifier: Apache-2.0
"""What a process keeps from one EM iteration to the next: features, graphs and tied states.

Each iteration reads the same features, and between two searches the alignment does not change: on
small corpora most of the time went into making these again. Nothing is kept of a large corpus, nor
outside a training: memory does not grow with the data.
"""

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from espnet_ext.files import file_version

KEEP_FRAMES = 1_000_000  # 2.8 hours: some 150 MB in each process

_held: dict[Hashable, tuple[Hashable, Any]] = {}
_owner: tuple[str, str] = ("", "")


def kept(job: dict[str, Any], name: Hashable, version: Hashable, make: Callable[[], Any]) -> Any:
    """Return ``make()``, or what it returned here before under this name and version.

    Args:
        job: Its ``keep`` is the key of a corpus of which to keep things; nothing is, without it.
        name: Of the thing; an older version of it is given up.
        version: All that the thing depends on beside the corpus.
        make: Makes it.
    """
    global _owner
    if not job.get("keep"):
        return make()
    owner = (job["work"], job["keep"])
    if owner != _owner:
        forget()
        _owner = owner
    found = _held.get(name)
    if found is None or found[0] != version:
        found = _held[name] = (version, make())
    return found[1]


def forget() -> None:
    """Give up everything."""
    _held.clear()


def stamp(path: str | Path) -> tuple:
    """Return what changes when a file is written again; empty for an empty path."""
    return (str(path), *file_version(path)) if path else ()
