# SPDX-License-Identifier: Apache-2.0
"""Import the alignments of a Kaldi experiment; no Kaldi is needed.

Read are ``ali.*.gz`` (transition ids), the model's transition model (``final.mdl``), ``tree`` where
there is one, and names from ``phones.txt``. Classes are Kaldi's tied states (pdf ids).
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from espnet_ext.align.formats.directory import AlignmentWriter, Header
from espnet_ext.align.formats.import_common import (
    TOLERANCE_FRAMES,
    ImportSummary,
    check_out,
    durations_s,
    read_texts,
)
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.align.kaldi.ali import (
    PathError,
    PhonePath,
    PhoneSplitter,
    find_archives,
    iter_alignments,
)
from espnet_ext.align.kaldi.experiment import Grid, find_model
from espnet_ext.align.kaldi.lang import Lang, Span, read_lang
from espnet_ext.align.kaldi.model import KaldiModel, read_model
from espnet_ext.align.kaldi.tree import KaldiTree
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE_ID


def import_kaldi(
    ali_dir: Path | str,
    out: Path | str,
    *,
    lang: Path | str | None = None,
    text: Path | str | None = None,
    data: Path | str | None = None,
    model: Path | str | None = None,
    frame_shift_s: float | None = None,
    snip_edges: bool = True,
    frame_subsampling: int | None = None,
    textgrid: bool = False,
) -> ImportSummary:
    """Write an alignment directory from a Kaldi experiment.

    Args:
        ali_dir: Folder with ``ali.*.gz`` and ``final.mdl``.
        out: Alignment directory to write.
        lang: Kaldi's lang folder; default: ``phones.txt`` in ``ali_dir``.
        text: Transcripts (file, or folder with ``text``) that name the words.
        data: Kaldi-style folder to check lengths; its ``text`` is the default.
        model: Another model file.
        frame_shift_s: Default: file ``frame_shift`` in ``ali_dir``, or 0.01.
        snip_edges: As in the features' configuration; frame 0 is centred at 0.0125 s, or 0.005.
        frame_subsampling: Default: file ``frame_subsampling_factor`` in ``ali_dir``, or 1.
        textgrid: Write TextGrids too.

    Returns:
        What was written, skipped and odd; damaged archives are warnings.

    Raises:
        UsageError: ``out`` holds something else than an alignment, or what is read.
        DataError: Nothing can be imported; a job, the model or names of phones are missing.
    """
    folder = Path(ali_dir)
    check_out(out, folder, lang, text, data, model)
    archives = find_archives(folder)
    path = find_model(folder, model)
    kaldi = read_model(path)
    names = read_lang(lang, folder, kaldi.transitions.phones)
    grid = Grid.of(folder, frame_shift_s, frame_subsampling, snip_edges)
    text = text or (data if data is not None and (Path(data) / "text").is_file() else None)
    texts = None if text is None else read_texts(text)
    lengths = None if data is None else durations_s(data)
    summary = _summary(Path(out), folder, path, kaldi, len(archives))
    with AlignmentWriter(out, make_header(kaldi, names, grid, folder), textgrid=textgrid) as writer:
        job = _Job(writer, summary, kaldi, names, grid, texts, lengths)
        job.run_all(archives)
        job.finish(folder)
    return summary


def _summary(out: Path, folder: Path, path: Path, kaldi: KaldiModel, jobs: int) -> ImportSummary:
    summary = ImportSummary(out, "pdf", kaldi.num_pdfs)
    summary.facts["alignment files"] = jobs
    summary.facts["model"] = path
    if kaldi.gaussians is not None:
        summary.facts["Gaussians"] = int(kaldi.gaussians.sum())
    _check_tree(folder / "tree", kaldi, summary)
    return summary


def make_header(kaldi: KaldiModel, names: Lang, grid: Grid, folder: Path) -> Header:
    """Return the header; silence classes are pdfs of SIL that no word's phone uses."""
    tuples = kaldi.transitions.tuples
    speech = set(names.names) - names.silence - names.optional_silence
    used = set(tuples[np.isin(tuples[:, 0], list(speech))][:, 2:].ravel().tolist())
    silent = tuples[np.isin(tuples[:, 0], list(names.optional_silence))][:, 2:]
    return Header(
        unit="pdf",
        num_classes=kaldi.num_pdfs,
        frame_shift_s=grid.step_s,
        first_frame_centre_s=grid.first_centre_s,
        silence_ids=tuple(sorted(set(silent.ravel().tolist()) - used)),
        source=f"Kaldi alignment {folder.resolve().name}",
        phones=names.phone_names,
    )


def _check_tree(path: Path, kaldi: KaldiModel, summary: ImportSummary) -> None:
    """Warn if ``tree`` is not the one that the model was made from."""
    if not path.is_file():
        return
    m = kaldi.transitions
    try:
        tree = KaldiTree.read(path)
    except DataError as e:
        summary.warn("the tree cannot be read; it is not needed", str(e.what))
        return
    summary.facts["tree"] = f"{tree.num_pdfs} tied states, context of {tree.width} phones"
    known: dict[tuple[int, int], set[int]] = {}
    for phone, hmm_state, *pdfs in m.tuples.tolist():
        state = m.topology[phone][hmm_state]
        for pdf_class, pdf in zip((state.forward_class, state.self_loop_class), pdfs, strict=True):
            key = (phone, pdf_class)
            if key not in known:
                known[key] = tree.pdfs(*key)
            if pdf not in known[key]:
                summary.warn(
                    "the tree does not belong to the model",
                    f"it does not give phone {phone} the tied state {pdf}",
                )
                return


class _Job:
    """Writes utterances of one archive after the other."""

    def __init__(
        self, writer: AlignmentWriter, summary: ImportSummary, kaldi: KaldiModel, names: Lang,
        grid: Grid, texts: dict[str, str] | None, lengths: dict[str, float] | None,
    ):  # fmt: skip
        self.writer, self.summary, self.names, self.grid = writer, summary, names, grid
        self.texts, self.lengths = texts, lengths
        self.pdf, self.split = kaldi.transitions.pdf, PhoneSplitter(kaldi.transitions)
        ids = {name: i for i, name in enumerate(names.phone_names)}
        self.phone_id = {i: ids[name] for i, name in names.base.items()}
        self.seen: set[str] = set()
        self.first_reason = ""

    def run_all(self, archives: list[Path]) -> None:
        for archive in archives:
            self.run(archive)

    def run(self, archive: Path) -> None:
        for utt, ids in self._read(archive):
            if utt in self.seen:
                self.summary.warn("utterance twice, the first one stays", f"{utt} ({archive.name})")
                continue
            self.seen.add(utt)
            try:
                self._check_length(utt, len(ids))
                self._write(utt, ids, self.split(ids))
            except PathError as e:
                self.first_reason = self.first_reason or f"{utt}: {e}"
                self.summary.skip(self.writer, utt, e.reason, str(e))

    def _read(self, archive: Path) -> Iterator[tuple[str, np.ndarray]]:
        try:
            yield from iter_alignments(archive)
        except DataError as e:
            self.summary.warn("alignment file damaged", f"{archive}: {e.what}")

    def _check_length(self, utt: str, frames: int) -> None:
        if self.lengths is None:
            return
        if utt not in self.lengths:
            raise PathError("the folder lists other names", "not in the data folder")
        expected, factor = self.grid.frames(self.lengths[utt]), self.grid.factor
        if abs(frames * factor - expected) > TOLERANCE_FRAMES + factor - 1:
            raise PathError(
                f"{frames * factor} frames, {expected} in the data", "another segmentation"
            )

    def _write(self, utt: str, ids: np.ndarray, path: PhonePath) -> None:
        if not path.complete:
            self.summary.warn("path without whole phones at its ends", utt)
        words, spans = self._words(utt, path)
        starts = [self.grid.start_s(int(b)) for b in path.bounds]
        phones = [
            Interval(starts[i], starts[i + 1], self.names.base[int(p)])
            for i, p in enumerate(path.phones)
        ]
        lengths = np.diff(path.bounds)
        frame_phones = np.repeat([self.phone_id[int(p)] for p in path.phones], lengths)
        of_phone = np.full(len(path.phones), -1)
        for w, (first, last) in enumerate(spans):
            of_phone[first:last] = w
        self.writer.add(
            utt,
            self.pdf[ids].astype(np.int32),
            phones,
            [Interval(starts[a], starts[b], w) for w, (a, b) in zip(words, spans, strict=True)],
            frame_phones=frame_phones.astype(np.int32),
            frame_words=np.repeat(of_phone, lengths).astype(np.int32),
        )
        self.summary.utterances += 1
        self.summary.frames += len(ids)
        self.summary.silence_frames += int((frame_phones == SILENCE_ID).sum())

    def _words(self, utt: str, path: PhonePath) -> tuple[list[str], list[Span]]:
        words = None
        if self.texts is not None:
            if utt not in self.texts:
                self.summary.warn("no transcript, words left out", utt)
                return [], []
            words = self.texts[utt].split()
        elif not self.names.places:
            return [], []
        try:
            spans = self.names.find_words(path.phones, words)
        except ValueError as e:
            self.summary.warn("words do not fit, left out", f"{utt}: {e}")
            return [], []
        if words is None:
            base = [self.names.base[int(p)] for p in path.phones]
            words = ["+".join(base[a:b]) for a, b in spans]
        return words, spans

    def finish(self, folder: Path) -> None:
        """Account for utterances that have no alignment.

        Raises:
            DataError: Nothing was written.
        """
        if not self.summary.utterances:
            damaged = next(iter(self.summary.warnings.get("alignment file damaged", [])), "")
            raise DataError(
                f"no utterance can be imported: {self.first_reason or damaged or 'none is there'}",
                folder, "is this the model that made the alignments? see --model and --data",
            )  # fmt: skip
        for utt in self.texts if self.texts is not None else self.lengths or ():
            if utt not in self.seen:
                self.summary.skip(self.writer, utt, "no alignment", "not in any alignment file")
