# SPDX-License-Identifier: Apache-2.0
"""The alignment directory: one alignment of a data set on disk, whatever made it.

    header.json                       what the classes are and how frames lie in time
    labels.{ark,scp}                  int32 (T,) class of each frame
    frame_phones.{ark,scp}            int32 (T,) phone ids
    frame_words.{ark,scp}             int32 (T,) index of the word, -1 outside words
    phones.ctm words.ctm              times in seconds; words without silence
    textgrid/UTT.TextGrid             the same for Praat (may be left out)
    words.tsv                         each word: times, confidence if known, phones it was spoken as
    scores.tsv                        utterance, frames, log-likelihood per frame
    skipped.tsv                       utterance, reason, detail

Archives are binary Kaldi tables, so ``labels.scp,align,kaldi_ark`` is an input of ESPnet.
"""

import os
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import IO, NamedTuple, Self

import numpy as np
from omniio import kaldi

from espnet_ext.align.formats.ctm import Ctm, ctm_lines, frames_of
from espnet_ext.align.formats.header import Header
from espnet_ext.align.formats.textgrid import SUFFIX, write_textgrid
from espnet_ext.align.formats.tiers import Interval, file_name, write_name
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_dir, write_json
from espnet_ext.lang.phones import SILENCE, SILENCE_ID

ARCHIVES = ("labels", "frame_phones", "frame_words")
TABLES = {
    "scores": "utt\tframes\tloglik_per_frame\n",
    "skipped": "utt\treason\tdetail\n",
    "words": "utt\tstart_s\tend_s\tword\tconfidence\tphones\n",
}


class AlignmentWriter:
    """Writes an alignment directory; it appears under its name when all went well.

    Args:
        out: The folder, replaced if it is there. ``labels.scp`` names the archive by this path as
            it is given: relative to the folder that training will run in.
        header: See :class:`Header`.
        textgrid: Write a TextGrid per utterance too.
    """

    def __init__(self, out: Path | str, header: Header, *, textgrid: bool = True):
        self.out, self.header, self.textgrid = Path(out), header, textgrid
        self._stack = ExitStack()
        self._seen: set[str] = set()
        self._files: dict[str, IO] = {}
        self._tmp = Path()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._tmp = stack.enter_context(atomic_dir(self.out))
            for name in ARCHIVES:
                self._open(stack, f"{name}.ark", "wb")
                self._open(stack, f"{name}.scp", "w")
            for name in ("phones.ctm", "words.ctm"):
                self._open(stack, name, "w")
            for name, head in TABLES.items():
                self._open(stack, f"{name}.tsv", "w").write(head)
            if self.textgrid:
                (self._tmp / "textgrid").mkdir()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: object, trace: object) -> None:
        if kind is None:
            write_json(self._tmp / "header.json", self.header.to_json())
            self._stack.__exit__(None, None, None)
            return
        for f in self._files.values():
            f.close()
        shutil.rmtree(self._tmp, ignore_errors=True)

    def add(
        self, utt: str, labels: np.ndarray, phones: Sequence[Interval], words: Sequence[Interval],
        *, frame_phones: np.ndarray | None = None, frame_words: np.ndarray | None = None,
        score: float = float("nan"),
    ) -> None:  # fmt: skip
        """Add an utterance.

        Args:
            utt: Its name.
            labels: ``(T,)`` classes.
            phones: Phones with silence, in order.
            words: Words without silence, in order.
            frame_phones: ``(T,)`` phone ids; default: taken from ``phones`` at frame centres.
            frame_words: ``(T,)`` word indices; default: taken from ``words``, counted from 0.
            score: Log-likelihood per frame.

        Raises:
            DataError: The name is there already, or the values do not fit together.
        """
        self._check_name(utt)
        centres = self.header.centres_s(len(labels))
        if frame_phones is None:
            frame_phones = frames_of(phones, self._ids(utt, phones), centres, SILENCE_ID)
        if frame_words is None:
            frame_words = frames_of(words, range(len(words)), centres, -1)
        rows = dict(zip(ARCHIVES, (labels, frame_phones, frame_words), strict=True))
        rows = {name: np.asarray(a) for name, a in rows.items()}
        self._check(utt, rows)
        text = {"phones.ctm": ctm_lines(utt, phones), "words.ctm": ctm_lines(utt, words)}
        if self.textgrid:
            end = max([len(labels) * self.header.frame_shift_s, *(p.end_s for p in phones[-1:])])
            write_textgrid(self._tmp / "textgrid" / file_name(utt, SUFFIX), words, phones, end)
            write_name(self._tmp / "textgrid", utt, SUFFIX)
        for name, array in rows.items():
            self._archive(name, utt, array)
        for name, lines in text.items():
            self._files[name].write(lines)
        self._files["scores.tsv"].write(f"{utt}\t{len(labels)}\t{float(score):.6g}\n")
        self._files["words.tsv"].write("".join(_word_rows(utt, words, phones)))
        self._seen.add(utt)  # only now: after an error the caller may skip the utterance

    def skip(self, utt: str, reason: str, detail: str = "") -> None:
        """Record an utterance that has no alignment, and why."""
        self._check_name(utt)
        row = [utt, *(" ".join(str(x).split()) for x in (reason, detail))]
        self._files["skipped.tsv"].write("\t".join(row) + "\n")
        self._seen.add(utt)

    def _open(self, stack: ExitStack, name: str, mode: str) -> IO:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        f = open(self._tmp / name, mode, **text)  # noqa: SIM115
        self._files[name] = stack.enter_context(f)
        return f

    def _check_name(self, utt: str) -> None:
        if len(utt.split()) != 1 or utt != utt.strip():
            raise DataError(f"'{utt}' is no name of an utterance", self.out)
        if utt in self._seen:
            raise DataError(f"'{utt}' is there twice", self.out)

    def _ids(self, utt: str, phones: Sequence[Interval]) -> list[int]:
        ids = {name: i for i, name in enumerate(self.header.phones)}
        try:
            return [ids[p.name] for p in phones]
        except KeyError as e:
            raise DataError(f"the header does not list the phone {e}", f"utterance {utt}") from None

    def _check(self, utt: str, rows: Mapping[str, np.ndarray]) -> None:
        labels, where = rows["labels"], f"utterance {utt}"
        shapes = {a.shape for a in rows.values()}
        if len(shapes) != 1 or labels.ndim != 1 or not labels.size:
            sizes = ", ".join(f"{n} {a.shape}" for n, a in rows.items())
            raise DataError(f"frames must be one vector of one length: {sizes}", where)
        if any(a.dtype.kind not in "iu" for a in rows.values()):
            raise DataError("classes and phones of frames must be whole numbers", where)
        if labels.min() < 0 or labels.max() >= self.header.num_classes:
            raise DataError(
                f"classes {labels.min()}..{labels.max()} are not in [0, {self.header.num_classes})",
                where,
            )

    def _archive(self, name: str, utt: str, array: np.ndarray) -> None:
        ark = self._files[f"{name}.ark"]
        offset = ark.tell() + len(utt.encode()) + 1
        kaldi.save_ark(ark, {utt: array})
        # The archive's final place: the temporary one is gone when somebody reads this.
        path = os.path.join(self.out, f"{name}.ark")
        self._files[f"{name}.scp"].write(f"{utt} {path}:{offset}\n")


def _word_rows(utt: str, words: Sequence[Interval], phones: Sequence[Interval]) -> Iterator[str]:
    """Yield the lines of words.tsv; a phone belongs to the word that its middle lies in."""
    spoken = [p for p in phones if p.name != SILENCE]
    middles = [(p.start_s + p.end_s) / 2 for p in spoken]
    for w in words:
        own = spoken[bisect_left(middles, w.start_s) : bisect_left(middles, w.end_s)]
        score = "" if w.score is None else f"{w.score:.4f}"
        names = " ".join(p.name for p in own)
        yield f"{utt}\t{w.start_s:.3f}\t{w.end_s:.3f}\t{w.name}\t{score}\t{names}\n"


class Score(NamedTuple):
    """Frames of an utterance and its log-likelihood per frame (NaN if not known)."""

    frames: int
    loglik_per_frame: float


class AlignmentDir:
    """Reads an alignment directory; arrays and intervals are read when asked for.

    Raises:
        DataError: There is no alignment at ``path``; on reading: a file is missing or cut off.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.header = Header.read(self.path)
        self._scps: dict[str, dict[str, tuple[str, int]]] = {}

    @property
    def utts(self) -> list[str]:
        """Names of the aligned utterances, in the order they were written."""
        return list(self._scp("labels"))

    def labels(self, utt: str) -> np.ndarray:
        """Return ``(T,)`` int32 classes."""
        return self._read("labels", utt)

    def frame_phones(self, utt: str) -> np.ndarray:
        """Return ``(T,)`` int32 phone ids."""
        return self._read("frame_phones", utt)

    def frame_words(self, utt: str) -> np.ndarray:
        """Return ``(T,)`` int32 indices of words, -1 outside words."""
        return self._read("frame_words", utt)

    @cached_property
    def phones(self) -> Mapping[str, list[Interval]]:
        """Phones with silence, by utterance."""
        return Ctm(self.path / "phones.ctm", self._scp("labels"))

    @cached_property
    def words(self) -> Mapping[str, list[Interval]]:
        """Words without silence, by utterance."""
        return Ctm(self.path / "words.ctm", self._scp("labels"))

    @cached_property
    def scores(self) -> dict[str, Score]:
        """Frames and log-likelihood per frame, by utterance."""
        try:
            return {u: Score(int(n), float(x)) for u, n, x in self._table("scores")}
        except ValueError as e:
            raise DataError(f"a value is not a number ({e})", self.path / "scores.tsv") from e

    @cached_property
    def skipped(self) -> dict[str, tuple[str, str]]:
        """Reason and detail of utterances that have no alignment."""
        return {u: (reason, detail) for u, reason, detail in self._table("skipped")}

    def _table(self, name: str) -> list[list[str]]:
        path = self.path / f"{name}.tsv"
        if not path.is_file():
            raise DataError(f"{path.name} is missing", path)
        lines = path.read_text(encoding="utf-8").split("\n")[1:-1]
        rows = [line.split("\t") for line in lines]
        for number, row in enumerate(rows, 2):
            if len(row) != 3:
                raise DataError(f"the line has {len(row)} columns, not 3", f"{path}:{number}")
        return rows

    def _scp(self, name: str) -> dict[str, tuple[str, int]]:
        if name in self._scps:
            return self._scps[name]
        path, rows = self.path / f"{name}.scp", {}
        if not path.is_file():
            raise DataError(f"{path.name} is missing", path)
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
            utt, _, target = line.partition(" ")
            ark, offset = kaldi.parse_extended_filename(target)
            if offset is None or utt in rows:
                raise DataError("write 'utterance file.ark:offset', each once", f"{path}:{number}")
            rows[utt] = (ark, offset)
        self._scps[name] = rows
        return rows

    def _read(self, name: str, utt: str) -> np.ndarray:
        rows = self._scp(name)
        if utt not in rows:
            raise DataError(f"'{utt}' has no alignment", self.path / f"{name}.scp")
        ark, offset = rows[utt]
        beside = self.path / os.path.basename(ark)
        # The folder may have been moved or copied: its own archive is the one that belongs to it.
        ark, key = str(beside) if beside.is_file() else ark, utt.encode() + b" "
        try:
            # Opened again each time: forked workers that shared a file would share its position.
            with open(ark, "rb") as f:
                f.seek(max(0, offset - len(key)))
                if f.read(len(key)) != key:
                    raise DataError(
                        f"the archive does not hold '{utt}' at {offset}", ark,
                        "the .scp and the .ark are not of one run: align again",
                    )  # fmt: skip
                array = kaldi.read_object(f)
        except (OSError, kaldi.ReadError, ValueError) as e:
            raise DataError(
                f"the frames of '{utt}' cannot be read ({e})", ark, "align again"
            ) from e
        if not isinstance(array, np.ndarray) or array.dtype != np.int32 or array.ndim != 1:
            raise DataError(f"'{utt}' is no vector of whole numbers", ark, "align again")
        return array
