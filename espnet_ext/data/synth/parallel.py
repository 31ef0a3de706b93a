# SPDX-License-Identifier: Apache-2.0
"""A corpus of several languages that say the same things, split by meaning.

Written are Kaldi-style folders with tagged ``text``, ``plain`` words, ``utt2lang`` and ``meaning``;
``pool`` and ``pool_dev`` also have ``phones``, a label for each 10 ms, whose names are the lines of
``phones.txt`` (one phone set for all languages). Sets share audio files. ``parallel.tsv`` holds all
sentences of the training meanings in all languages, ``candidates.tsv`` those of dev and test;
``manifest.tsv`` lists every utterance as :mod:`espnet_ext.data.slu_manifest` has it.

No held-out meaning is said in training or in the pool, in any language. Speakers of the pool are
those of training; ``pool_dev`` has its own, and meanings of its own.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from espnet_ext.data.synth.corpus import speak
from espnet_ext.data.synth.espeak import Espeak
from espnet_ext.data.synth.existing import RECORD, existing, versions
from espnet_ext.data.synth.grammar import TRAVEL, Grammar, Sentence
from espnet_ext.data.synth.layout import RATE_HZ, Item, write_audio
from espnet_ext.data.synth.meanings import (
    DEV,
    TEST,
    TRAIN,
    by_meaning,
    draw,
    shared_meanings,
    split_by_meaning,
)
from espnet_ext.data.synth.parallel_sets import (
    POOL,
    POOL_DEV,
    ParallelRequest,
    sets_of,
    write_sets,
    write_texts,
)
from espnet_ext.data.synth.room import utterance_rng
from espnet_ext.files import atomic_dir, sha256_json, write_json


def make_parallel(
    out_dir: Path | str, request: ParallelRequest, say: Callable[[str], None] = print
) -> dict[str, dict]:
    """Make the corpus in ``out_dir``, or leave it when it is there by the same request.

    Args:
        out_dir: Folder to make; ``wav.scp`` names the audio by this path as it is given.
        request: What it holds.
        say: Called with lines that tell how far it is.

    Returns:
        Set to its ``utterances``, ``hours``, ``speakers``, ``languages``, ``meanings`` ...

    Raises:
        UsageError: A value is out of range or ``out_dir`` holds something else.
        SetupError: espeak-ng is not usable.
    """
    request.check()
    names = dict.fromkeys((*request.pool, *request.languages))
    grammars = {language: Grammar(language, TRAVEL) for language in names}
    espeak = Espeak()
    record = {name: _plain(value) for name, value in asdict(request).items()}
    record |= {"versions": versions(espeak)}
    record["grammars"] = {name: sha256_json(g.source) for name, g in grammars.items()}
    sets = sets_of(request)
    old = existing(Path(out_dir), record, sets)
    if old is not None:
        say(f"{out_dir} is up to date")
        return old
    known = {name: by_meaning(grammar) for name, grammar in grammars.items()}
    parts = split_by_meaning(shared_meanings(known), request.held_out(), request.seed)
    with atomic_dir(out_dir) as tmp:
        rows, _ = write_audio(tmp, _speak_all(espeak, request, grammars, known, parts, say))
        counts = write_sets(tmp, str(out_dir), sets, rows)
        texts = {name: known[name] for name in request.pool}
        write_texts(tmp / "parallel.tsv", texts, parts[TRAIN])
        write_texts(tmp / "candidates.tsv", texts, [*parts[DEV], *parts[TEST]])
        write_json(tmp / RECORD, {"request": record, "counts": counts})
    return counts


def _plain(value: object) -> object:
    """Return a value as JSON gives it back: lists for tuples."""
    return [_plain(x) for x in value] if isinstance(value, tuple) else value


@dataclass(frozen=True)
class _Job:
    """Utterances of one part and language; ends with ``sentences`` or after ``samples`` samples.

    ``voices`` are the speakers' split, ``mark`` keeps the utterance ids of parts apart.
    """

    part: str
    language: str
    voices: str
    sentences: Iterable[Sentence]
    mark: str = ""
    samples: float = np.inf


def _jobs(
    request: ParallelRequest, known: dict[str, dict[str, list[Sentence]]], parts: dict
) -> Iterator[_Job]:
    """Yield what is to be said."""

    def rng(part: str, language: str) -> np.random.Generator:
        return utterance_rng(request.seed, f"{part} {language}")

    def taught(part: str, language: str, minutes: float, mark: str = "") -> _Job:
        said = draw(known[language], parts[TRAIN], rng(part, language))
        return _Job(part, language, TRAIN, said, mark, minutes * 60 * RATE_HZ)

    def held_out(part: str, language: str) -> _Job:
        chance = rng(part, language)
        wordings = (known[language][meaning] for meaning in parts[part])
        return _Job(part, language, part, [rows[chance.integers(len(rows))] for rows in wordings])

    for language in request.pool:
        yield taught(POOL, language, request.pool_minutes / len(request.pool), mark="p")
        yield held_out(POOL_DEV, language)
    for language in request.languages:
        yield taught(TRAIN, language, request.minutes)
        yield held_out(DEV, language)
        yield held_out(TEST, language)


def _speak_all(
    espeak: Espeak,
    request: ParallelRequest,
    grammars: dict[str, Grammar],
    known: dict[str, dict[str, list[Sentence]]],
    parts: dict[str, list[str]],
    say: Callable[[str], None],
) -> Iterator[Item]:
    """Yield all utterances."""
    for job in _jobs(request, known, parts):
        n_samples = 0
        voices = grammars[job.language].speakers[job.voices]
        for i, sentence in enumerate(job.sentences):
            if n_samples >= job.samples:
                break
            number = i % len(voices)
            spk = f"{job.language}-{job.voices}{number:02d}"
            utt = f"{spk}-{job.mark}{i:05d}"
            item = speak(espeak, utt, spk, voices[number], sentence, job.part, request.seed)
            n_samples += len(item.samples)
            more = {"language": job.language, "order": i, "meaning": sentence.meaning}
            yield replace(item, row=item.row | more | {"tagged": sentence.tagged})
        say(f"{job.part} {job.language}: {n_samples / RATE_HZ / 60:.1f} min")
