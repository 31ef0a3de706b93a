# SPDX-License-Identifier: Apache-2.0
"""From segmentations to an alignment directory, and to the labels that training reads."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from espnet_ext.align import segfile
from espnet_ext.align.corpus import Corpus
from espnet_ext.align.directory import AlignmentDir, AlignmentWriter, Header, Interval
from espnet_ext.align.phones import PhoneSet
from espnet_ext.align.segmentation import Segmentation
from espnet_ext.align.tree import Tree
from espnet_ext.data.tables import iter_table, write_table
from espnet_ext.errors import DataError

FRAME_S = 0.01
NO_LABEL = -1


def write_alignment(
    corpus: Corpus,
    segs: Path,
    tree: Tree,
    phones: PhoneSet,
    out: Path,
    *,
    source: str,
    trained_on: str,
    failures: Iterable[tuple[str, str, str]] = (),
    textgrid: bool = True,
) -> AlignmentDir:
    """Write the alignments of all shards, in byte order of the utterances."""
    found: dict[str, Segmentation] = {}
    words: dict[str, list[str]] = {}
    for i in range(corpus.shards):
        shard = corpus.shard(i)
        words |= dict(zip(shard["utts"], shard["words"], strict=True))
        found |= segfile.load(segs / f"{i}.npz")
    header = Header(
        unit="senone" if tree.context else "phone_state",
        num_classes=tree.num_pdfs,
        frame_shift_s=FRAME_S,
        first_frame_centre_s=FRAME_S / 2,
        silence_ids=tuple(tree.silence_pdfs),
        source=source,
        source_train_data=trained_on,
        phones=phones.names,
    )
    with AlignmentWriter(out, header, textgrid=textgrid) as writer:
        for utt in sorted(found, key=str.encode):
            seg = found[utt]
            writer.add(
                utt,
                seg.pdfs(tree.pdf),
                phone_intervals(seg, phones),
                word_intervals(seg, words[utt]),
                frame_phones=seg.frame_phones().astype(np.int32),
                frame_words=seg.frame_words().astype(np.int32),
                score=seg.loglik / seg.frames,
            )
        for utt, reason, detail in [*corpus.skipped, *failures]:
            writer.skip(utt, reason, detail)
    return AlignmentDir(out)


def phone_intervals(seg: Segmentation, phones: PhoneSet) -> list[Interval]:
    """Return the phones in time, silence as SIL."""
    b = seg.boundaries() * FRAME_S
    return [
        Interval(float(b[i]), float(b[i + 1]), phones.names[p]) for i, p in enumerate(seg.phones)
    ]


def word_intervals(seg: Segmentation, words: list[str]) -> list[Interval]:
    """Return the words in time."""
    b, out = seg.boundaries() * FRAME_S, []
    for w in range(len(words)):
        own = np.flatnonzero(seg.words == w)
        out.append(Interval(float(b[own[0]]), float(b[own[-1] + 1]), words[w]))
    return out


def write_targets(
    alignment: Path, data: Path, fs: int, copies: Callable[[str], tuple[str, float]]
) -> int:
    """Write the label streams of training: every utterance of ``data`` has an entry.

    ``targets``, ``target_phones`` and ``target_words`` hold classes, phone ids and word indices of
    each frame. An utterance without alignment has -1 in every frame; a speed copy has the labels
    of its original at the rescaled times. ``shuffled.scp`` gives each utterance the labels of
    another one (a control).

    Args:
        alignment: Alignment directory; the files are written into it.
        data: Kaldi-style folder with utt2num_samples.
        fs: Sampling rate of ``data`` in Hz.
        copies: Maps an utterance to ``(original, speed factor)``.

    Returns:
        Utterances without labels.
    """
    from omniio import kaldi

    source = AlignmentDir(alignment)
    aligned = set(source.utts)
    frames = target_frames(data, fs)
    missing = 0
    readers = {
        "targets": source.labels,
        "target_phones": source.frame_phones,
        "target_words": source.frame_words,
    }
    for name, read in readers.items():
        ark = alignment / f"{name}.ark"
        with kaldi.WriteHelper(f"ark,scp:{ark},{alignment / name}.scp.tmp") as write:
            for utt, t in frames.items():
                original, factor = copies(utt)
                if original in aligned:
                    values = rescale(read(original), factor, t)
                else:
                    values = np.full(t, NO_LABEL, np.int32)
                    missing += name == "targets"
                write[utt] = values.astype(np.int32)
        written = Path(f"{alignment / name}.scp.tmp")
        write_table(alignment / f"{name}.scp", list(iter_table(written)))
        written.unlink()
    _write_shuffled(alignment)
    return missing


def target_frames(data: Path, fs: int) -> dict[str, int]:
    """Return the number of label frames of each utterance (10 ms, rounded)."""
    hop = fs * FRAME_S
    return {
        utt: max(1, int((int(n) + hop / 2) // hop))
        for utt, n in iter_table(data / "utt2num_samples")
    }


def rescale(labels: np.ndarray, factor: float, frames: int) -> np.ndarray:
    """Labels of a speed copy: frame t of the copy sounded at ``factor`` times its time.

    Raises:
        DataError: The lengths do not fit the factor.
    """
    if abs(len(labels) / factor - frames) > 3:
        raise DataError(
            f"{len(labels)} labels at speed {factor:g} do not fit {frames} frames",
            "alignment", "align the same audio and segments that are trained on",
        )  # fmt: skip
    at = ((np.arange(frames) + 0.5) * factor).astype(np.int64)
    return labels[np.clip(at, 0, len(labels) - 1)]


def _write_shuffled(alignment: Path) -> None:
    """Point each utterance to the labels of the one half a list further on."""
    rows = list(iter_table(alignment / "targets.scp"))
    half = len(rows) // 2 or 1
    others = [rows[(i + half) % len(rows)][1] for i in range(len(rows))]
    write_table(
        alignment / "shuffled.scp", [(u, o) for (u, _), o in zip(rows, others, strict=True)]
    )
