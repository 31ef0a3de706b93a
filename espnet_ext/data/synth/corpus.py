# SPDX-License-Identifier: Apache-2.0
"""The embedded corpus: Kaldi-style folders, audio, exact phone times, intents and slots.

Written are ``{train,dev,test}/{wav.scp,text,utt2spk,spk2utt,intent,slots}``, ``wav/``,
``manifest.jsonl`` (everything about an utterance, one a line), ``lexicon.txt`` and ``corpus.json``.
Splits share no speaker and no sentence. When the training minutes need more sentences than the
grammar has left, the training sentences are said again, in other rooms and by other speakers.

Equal arguments and equal versions of espeak-ng, numpy, soxr and libsndfile give equal bytes.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soxr

from espnet_ext.data.synth.espeak import Espeak
from espnet_ext.data.synth.events import SILENCE, Segment
from espnet_ext.data.synth.existing import RECORD, existing, versions
from espnet_ext.data.synth.grammar import Grammar, Sentence, Speaker
from espnet_ext.data.synth.layout import RATE_HZ, SPLITS, Item, write_corpus
from espnet_ext.data.synth.room import record, utterance_rng
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_dir, sha256_json, write_json

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Summary:
    """What a corpus holds.

    Attributes:
        out_dir: Folder of the corpus.
        utts: Split to number of utterances.
        minutes: Split to minutes of audio.
        speakers: Split to number of speakers.
        words: Number of different words.
        phones: Number of different phones, ``SIL`` not counted.
        audio_sha256: Hash of all samples in order of the utterance ids.
        made: False when the corpus was already there.
    """

    out_dir: str
    utts: dict[str, int]
    minutes: dict[str, float]
    speakers: dict[str, int]
    words: int
    phones: int
    audio_sha256: str
    made: bool


def make_corpus(
    out_dir: Path | str,
    *,
    seed: int = 1,
    language: str = "en",
    train_minutes: float = 20.0,
    dev_utts: int = 72,
    test_utts: int = 72,
    train_speakers: int | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make the corpus in ``out_dir``, or leave it when it is there with the same arguments.

    Args:
        out_dir: Folder to make; ``wav.scp`` names the audio by this path as it is given.
        seed: Draws sentences, rooms, noise and pauses.
        language: ``en``, ``fr``, ``it`` or ``ar``.
        train_minutes: Training audio, in minutes; the last utterance may run over it.
        dev_utts: Number of development utterances.
        test_utts: Number of test utterances.
        train_speakers: Use only the first so many training speakers.
        progress: Is called with lines that tell how far it is.

    Raises:
        UsageError: An argument is out of range or ``out_dir`` holds something else.
        SetupError: espeak-ng is not usable.
    """
    grammar, espeak, say = Grammar(language), Espeak(), progress or (lambda line: None)
    n_speakers = len(grammar.speakers["train"]) if train_speakers is None else train_speakers
    sizes = {"train_minutes": train_minutes, "dev_utts": dev_utts, "test_utts": test_utts}
    sizes |= {"seed": seed, "train_speakers": n_speakers}
    _check_sizes(sizes)
    request = sizes | {"language": language, "versions": versions(espeak)}
    request["grammar_sha256"] = sha256_json(grammar.source)
    old = existing(Path(out_dir), request, SPLITS)
    if old is not None:
        say(f"{out_dir} is up to date")
        return Summary(str(out_dir), **old, made=False)
    speakers = dict(grammar.speakers, train=grammar.speakers["train"][:n_speakers])
    plan = _plan(grammar, speakers, seed, dev_utts, test_utts)
    with atomic_dir(out_dir) as tmp:
        items = _speak_all(espeak, plan, seed, train_minutes, say)
        counts = write_corpus(tmp, str(out_dir), items)
        write_json(tmp / RECORD, {"request": request, "counts": counts})
    return Summary(str(out_dir), **counts, made=True)


def _check_sizes(sizes: dict[str, float]) -> None:
    """Raise UsageError unless every size is usable."""
    ranges = {
        "seed": (0, 2**32 - 1),
        "train_minutes": (1e-3, 6000),
        "dev_utts": (1, 10000),
        "test_utts": (1, 10000),
        "train_speakers": (1, 1000),
    }
    for name, (low, high) in ranges.items():
        if not low <= sizes[name] <= high:
            raise UsageError(f"{name} is {sizes[name]}", name, f"give a value in {low}..{high}")


Plan = dict[str, Iterator[tuple[str, str, Speaker, Sentence]]]


def _plan(
    grammar: Grammar, speakers: dict[str, list[Speaker]], seed: int, n_dev: int, n_test: int
) -> Plan:
    """Return per split ``(utterance id, speaker id, speaker, sentence)``; train has no end."""
    sentences = list(grammar.draw(np.random.default_rng(seed)))
    if n_dev + n_test >= len(sentences):
        raise UsageError(
            f"the grammar has {len(sentences)} sentences: too few for {n_dev} in dev and "
            f"{n_test} in test",
            f"language {grammar.language}",
            "ask for fewer dev and test utterances",
        )
    parts = {
        "dev": sentences[:n_dev],
        "test": sentences[n_dev : n_dev + n_test],
        "train": sentences[n_dev + n_test :],
    }

    def utterances(split: str) -> Iterator[tuple[str, str, Speaker, Sentence]]:
        part, voices = parts[split], speakers[split]
        for i in itertools.count() if split == "train" else range(len(part)):
            again, place = divmod(i, len(part))
            number = (place + again) % len(voices)  # a repeated sentence gets another speaker
            spk = f"{grammar.language}-{split}{number:02d}"
            yield f"{spk}-{i:05d}", spk, voices[number], part[place]

    return {split: utterances(split) for split in SPLITS}


def _speak_all(
    espeak: Espeak, plan: Plan, seed: int, train_minutes: float, say: Progress
) -> Iterator[Item]:
    """Yield all utterances, dev and test first, then train until the minutes are reached."""
    limit = round(train_minutes * 60 * RATE_HZ)
    for split in ("dev", "test", "train"):
        n_samples, started = 0, time.monotonic()
        for i, (utt, spk, speaker, sentence) in enumerate(plan[split], 1):
            item = speak(espeak, utt, spk, speaker, sentence, split, seed)
            yield item
            n_samples += len(item.samples)
            done = split == "train" and n_samples >= limit
            if done or i % 200 == 0:
                rate = i / max(time.monotonic() - started, 1e-6)
                minutes = n_samples / RATE_HZ / 60
                goal = f" of {train_minutes:g}" if split == "train" else ""
                say(f"{split}: {i} utterances, {minutes:.1f}{goal} min ({rate:.0f}/s)")
            if done:
                break


def speak(
    espeak: Espeak,
    utt: str,
    spk: str,
    speaker: Speaker,
    sentence: Sentence,
    split: str,
    seed: int,
) -> Item:
    """Speak one sentence in a room of its own, with a pause before and after it.

    Raises:
        DataError: espeak-ng has no sound for a word.
    """
    rng = utterance_rng(seed, utt)
    rate = round(speaker.rate * rng.uniform(0.94, 1.06))
    pitch = round(speaker.pitch + rng.uniform(-4, 4))
    clean = espeak.synthesize(sentence.text, voice=speaker.voice, rate_wpm=rate, pitch=pitch)
    if [w.label for w in clean.words] != sentence.text.split():
        raise DataError(
            "espeak-ng left out a word", f"{utt}: {sentence.text}", "change the grammar"
        )
    speech = soxr.resample(clean.samples / 32768.0, clean.rate_hz, RATE_HZ)
    before, after = (int(n) for n in rng.integers(RATE_HZ // 10, RATE_HZ * 3 // 10, 2))
    samples = record(np.pad(speech, (before, after)), RATE_HZ, rng)
    samples = np.round(samples * 32767).astype(np.int16)
    phones = on_grid(clean.phones, before, len(samples))
    words = on_grid(clean.words, before, len(samples))
    row = {
        "id": utt,
        "split": split,
        "audio": f"wav/{spk}/{utt}.flac",
        "duration_s": len(samples) / RATE_HZ,
        "text": sentence.text,
        "speaker": {"id": spk, "voice": speaker.voice, "rate": rate, "pitch": pitch},
        "phones": [list(p) for p in _with_pauses(phones, len(samples) / RATE_HZ)],
        "words": [list(w) for w in words],
        "intent": sentence.intent,
        "slots": [asdict(s) for s in sentence.slots],
    }
    return Item(row, samples)


def on_grid(
    segments: list[Segment], offset_samples: int, n_samples: int
) -> list[tuple[str, float, float]]:
    """Shift segments by ``offset_samples`` and round their times to samples at ``RATE_HZ``.

    A multiple of 1/16000 s has at most 7 decimals, so the times stand exactly in JSON.
    """

    def move(time_s: float) -> float:
        return min(offset_samples + round(time_s * RATE_HZ), n_samples) / RATE_HZ

    return [(s.label, move(s.start_s), move(s.end_s)) for s in segments]


def _with_pauses(
    phones: list[tuple[str, float, float]], duration_s: float
) -> list[tuple[str, float, float]]:
    """Return ``phones`` with silence before and after them up to ``[0, duration_s)``."""
    inner = phones[1:] if phones[0][0] == SILENCE else phones
    inner = inner[:-1] if inner[-1][0] == SILENCE else inner
    return [
        (SILENCE, 0.0, inner[0][1]),
        *inner,
        (SILENCE, inner[-1][2], duration_s),
    ]
