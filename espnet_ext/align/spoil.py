# SPDX-License-Identifier: Apache-2.0
"""Transcripts made wrong, a word each, to learn from how they are told from right ones."""

import json
import shutil
from pathlib import Path

import numpy as np

from espnet_ext.align.corpus import Corpus
from espnet_ext.files import write_text
from espnet_ext.lang.pronounce import Pronunciations

CHOSEN = 400  # utterances


def spoil(corpus: Corpus, work: Path, seed: int, *, leave_out: bool = False) -> dict[str, int]:
    """Prepare a work folder in which one word of each chosen utterance is wrong.

    Features are those of ``corpus``. Shards stay what they are, so that what belongs to their
    speakers does as well.

    Args:
        corpus: The data.
        work: Folder to make.
        seed: Of utterances, words and their replacements.
        leave_out: Leave the word out, instead of putting another one in its place.

    Returns:
        The place of the word, by utterance.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("feats", "fbank"):
        if (corpus.work / name).is_dir():
            (work / name).symlink_to((corpus.work / name).resolve(), target_is_directory=True)
    shutil.copy(corpus.work / "pronunciations.json", work)
    rng, pron, places = np.random.default_rng(seed), corpus.pronunciations, {}
    words = sorted(w for w, found in pron.words.items() if found and w not in pron.oov)
    share = min(1.0, CHOSEN / max(1, corpus.utterances))
    for i in range(corpus.shards):
        shard = corpus.shard(i)
        row: dict[str, list] = {"utts": [], "words": []}
        for utt, said in zip(shard["utts"], shard["words"], strict=True):
            at = int(rng.integers(len(said)))
            other = [] if leave_out else _other(said[at], words, pron, rng)
            enough = len(said) > 1 if leave_out else other
            if rng.random() < share and enough:
                row["utts"].append(utt)
                row["words"].append([*said[:at], *other, *said[at + 1 :]])
                places[utt] = at
        write_text(work / "shards" / f"{i}.json", json.dumps(row, ensure_ascii=False))
    return places


def _other(
    word: str, words: list[str], pron: Pronunciations, rng: np.random.Generator
) -> list[str]:
    """Return a word of another pronunciation; none if none is found."""
    own = {names for names, _ in pron.variants(word)}
    for _ in range(20 if words else 0):
        other = words[int(rng.integers(len(words)))]
        if own.isdisjoint(names for names, _ in pron.variants(other)):
            return [other]
    return []
