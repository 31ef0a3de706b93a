# SPDX-License-Identifier: Apache-2.0
"""LibriSpeech for phoneme recognition (SUPERB): sets pr_train, pr_dev and pr_test.

LIBRISPEECH=/path names the corpus (train-clean-100, dev-clean and test-clean), LIBRISPEECH_LEXICON
one or more files with the pronunciation of words, separated by ':', e.g. librispeech-lexicon.txt of
OpenSLR 11. The first pronunciation of a word counts, without stress.
"""

import os
from collections import Counter
from pathlib import Path

import librispeech
from superb_common import SuperbSet

from espnet_ext.errors import DataError
from espnet_ext.lang.lexicon import Lexicon

PARTS = {"pr_train": "train-clean-100", "pr_dev": "dev-clean", "pr_test": "test-clean"}
VARIABLE = "LIBRISPEECH_LEXICON"
VARIABLES = ("LIBRISPEECH", VARIABLE)


def read() -> list[SuperbSet]:
    """Return the three sets; an utterance with a word that no lexicon has is skipped.

    Raises:
        DataError: The corpus or a lexicon is not there, or a set has no utterance left.
    """
    lexicons = read_lexicons()
    folders = librispeech.find_corpus(PARTS.values(), Path("downloads"))
    made, missing = [], Counter()
    for name, part in PARTS.items():
        made.append(SuperbSet(name))
        for utt, (audio, text, speaker) in librispeech.read_labelled(folders[part]).items():
            words = text.split()
            unknown = [w for w in words if not any(x.lookup(w) for x in lexicons)]
            missing.update(unknown)
            if unknown:
                made[-1].skip(audio, "a word is not in the lexicon", " ".join(unknown))
                continue
            phones = [p for w in words for p in pronounced(w, lexicons)]
            made[-1].add(utt, Path(audio), " ".join(phones), speaker, audio)
        if not made[-1].rows:
            what = f"no utterance of {part} has all its words in the lexicon"
            raise DataError(what, os.environ[VARIABLE], "give the lexicon of LibriSpeech")
    if missing:
        shown = ", ".join(f"{w} ({n})" for w, n in missing.most_common(5))
        print(f"note: {len(missing)} words have no pronunciation: {shown}")
    return made


def read_lexicons() -> list[Lexicon]:
    """Read the lexicons that the variable names.

    Raises:
        DataError: It is not set, or a lexicon is not usable.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        what = f"the environment variable {VARIABLE} is not set"
        how = "give librispeech-lexicon.txt (https://www.openslr.org/11)"
        raise DataError(what, VARIABLE, how)
    return [Lexicon.read(path) for path in value.split(":") if path]


def pronounced(word: str, lexicons: list[Lexicon]) -> tuple[str, ...]:
    """Return the first pronunciation of a word in the first lexicon that has it."""
    return next(found[0][0] for x in lexicons if (found := x.lookup(word)))
