# SPDX-License-Identifier: Apache-2.0
"""From segmentations to an alignment directory, and to the labels that training reads."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from espnet_ext.align.corpus import Corpus
from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.align.search import segfile
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.tree.tree import Tree
from espnet_ext.lang.phones import SILENCE_ID, PhoneSet

DIGITS = 4  # of a probability


@dataclass(frozen=True)
class Times:
    """Where the times in files come from.

    Args:
        name: Pass of the aligner.
        segs: Folder of its alignments, of the same phones as those of the frames.
        early_s: How much too early silence seems to end, see :func:`boundaries_s`.
        late_s: How much too late it seems to begin.
    """

    name: str
    segs: Path
    early_s: float = 0.0
    late_s: float = 0.0


def write_alignment(
    corpus: Corpus,
    segs: Path,
    tree: Tree,
    phones: PhoneSet,
    out: Path,
    *,
    source: str,
    trained_on: str,
    times: Times,
    failures: Iterable[tuple[str, str, str]] = (),
    textgrid: bool = True,
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
        times: What the times in files are.
        failures: Utterances without an alignment: name, reason, detail.
        textgrid: Write TextGrids as well.
        word_scores: Confidence in each word of an utterance, where it is known.
    """
    found, timed = (_all_of(corpus, folder) for folder in (segs, times.segs))
    shards = (corpus.shard(i) for i in range(corpus.shards))
    words = {u: w for s in shards for u, w in zip(s["utts"], s["words"], strict=True)}
    header = _header(corpus, tree, phones, source, trained_on, times.name)
    with AlignmentWriter(out, header, textgrid=textgrid) as writer:
        for utt in sorted(found, key=str.encode):
            labels, seg = found[utt].pdfs(tree.pdf), found[utt].whole(phones)
            exact = timed.get(utt, found[utt]).whole(phones)
            cuts = boundaries_s(exact, header.frame_shift_s, times.early_s, times.late_s)
            writer.add(
                utt,
                labels,
                phone_intervals(exact, cuts, phones.whole),
                word_intervals(exact, cuts, words[utt], (word_scores or {}).get(utt)),
                frame_phones=seg.frame_phones().astype(np.int32),
                frame_words=seg.frame_words().astype(np.int32),
                score=seg.loglik / seg.frames,
            )
        for utt, reason, detail in [*corpus.skipped, *failures]:
            writer.skip(utt, reason, detail)
    return AlignmentDir(out)


def _header(
    corpus: Corpus, tree: Tree, phones: PhoneSet, source: str, trained_on: str, times: str
) -> Header:
    shift_s = corpus.store.options.shift_ms / 1000
    return Header(
        unit="senone" if tree.context else "phone_state",
        num_classes=tree.num_pdfs,
        frame_shift_s=shift_s,
        first_frame_centre_s=shift_s / 2,
        silence_ids=tuple(tree.silence_pdfs),
        phones=phones.whole.names,
        long_phones=phones.long,
        source=source,
        source_train_data=trained_on,
        times=times,
    )


def _all_of(corpus: Corpus, segs: Path) -> dict[str, Segmentation]:
    parts = (segfile.load(segs / f"{i}.npz") for i in range(corpus.shards))
    return {utt: seg for part in parts for utt, seg in part.items()}


def boundaries_s(
    seg: Segmentation, shift_s: float, early_s: float = 0.0, late_s: float = 0.0
) -> np.ndarray:
    """Return ``(P + 1,)`` times of the boundaries in seconds.

    A frame beside silence is taken for speech as soon as its window touches speech, and before
    speech also when its deltas do, which jump there. So silence seems to end early and to begin
    late by as much as a frame sees of its neighbours' time. Its boundaries move inward by that, at
    most by a third of the phone; the ends of the audio stay.

    Args:
        seg: The alignment.
        shift_s: Time between frames.
        early_s: Silence ends so much later than its last frame.
        late_s: Silence begins so much earlier than its first frame.
    """
    b, silent = seg.boundaries() * shift_s, seg.phones == SILENCE_ID
    third = np.diff(b) / 3
    b[1:-1] += np.where(silent[:-1] & ~silent[1:], np.minimum(early_s, third[1:]), 0.0)
    b[1:-1] -= np.where(~silent[:-1] & silent[1:], np.minimum(late_s, third[:-1]), 0.0)
    return b


def phone_intervals(seg: Segmentation, cuts_s: np.ndarray, phones: PhoneSet) -> list[Interval]:
    """Return the phones in time, silence as SIL; ``cuts_s`` ``(P + 1,)`` are their boundaries."""
    names = (phones.names[p] for p in seg.phones)
    return [Interval(a, b, n) for (a, b), n in zip(pairwise(cuts_s.tolist()), names, strict=True)]


def word_intervals(
    seg: Segmentation, cuts_s: np.ndarray, words: list[str], scores: np.ndarray | None = None
) -> list[Interval]:
    """Return the words in time, with the confidence in them if it is known."""
    out = []
    for w, name in enumerate(words):
        own = np.flatnonzero(seg.words == w)
        score = None if scores is None else round(float(scores[w]), DIGITS)
        out.append(Interval(float(cuts_s[own[0]]), float(cuts_s[own[-1] + 1]), name, score))
    return out
