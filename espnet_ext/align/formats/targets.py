# SPDX-License-Identifier: Apache-2.0
"""The label streams of training, from any alignment directory.

Labels are looked up by time, so an alignment may have another grid of frames (Kaldi's first frame
is centred at 12.5 ms, ours at 5 ms; a chain model has a frame every 30 ms).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from omniio import kaldi

from espnet_ext.align.formats.directory import AlignmentDir, Header
from espnet_ext.data.tables import iter_table, write_table
from espnet_ext.errors import DataError
from espnet_ext.files import write_json, write_text

FRAME_S = 0.01
HEADER = "targets.json"
TOLERANCE_S = 0.035  # between the lengths of audio and alignment: window and rounding
NO_LABEL = -1
Copies = Callable[[str], tuple[str, float]]


def write_targets(source: AlignmentDir, out: Path, data: Path, fs: int, copies: Copies) -> int:
    """Write ``targets``, ``target_phones`` and ``target_words`` (ark and scp) into ``out``.

    They hold the class, phone id and word index of each frame of 10 ms, for every utterance of
    ``data`` in its order. One without a usable alignment has -1 in every frame and stands in
    ``unlabelled.tsv`` with the reason. A speed copy has the labels of its original at the rescaled
    times. ``targets.json`` is the header with the frames of 10 ms; ``header.json`` that of the
    alignment. ``shuffled.scp`` gives each utterance the labels of another one (a control).

    Args:
        source: The alignment.
        out: Folder, may be that of ``source``.
        data: Kaldi-style folder with utt2num_samples.
        fs: Its sampling rate in Hz.
        copies: Maps an utterance to ``(original, speed factor)``.

    Returns:
        Utterances without labels.

    Raises:
        DataError: A file of the alignment is missing, or nothing has labels.
    """
    frames = target_frames(data, fs)
    aligned, failed = set(source.utts), {}
    readers = {
        "targets": source.labels,
        "target_phones": source.frame_phones,
        "target_words": source.frame_words,
    }
    for name, read in readers.items():

        def streams(read: Callable = read) -> Iterator[tuple[str, np.ndarray]]:
            for utt, t in frames.items():
                original, factor = copies(utt)
                try:
                    if original not in aligned:
                        raise DataError("it is not in the alignment", utt)
                    yield utt, at_training_frames(read(original), source.header, factor, t)
                except DataError as e:
                    failed[utt] = e.what
                    yield utt, np.full(t, NO_LABEL, np.int32)

        _write_archive(out, name, streams())
    _refuse_none(failed, frames, source)
    write_text(out / "unlabelled.tsv", "".join(f"{u}\t{why}\n" for u, why in failed.items()))
    write_json(out / "header.json", source.header.to_json())
    own = replace(source.header, frame_shift_s=FRAME_S, first_frame_centre_s=FRAME_S / 2)
    write_json(out / HEADER, own.to_json())
    _write_shuffled(out, copies)
    return len(failed)


def _refuse_none(failed: dict[str, str], frames: dict[str, int], source: AlignmentDir) -> None:
    if len(failed) == len(frames):
        utt, why = next(iter(failed.items()))
        raise DataError(
            f"no utterance has labels; first: {utt}: {why}", source.path,
            "align the utterances that are trained on",
        )  # fmt: skip


def target_frames(data: Path, fs: int) -> dict[str, int]:
    """Return the number of label frames of each utterance (10 ms, rounded)."""
    hop = fs * FRAME_S
    return {
        utt: max(1, int((int(n) + hop / 2) // hop))
        for utt, n in iter_table(data / "utt2num_samples")
    }


def at_training_frames(
    labels: np.ndarray, header: Header, factor: float, frames: int
) -> np.ndarray:
    """Look labels up at the centres of the training frames.

    Args:
        labels: ``(T,)`` of the alignment.
        header: Its grid.
        factor: Speed: time t of the copy sounded at ``factor * t``.
        frames: Length of the result.

    Raises:
        DataError: The alignment is of audio of another length.
    """
    have_s, want_s = len(labels) * header.frame_shift_s, frames * FRAME_S * factor
    if abs(have_s - want_s) > TOLERANCE_S * max(1.0, factor) + header.frame_shift_s:
        raise DataError(
            f"the alignment has {have_s:.2f} s, the audio {want_s:.2f} s: another segmentation",
            "alignment", "align the same audio and segments that are trained on",
        )  # fmt: skip
    centres_s = (np.arange(frames) + 0.5) * FRAME_S * factor
    at = np.rint((centres_s - header.first_frame_centre_s) / header.frame_shift_s + 1e-9)
    return labels[np.clip(at.astype(np.int64), 0, len(labels) - 1)].astype(np.int32)


def _write_archive(out: Path, name: str, rows: Iterator[tuple[str, np.ndarray]]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    ark, listed = out / f"{name}.ark", out / f"{name}.scp.tmp"
    with kaldi.WriteHelper(f"ark,scp:{ark},{listed}") as archive:
        for utt, values in rows:
            archive[utt] = values
    write_table(out / f"{name}.scp", list(iter_table(listed)))
    listed.unlink()


def _write_shuffled(out: Path, copies: Copies) -> None:
    """Point each utterance to the labels of the one half a list further on.

    The copies of an utterance stand together there: half a list further is no copy of its own.
    """
    rows = list(iter_table(out / "targets.scp"))
    together = sorted(rows, key=lambda row: copies(row[0])[0])
    half = len(rows) // 2 or 1
    others = {u: together[(i + half) % len(rows)][1] for i, (u, _) in enumerate(together)}
    write_table(out / "shuffled.scp", [(utt, others[utt]) for utt, _ in rows])
