# SPDX-License-Identifier: Apache-2.0
"""How texts are written: punctuation at words, and characters of a test that training lacks.

Text is trained and scored as it is. So a mark at a word makes another word of it, for the lexicon
and for the score, and a test in lower case means nothing to a model of capitals. Neither is wrong;
both are mostly an oversight, which is told before time is spent.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from espnet_ext.data.overlap import rows_of
from espnet_ext.data.transcripts import tidy

SHOWN = 3
_MARKS = '.,;:!?"()\u2026\u00bf\u00a1\u201c\u201d\u201e\u00ab\u00bb'
_FEW = 0.01  # of the words; less is a slip of single transcripts


def punctuated(table: Path, name: str) -> list[str]:
    """Return a line on the words of a set that have punctuation at an end, if they are many.

    Args:
        table: Its texts.
        name: The set.
    """
    total, marked = 0, Counter()
    for _, text in rows_of(table):
        words = _words(text)
        total += len(words)
        marked.update(w for w in words if w.strip(_MARKS) not in ("", w))
    if marked.total() <= _FEW * total:
        return []
    shown = ", ".join(f"'{word}'" for word, _ in marked.most_common(SHOWN))
    return [
        f"{marked.total()} of {total} words of {name} have punctuation ({shown}): text is trained "
        "and scored as it is, and a lexicon has no such words; remove it where local/ reads the "
        "corpus, unless it is to be recognised"
    ]


def unlearnt(train: Iterable[Path], table: Path, name: str) -> list[str]:
    """Return a line on the characters of a set that no training text has, if there are any.

    Args:
        train: Tables of the training texts.
        table: Texts of the set.
        name: The set.
    """
    known = {c for path in train for _, text in rows_of(path) for w in _words(text) for c in w}
    lost, words, total = Counter(), 0, 0
    for _, text in rows_of(table) if known else ():
        for word in _words(text):
            odd = set(word) - known
            lost.update(odd)
            words, total = words + bool(odd), total + 1
    if not lost:
        return []
    often = sorted(lost, key=lambda c: (-lost[c], c))
    shown = " ".join(often[:10]) + (" ..." if len(often) > 10 else "")
    folded = {x for c in known for x in c.swapcase()}
    why = "; are they written in another case?" if all(c in folded for c in lost) else ""
    share = f"{words} of {total} words"
    return [f"{share} of {name} have characters that no training text has ({shown}){why}"]


def _words(text: str) -> list[str]:
    """Return the words without tags and noises, which are symbols: ``<date>``, ``[noise]``."""
    return [w for w in tidy(text).split() if w[0] not in "<[>"]
