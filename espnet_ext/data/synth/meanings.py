# SPDX-License-Identifier: Apache-2.0
"""Splits by meaning that all languages of a family share, and sentences drawn evenly from them.

A held-out meaning is a combination of template and values that occurs nowhere in training, in no
wording and no language, while each of its templates and values does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from espnet_ext.data.synth.grammar import Grammar, Sentence
from espnet_ext.data.synth.room import utterance_rng
from espnet_ext.errors import DataError, UsageError

TRAIN, DEV, TEST = "train", "dev", "test"
LEAST = 2


def by_meaning(grammar: Grammar) -> dict[str, list[Sentence]]:
    """Return the wordings of each meaning."""
    found: dict[str, list[Sentence]] = {}
    for rows in grammar.sentences().values():
        for sentence in rows:
            found.setdefault(sentence.meaning, []).append(sentence)
    return found


def template_of(meaning: str) -> str:
    """Return intent and key of the template: ``ask_price.room``."""
    return meaning.partition(":")[0]


def values_of(meaning: str) -> list[str]:
    """Return the slots with the keys of their values: ``city=rome``."""
    return meaning.partition(":")[2].split(",")


def split_by_meaning(
    meanings: Sequence[str], sizes: Mapping[str, int], seed: int
) -> dict[str, list[str]]:
    """Split into ``train`` and parts of given sizes, which are held out evenly of all templates.

    Of each template, half of the meanings and :data:`LEAST` with each value stay in training.

    Args:
        meanings: Those that all languages have, in any order.
        sizes: Part to the number of its meanings; those of the first do not depend on the others.
        seed: Draws them.

    Raises:
        UsageError: So many cannot be held out.
    """
    wanted = sum(sizes.values())
    held = _hold_out(meanings, wanted, utterance_rng(seed, "split by meaning"))
    if len(held) < wanted:
        what = f"{wanted} meanings are too many to hold out of {len(set(meanings))}"
        raise UsageError(what, ", ".join(sizes), f"ask for {len(held)} or fewer, all together")
    rest = iter(held)
    parts = {part: list(islice(rest, size)) for part, size in sizes.items()}
    return {TRAIN: sorted(set(meanings) - set(held)), **parts}


def _hold_out(meanings: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Return up to ``count`` meanings, one of each template in turn."""
    queues = _queues(meanings, rng)
    spare = {template: len(rows) // 2 for template, rows in queues.items()}
    left = Counter((template_of(m), value) for m in set(meanings) for value in values_of(m))
    held: list[str] = []
    while len(held) < count and queues:
        for template in rng.permutation(sorted(queues)):
            queue = queues[template]
            while queue and any(left[template, v] <= LEAST for v in values_of(queue[-1])):
                queue.pop()
            if not queue or not spare[template] or len(held) == count:
                queues.pop(template)
                continue
            held.append(queue.pop())
            spare[template] -= 1
            left.subtract((template, value) for value in values_of(held[-1]))
    return held


def shared_meanings(known: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return the sorted meanings of the languages, which must be the same.

    Args:
        known: Language to its meanings.

    Raises:
        DataError: A language lacks a meaning.
    """
    all_of_them = sorted({m for found in known.values() for m in found})
    for language, found in known.items():
        for meaning in all_of_them:
            if meaning not in found:
                how = "give the template or value the same key in each language"
                raise DataError(f"no sentence means {meaning}", f"language {language}", how)
    return all_of_them


def draw(
    known: Mapping[str, list[Sentence]], meanings: Sequence[str], rng: np.random.Generator
) -> Iterator[Sentence]:
    """Yield sentences without end: each round has one meaning of each template, in random order.

    A meaning comes again, perhaps in another wording, after all others of its template.
    """
    queues: dict[str, list[str]] = {}
    full = _queues(meanings, rng)
    while True:
        for template in rng.permutation(sorted(full)):
            if not queues.get(template):
                queues[template] = list(rng.permutation(full[template]))
            wordings = known[queues[template].pop()]
            yield wordings[int(rng.integers(len(wordings)))]


def _queues(meanings: Sequence[str], rng: np.random.Generator) -> dict[str, list[str]]:
    """Return the meanings of each template in random order."""
    queues: dict[str, list[str]] = {}
    for meaning in sorted(meanings):
        queues.setdefault(template_of(meaning), []).append(meaning)
    return {t: [str(m) for m in rng.permutation(rows)] for t, rows in queues.items()}
