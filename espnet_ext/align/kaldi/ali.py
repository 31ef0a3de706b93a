# SPDX-License-Identifier: Apache-2.0
"""Alignments of a Kaldi experiment: ``ali.*.gz``, vectors of transition ids, and paths in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.align.kaldi.io import BINARY, MAX_SIZE, READ_ERRORS, open_stream
from espnet_ext.align.kaldi.model import TransitionModel
from espnet_ext.errors import DataError

FORMS = (".{}.gz", ".{}", ".{}.ark", ".{}.ark.gz", ".{}.txt", ".{}.scp")
WHOLE = ("ali.gz", "ali", "ali.ark", "ali.ark.gz", "ali.txt", "ali.scp")
MAX_KEY = 4096
_NAME = re.compile(r"ali\.(\d+)(?:\.gz|\.ark|\.ark\.gz|\.txt|\.scp)?")
_ENTRY = np.dtype([("size", "i1"), ("value", "<i4")])


class PathError(Exception):
    """A sequence of transition ids that cannot be used; ``reason`` is the kind of trouble."""

    def __init__(self, what: str, reason: str = "not a path of the model"):
        super().__init__(what)
        self.reason = reason


def find_archives(folder: Path | str) -> list[Path]:
    """Return the alignment files of an experiment in order of their jobs.

    Raises:
        DataError: There is none, or a job's file is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError("there is no such folder of Kaldi alignments", folder)
    found = {int(m[1]) for p in folder.iterdir() if (m := _NAME.fullmatch(p.name))}
    jobs = _num_jobs(folder) or max(found, default=0)
    files, missing = [], []
    for job in range(1, jobs + 1):
        names = [folder / f"ali{form.format(job)}" for form in FORMS]
        there = [p for p in names if p.is_file()]
        files += there[:1]
        missing += [] if there else [f"ali.{job}.gz"]
    whole = [folder / name for name in WHOLE if (folder / name).is_file()]
    if not found and whole:
        return whole[:1]
    if not found:
        hint = "these are lattices" if any(folder.glob("lat.*")) else "nothing named ali.*.gz"
        raise DataError(
            f"no alignment in the folder ({hint})", folder,
            "give the folder of steps/align_*.sh or steps/train_*.sh, with ali.1.gz, ali.2.gz, ...",
        )  # fmt: skip
    if missing:
        raise DataError(
            f"{len(missing)} of {jobs} jobs have no alignment: {', '.join(missing[:5])}", folder,
            "finish or repeat these jobs; num_jobs holds their number",
        )  # fmt: skip
    return files


def _num_jobs(folder: Path) -> int:
    path = folder / "num_jobs"
    if not path.is_file():
        return 0
    try:
        return int(path.read_text(encoding="ascii").split()[0])
    except (ValueError, IndexError):
        raise DataError("num_jobs holds no number", path) from None


def iter_alignments(path: Path | str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``(utterance, (T,) int32 transition ids)``, one in memory at a time.

    Args:
        path: Archive, binary or text, gzipped or not; or a ``.scp`` into plain archives.

    Raises:
        DataError: The file is missing, cut off or damaged; names the last good utterance.
    """
    path = Path(path)
    last, count = None, 0
    try:
        for utt, ids in _iter_scp(path) if path.suffix == ".scp" else _iter_archive(path):
            yield utt, ids
            last, count = utt, count + 1
    except (PathError, *READ_ERRORS) as e:
        after = f"after '{last}' ({count} good utterances)" if last else "before any utterance"
        reason = str(e) or "it ends too early"
        raise DataError(
            f"the alignment file is cut off or damaged {after}: {reason}", path,
            "copy it again, or repeat this job's alignment",
        ) from None  # fmt: skip


def _iter_archive(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with open_stream(path) as stream:
        while (key := _read_key(stream)) is not None:
            yield key, _read_ids(stream)


def _iter_scp(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    if not path.is_file():
        raise DataError(f"{path.name} is missing", path)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        utt, target = [*line.split(None, 1), "", ""][:2]
        ark, _, offset = target.strip().rpartition(":")
        if target.endswith("|") or not offset.isdigit():
            raise DataError(
                "the line is not 'utterance file.ark:offset'", f"{path}:{number}",
                "give the archive itself; commands are not run",
            )  # fmt: skip
        with open_stream(_near(ark, path)) as stream:
            stream.seek(int(offset))
            yield utt, _read_ids(stream)


def _near(name: str, scp: Path) -> Path:
    """Return the archive as named, or the one of that name beside the .scp (a moved folder)."""
    moved = scp.parent / Path(name).name
    return Path(name) if Path(name).is_file() or not moved.is_file() else moved


def _read_key(stream) -> str | None:
    key = bytearray()
    while byte := stream.read(1):
        if byte in b" \t" and key:
            break
        if byte == b"\n" and key:
            raise PathError("an utterance without a vector")
        if not byte.isspace():
            key += byte
        if len(key) > MAX_KEY or byte == b"\0":
            raise PathError("no utterance name where one must be")
    if not key:
        return None
    if not byte:
        raise PathError("the file ends in an utterance's name")
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        raise PathError("no utterance name where one must be") from None


def _read_ids(stream) -> np.ndarray:
    if stream.peek(2)[:2] != BINARY:
        return _read_text_ids(stream.readline())
    head = stream.read(7)
    size = int.from_bytes(head[3:], "little", signed=True)
    if len(head) != 7 or head[2] != 4 or not 0 <= size <= MAX_SIZE:
        raise PathError("no vector of integers where one must be")
    raw = stream.read(size * _ENTRY.itemsize)
    if len(raw) != size * _ENTRY.itemsize:
        raise PathError("the file ends in a vector")
    entries = np.frombuffer(raw, _ENTRY)
    if np.any(entries["size"] != 4):
        raise PathError("the vector does not hold 32-bit integers")
    return entries["value"].astype(np.int32)


def _read_text_ids(line: bytes) -> np.ndarray:
    if not line.endswith(b"\n"):
        raise PathError("the last line is not complete")
    try:
        return np.array(line.split(), np.int32)
    except (ValueError, OverflowError):
        raise PathError("the vector does not hold integers") from None


@dataclass(frozen=True)
class PhonePath:
    """Phones of an utterance; P phones.

    Args:
        phones: ``(P,)`` phone ids of Kaldi.
        bounds: ``(P + 1,)``; phone p is frames ``[bounds[p], bounds[p + 1])``.
        complete: The path begins and ends with whole phones.
    """

    phones: np.ndarray
    bounds: np.ndarray
    complete: bool


class PhoneSplitter:
    """Cuts transition ids into phones and checks that they are a path of the model.

    Self-loops may stand before or after the transition that leaves the state (Kaldi reorders them
    to stand after it, unless told otherwise); each utterance shows by itself which it is.
    """

    def __init__(self, model: TransitionModel):
        self.model = model
        self._starts, self._silent = model.starts_phone(), model.silent_target()

    def __call__(self, ids: np.ndarray) -> PhonePath:
        """Cut ``(T,)`` transition ids.

        Raises:
            PathError: An id is out of range, or the sequence is not a path of the model.
        """
        m, frames = self.model, len(ids)
        if not frames:
            raise PathError("the vector is empty", "no frames")
        bad = np.flatnonzero((ids < 1) | (ids > m.num_transition_ids))
        if len(bad):
            raise PathError(
                f"transition id {ids[bad[0]]} in frame {bad[0]}; "
                f"the model has 1..{m.num_transition_ids}"
            )
        loop, state = m.is_self_loop[ids], m.state[ids]
        reordered = self._reordered(loop, state)
        forward = np.flatnonzero(~loop)
        self._check_loops(loop, state, reordered)
        self._check_steps(ids, forward)
        leaving = np.flatnonzero(m.is_final[ids[forward]])
        ends = np.append(forward, frames)[leaving + 1] if reordered else forward[leaving] + 1
        complete = bool(len(ends) and ends[-1] == frames and self._starts[ids[0]])
        bounds = np.concatenate([[0], ends, [] if len(ends) and ends[-1] == frames else [frames]])
        bounds = bounds.astype(np.int64)
        return PhonePath(m.phone[ids[bounds[:-1]]], bounds, complete)

    @staticmethod
    def _reordered(loop: np.ndarray, state: np.ndarray) -> bool:
        """Tell whether self-loops stand last in their states."""
        change = np.flatnonzero((state[1:] != state[:-1]) & (loop[1:] | loop[:-1]))
        if len(change):
            return bool(loop[change[0]])
        return bool(not loop[0] and loop[-1])

    @staticmethod
    def _check_loops(loop: np.ndarray, state: np.ndarray, reordered: bool) -> None:
        same = state[1:] == state[:-1]
        pairs = loop[1:] if reordered else loop[:-1]
        bad = np.flatnonzero(pairs & ~same)
        if len(bad) or (reordered and loop[0]):
            at = bad[0] + reordered if len(bad) else 0
            raise PathError(f"a self-loop in frame {at} that belongs to no state visited there")

    def _check_steps(self, ids: np.ndarray, forward: np.ndarray) -> None:
        m = self.model
        here, after = ids[forward[:-1]], ids[forward[1:]]
        inside = (m.phone[here] == m.phone[after]) & (
            (m.hmm_state[after] == m.target[here]) | self._silent[here]
        )
        good = np.where(m.is_final[here], self._starts[after], inside)
        bad = np.flatnonzero(~good)
        if len(bad):
            raise PathError(
                f"transition id {here[bad[0]]} is followed by {after[bad[0]]} in frame "
                f"{forward[1:][bad[0]]}, which is no path of the model"
            )
