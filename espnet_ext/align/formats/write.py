# SPDX-License-Identifier: Apache-2.0
"""From segmentations to an alignment directory, and to the labels that training reads."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from espnet_ext.align.corpus import Corpus
from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.align.search import segfile
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.tree.tree import Tree
from espnet_ext.lang.phones import PhoneSet

FRAME_S = 0.01
DIGITS = 4  # of a probability


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
    times: tuple[str, Path | None] = ("", None),
    word_scores: Mapping[str, np.ndarray] | None = None,
) -> AlignmentDir:
    """Write the alignments of all shards, in byte order of the utterances.

    Args:
        corpus: Their words, and what was skipped.
        segs: Folder of the alignments that the frames are of.
        tree: Their decision tree.
        phones: Their phones.
        out: Alignment directory to write.
        source: What made them.
        trained_on: What its model was trained on.
        failures: Utterances without an alignment: name, reason, detail.
        textgrid: Write TextGrids as well.
        times: Name of the pass that the times are of, and the folder of its alignments of the
            same phones; None if that is ``segs``.
        word_scores: Confidence in each word of an utterance, where it is known.
    """
    found, timed = (_all_of(corpus, folder) for folder in (segs, times[1] or segs))
    shards = (corpus.shard(i) for i in range(corpus.shards))
    words = {u: w for s in shards for u, w in zip(s["utts"], s["words"], strict=True)}
    header = _header(tree, phones, source=source, source_train_data=trained_on, times=times[0])
    with AlignmentWriter(out, header, textgrid=textgrid) as writer:
        for utt in sorted(found, key=str.encode):
            labels, seg = found[utt].pdfs(tree.pdf), found[utt].whole(phones)
            exact = timed.get(utt, found[utt]).whole(phones)
            writer.add(
                utt,
                labels,
                phone_intervals(exact, phones.whole),
                word_intervals(exact, words[utt], (word_scores or {}).get(utt)),
                frame_phones=seg.frame_phones().astype(np.int32),
                frame_words=seg.frame_words().astype(np.int32),
                score=seg.loglik / seg.frames,
            )
        for utt, reason, detail in [*corpus.skipped, *failures]:
            writer.skip(utt, reason, detail)
    return AlignmentDir(out)


def _header(tree: Tree, phones: PhoneSet, **about: str) -> Header:
    return Header(
        unit="senone" if tree.context else "phone_state",
        num_classes=tree.num_pdfs,
        frame_shift_s=FRAME_S,
        first_frame_centre_s=FRAME_S / 2,
        silence_ids=tuple(tree.silence_pdfs),
        phones=phones.whole.names,
        long_phones=phones.long,
        **about,
    )


def _all_of(corpus: Corpus, segs: Path) -> dict[str, Segmentation]:
    parts = (segfile.load(segs / f"{i}.npz") for i in range(corpus.shards))
    return {utt: seg for part in parts for utt, seg in part.items()}


def phone_intervals(seg: Segmentation, phones: PhoneSet) -> list[Interval]:
    """Return the phones in time, silence as SIL."""
    b = seg.boundaries() * FRAME_S
    return [
        Interval(float(b[i]), float(b[i + 1]), phones.names[p]) for i, p in enumerate(seg.phones)
    ]


def word_intervals(
    seg: Segmentation, words: list[str], scores: np.ndarray | None = None
) -> list[Interval]:
    """Return the words in time, with the confidence in them if it is known."""
    b, out = seg.boundaries() * FRAME_S, []
    for w in range(len(words)):
        own = np.flatnonzero(seg.words == w)
        score = None if scores is None else round(float(scores[w]), DIGITS)
        out.append(Interval(float(b[own[0]]), float(b[own[-1] + 1]), words[w], score))
    return out
