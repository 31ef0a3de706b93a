# SPDX-License-Identifier: Apache-2.0
"""English orders in three parts: clips with a mouth, with Italian translations, with transcripts.

Written are Kaldi-style folders. All have ``wav.scp``, ``text``, ``plain`` (the English words),
``utt2spk``, ``spk2utt`` and ``meaning``:

- ``av_train``, ``av_dev``: also ``video.scp`` (arrays of :data:`~.mouth.FPS` frames a second).
- ``st_train``, ``st_dev``, ``st_test``: ``text`` is an Italian translation.
  ``st_train_shuffled`` has the translations of other utterances, the control for a decoder that
  does not listen; in ``sr_train`` and ``sr_dev``, the same audio, ``text`` is English; ``st_few``
  is every fifth utterance of ``st_train``.
- ``train``, ``dev``, ``test``: ``text`` is English.

No held-out meaning is said in a training set of any part, in no wording; dev and test sets of the
parts differ in meanings, too. Speakers of dev and test are heard in no training set.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from espnet_ext.data.synth import mouth
from espnet_ext.data.synth.corpus import speak
from espnet_ext.data.synth.espeak import Espeak
from espnet_ext.data.synth.existing import RECORD, existing, versions
from espnet_ext.data.synth.grammar import ORDERS, Grammar, Sentence
from espnet_ext.data.synth.layout import RATE_HZ, Item, write_audio
from espnet_ext.data.synth.meanings import by_meaning, draw, shared_meanings, split_by_meaning
from espnet_ext.data.synth.room import utterance_rng
from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.errors import UsageError
from espnet_ext.files import atomic_dir, sha256_json, write_json

LANGUAGE, OTHER = "en", "it"
TRAININGS = ("av_train", "st_train", "train")
VOICES = {  # held-out set to the speakers of the grammar
    "dev": "dev",
    "test": "test",
    "st_dev": "dev",
    "st_test": "test",
    "av_dev": "pool_dev",
}
SHUFFLED, ENGLISH = "st_train_shuffled", {"sr_train": "st_train", "sr_dev": "st_dev"}
FEW, EVERY = "st_few", 5


@dataclass(frozen=True)
class MultistageRequest:
    """What a corpus holds; equal requests give equal bytes.

    Attributes:
        seed: Draws meanings, wordings, rooms, noise and pictures.
        av_minutes, st_minutes, minutes: Speech of ``av_train``, ``st_train`` and ``train``.
        av_dev_utts, st_dev_utts, st_test_utts, dev_utts, test_utts: Utterances of these sets.
    """

    seed: int = 1
    av_minutes: float = 15.0
    st_minutes: float = 25.0
    minutes: float = 15.0
    av_dev_utts: int = 48
    st_dev_utts: int = 40
    st_test_utts: int = 80
    dev_utts: int = 48
    test_utts: int = 96

    def check(self) -> None:
        """Raise UsageError unless every value is usable."""
        for name, value in asdict(self).items():
            low = 0 if name == "seed" else 1e-3 if name.endswith("minutes") else 1
            if not low <= value <= 100_000:
                what = f"{name} is {value}"
                raise UsageError(what, name, f"give a value in {low:g}..100000")

    def held_out(self) -> dict[str, int]:
        """Return the sets whose meanings no other set has, with their sizes."""
        return {name: getattr(self, f"{name}_utts") for name in VOICES}

    def trainings(self) -> dict[str, float]:
        """Return the training sets with their minutes."""
        return dict(zip(TRAININGS, (self.av_minutes, self.st_minutes, self.minutes), strict=True))


def make_multistage(
    out_dir: Path | str, request: MultistageRequest, say: Callable[[str], None] = print
) -> dict[str, dict]:
    """Make the corpus in ``out_dir``, or leave it when it is there by the same request.

    Args:
        out_dir: Folder to make; tables name audio and video by this path as it is given.
        request: What it holds.
        say: Called with lines that tell how far it is.

    Returns:
        Set to its ``utterances``, ``minutes``, ``speakers`` and ``meanings``.

    Raises:
        UsageError: A value is out of range or ``out_dir`` holds something else.
        SetupError: espeak-ng is not usable.
    """
    request.check()
    espeak, spoken = Espeak(), Grammar(LANGUAGE, ORDERS)
    grammars = {LANGUAGE: spoken, OTHER: Grammar(OTHER, ORDERS)}
    record = asdict(request) | {"versions": versions(espeak), "fps": mouth.FPS, "px": mouth.SIZE}
    record["grammars"] = {name: sha256_json(g.source) for name, g in grammars.items()}
    sets = (*TRAININGS, *VOICES, SHUFFLED, FEW, *ENGLISH)
    if (old := existing(Path(out_dir), record, sets)) is not None:
        say(f"{out_dir} is up to date")
        return old
    known = {name: by_meaning(grammar) for name, grammar in grammars.items()}
    parts = split_by_meaning(shared_meanings(known), request.held_out(), request.seed)
    with atomic_dir(out_dir) as tmp:
        rows, _ = write_audio(tmp, _speak_all(espeak, request, spoken, known[LANGUAGE], parts, say))
        counts = _write_sets(tmp, str(out_dir), rows, known[OTHER], request.seed)
        write_json(tmp / RECORD, {"request": record, "counts": counts})
    return counts


def _speak_all(
    espeak: Espeak,
    request: MultistageRequest,
    grammar: Grammar,
    known: dict[str, list[Sentence]],
    parts: dict[str, list[str]],
    say: Callable[[str], None],
) -> Iterator[Item]:
    """Yield all utterances; a training set ends with its minutes, another with its meanings."""
    for name, minutes in (request.trainings() | dict.fromkeys(VOICES, np.inf)).items():
        rng = utterance_rng(request.seed, name)
        held = parts.get(name) if name in VOICES else None
        sentences = (
            draw(known, parts["train"], rng) if held is None else _one_each(known, held, rng)
        )
        group = VOICES.get(name, "train")
        voices, n_samples = grammar.speakers[group], 0
        for i, sentence in enumerate(sentences):
            if n_samples >= minutes * 60 * RATE_HZ:
                break
            number = i % len(voices)
            spk = f"{LANGUAGE}-{group}{number:02d}"
            utt = f"{spk}-{name}-{i:05d}"
            item = speak(espeak, utt, spk, voices[number], sentence, name, request.seed)
            n_samples += len(item.samples)
            yield replace(item, row=item.row | {"meaning": sentence.meaning})
        say(f"{name}: {n_samples / RATE_HZ / 60:.1f} min")


def _one_each(
    known: dict[str, list[Sentence]], meanings: Sequence[str], rng: np.random.Generator
) -> list[Sentence]:
    """Return a wording of each meaning."""
    return [known[m][rng.integers(len(known[m]))] for m in meanings]


def _write_sets(
    folder: Path, out_dir: str, rows: list[dict], other: dict[str, list[Sentence]], seed: int
) -> dict[str, dict]:
    """Write the folders of all sets; return their counts."""
    counts = {}
    for name in (*TRAININGS, *VOICES):
        mine = [row for row in rows if row["split"] == name]
        english = {row["id"]: row["text"] for row in mine}
        text = english
        if name.startswith("st_"):
            said = {row["id"]: _one_each(other, [row["meaning"]], utterance_rng(seed, row["id"]))
                    for row in mine}  # fmt: skip
            text = {utt: sentence.text for utt, (sentence,) in said.items()}
        counts[name] = _write_set(folder / name, out_dir, mine, text)
        if name.startswith("av_"):
            _write_clips(folder, out_dir, name, mine, seed)
        for also, like in ENGLISH.items():
            if like == name:
                counts[also] = _write_set(folder / also, out_dir, mine, english)
        if name == "st_train":
            order = utterance_rng(seed, SHUFFLED).permutation(len(mine))
            ids = [mine[i]["id"] for i in order]  # a cycle: nobody keeps their own
            moved = {a: text[b] for a, b in zip(ids, [*ids[1:], ids[0]], strict=True)}
            counts[SHUFFLED] = _write_set(folder / SHUFFLED, out_dir, mine, moved)
            few = mine[::EVERY]  # of all speakers, whose utterances follow one another
            theirs = {row["id"]: text[row["id"]] for row in few}
            counts[FEW] = _write_set(folder / FEW, out_dir, few, theirs)
    return counts


def _write_set(folder: Path, out_dir: str, rows: list[dict], text: dict[str, str]) -> dict:
    folder.mkdir()
    utt2spk = {row["id"]: row["speaker"]["id"] for row in rows}
    write_table(folder / "utt2spk", utt2spk)
    write_spk2utt(folder, utt2spk)
    write_table(folder / "wav.scp", {r["id"]: Path(out_dir, r["audio"]) for r in rows})
    write_table(folder / "text", text)
    write_table(folder / "plain", {r["id"]: r["text"] for r in rows})
    write_table(folder / "meaning", {r["id"]: r["meaning"] for r in rows})
    return {
        "utterances": len(rows),
        "minutes": round(sum(r["duration_s"] for r in rows) / 60, 3),
        "speakers": len(set(utt2spk.values())),
        "meanings": len({r["meaning"] for r in rows}),
    }


def _write_clips(folder: Path, out_dir: str, name: str, rows: list[dict], seed: int) -> None:
    """Draw the clips of a set into ``video/`` and name them in its ``video.scp``."""
    videos = {row["id"]: Path("video", f"{row['id']}.npy") for row in rows}
    (folder / "video").mkdir(exist_ok=True)
    for row in rows:
        rng = utterance_rng(seed, f"picture {row['id']}")
        pictures = mouth.draw(row["phones"], row["duration_s"], rng)
        np.save(folder / videos[row["id"]], pictures, allow_pickle=False)
    table = {utt: Path(out_dir, path) for utt, path in videos.items()}
    write_table(folder / name / "video.scp", table)
