# SPDX-License-Identifier: Apache-2.0
"""What the aligner works on: features, transcripts and pronunciations, cut into shards.

A shard is a list of whole speakers (a very long speaker is cut), so that one process can estimate
its speaker transforms alone. Shards depend on the data only, never on the number of processes:
sums over them are the same with any ``--nj``.

    WORK/feats/               FeatureStore of MFCCs;  WORK/fbank/ that of the hybrid
    WORK/pronunciations.json  words of the transcripts
    WORK/shards/N.json        {"utts": [...], "words": [[...], ...]}, by length
    WORK/skipped.json         [[utterance, reason, detail], ...]
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from espnet_ext.align.features.features import FeatureOptions
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.options import AlignOptions
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError
from espnet_ext.files import file_version, sha256_json, write_json, write_text
from espnet_ext.lang.lexicon import Lexicon
from espnet_ext.lang.long_phones import long_phones
from espnet_ext.lang.phones import PhoneSet
from espnet_ext.lang.pronounce import Pronunciations, pronounce

SHARD_FRAMES = 20_000
MAX_SHARDS = 64
SHOWN = 5
LONG_FRAMES = 6000  # a minute
ENOUGH_FRAMES = 60_000  # ten minutes

MapFn = Callable[[Callable[[Any], Any], list], Any]


@dataclass
class Corpus:
    """A prepared work folder."""

    work: Path
    shards: int
    frames: int
    utterances: int
    key: str  # changes with audio, transcripts and pronunciations
    skipped: list[tuple[str, str, str]]

    @property
    def store(self) -> FeatureStore:
        return FeatureStore.open(self.work / "feats")

    @property
    def pronunciations(self) -> Pronunciations:
        return load_pronunciations(str(self.work))

    def start_frames(self, utterances: int) -> int | None:
        """Return the longest utterance to start monophones from, in frames; None for all.

        It is one of that many shortest ones, and none above LONG_FRAMES where those below are
        enough: an even spread over many minutes is a poor start.
        """
        store = self.store
        lengths = sorted(store.frames(u) for i in range(self.shards) for u in self.shard(i)["utts"])
        limit = lengths[min(utterances, len(lengths)) - 1]
        short = [n for n in lengths if n <= min(limit, LONG_FRAMES)]
        if sum(short) >= min(ENOUGH_FRAMES, sum(lengths) / 2):
            limit = min(limit, short[-1])
        return None if limit == lengths[-1] else limit

    def shard(self, i: int) -> dict:
        return load_shard(self.work, i)

    def with_spoken_noise(self) -> int:
        """Return how many utterances have a word that is aligned as spoken noise."""
        noise = {w for w, how in self.pronunciations.oov.items() if how == "spn"}
        if not noise:
            return 0
        shards = (self.shard(i)["words"] for i in range(self.shards))
        return sum(not noise.isdisjoint(words) for shard in shards for words in shard)


def load_shard(work: Path, i: int) -> dict:
    """Return ``{"utts": [...], "words": [[...], ...]}``."""
    return json.loads((work / "shards" / f"{i}.json").read_text(encoding="utf-8"))


def load_pronunciations(work: str) -> Pronunciations:
    """Return the pronunciations of a work folder; read once per process and version."""
    path = Path(work) / "pronunciations.json"
    return _pronunciations(str(path), file_version(path))


@lru_cache(maxsize=4)
def _pronunciations(path: str, version: tuple) -> Pronunciations:
    return Pronunciations.load(path)


def feature_options(o: AlignOptions) -> FeatureOptions:
    """Return the options of the MFCCs."""
    return FeatureOptions(
        fs=o.fs,
        kind="mfcc",
        num_ceps=o.num_ceps,
        cmvn_vars=o.cmvn_vars,
        channel=o.channel,
        shift_ms=o.frame_shift_ms,
    )


def read_texts(data: Path, table: str = "text") -> dict[str, list[str]]:
    """Return the words of each utterance."""
    return {utt: text.split() for utt, text in iter_table(data / table)}


def pronounce_texts(
    texts: dict[str, list[str]], o: AlignOptions, phones: PhoneSet | None = None
) -> Pronunciations:
    """Find pronunciations for all words, in phones as the aligner has them: long ones in halves.

    Args:
        texts: Words of each utterance.
        o: Options.
        phones: Those of a trained model, which limit the words' and say which are long.
    """
    words = sorted({w for ws in texts.values() for w in ws})
    lexicon = _lexicon(o) if o.lexicon else None
    if phones:
        return pronounce(words, lexicon, o.oov, phones=phones.whole).with_halves(phones)
    found = pronounce(words, lexicon, o.oov)
    return found.with_halves(long_phones(o.long_phones, found.phones))


def _lexicon(o: AlignOptions) -> Lexicon:
    """Read the lexicon of the options, once per process and version of the file."""
    path = Path(o.lexicon)
    version = file_version(path) if path.is_file() else ()  # reading tells of a missing one
    return _read_lexicon(path, o.lexicon_kind, o.stress, version)


@lru_cache(maxsize=1)
def _read_lexicon(path: Path, kind: str, stress: bool, version: tuple) -> Lexicon:
    return Lexicon.read(path, kind, stress=stress)


def prepare(
    data: Path, work: Path, o: AlignOptions, map_fn: MapFn, say: Callable[[str], None],
    phones: PhoneSet | None = None,
) -> Corpus:  # fmt: skip
    """Compute features, look up words and cut shards.

    Raises:
        DataError: A table is unusable, or no utterance can be aligned.
    """
    texts = read_texts(data, o.text)
    pron = pronounce_texts(texts, o, phones)
    pron.save(work / "pronunciations.json")
    for line in pron.summary():
        say(f"  {line}")
    store = FeatureStore.build(work / "feats", data, feature_options(o), map=map_fn)
    skipped = list(store.skipped)
    known, utts = {u for u, _, _ in skipped} | set(store.utts), []
    for utt in store.utts:
        reason = _unusable(texts.get(utt), pron)
        if reason:
            skipped.append((utt, *reason))
        else:
            utts.append(utt)
    for utt in texts:
        if utt not in known:
            skipped.append((utt, "no audio", "not in wav.scp or segments"))
    for line in [*_store_lines(store), *skip_lines(skipped)]:
        say(f"  {line}")
    if not utts:
        first = "; ".join(f"{u}: {r} ({d})" for u, r, d in skipped[:SHOWN])
        raise DataError(
            f"no utterance can be aligned: {first or 'wav.scp and text are empty'}", data,
            "check lexicon, transcripts and audio; espnet-ext doctor --data looks at the folder",
        )  # fmt: skip
    _write_shards(work, store, utts, texts, pron)
    write_json(work / "skipped.json", skipped)
    corpus = open_corpus(work)
    if kept := corpus.with_spoken_noise():
        say(f"  {kept:,} utterances kept with words that are aligned as spoken noise")
    return corpus


def open_corpus(work: Path) -> Corpus:
    """Open what :func:`prepare` made."""
    about = json.loads((work / "shards" / "about.json").read_text(encoding="utf-8"))
    skipped = [tuple(row) for row in json.loads((work / "skipped.json").read_text("utf-8"))]
    return Corpus(
        work, about["shards"], about["frames"], about["utterances"], about["key"], skipped
    )


def _unusable(words: list[str] | None, pron: Pronunciations) -> tuple[str, str] | None:
    if words is None:
        return "no transcript", "not in text"
    if not words:
        return "empty transcript", "no words in text"
    missing = [w for w in words if not pron.variants(w)]
    if missing:
        return "no pronunciation", " ".join(dict.fromkeys(missing))
    return None


def _store_lines(store: FeatureStore) -> list[str]:
    """Return what a person should know of the audio; skipped utterances come by themselves."""
    return [line for line in store.summary()[1:] if not line.startswith("skipped")]


def skip_lines(skipped: Iterable[Sequence[str]]) -> list[str]:
    """Name the first utterances of each reason."""
    lines = []
    for reason in dict.fromkeys(r for _, r, _ in skipped):
        own = [f"{u} ({d})" for u, r, d in skipped if r == reason]
        more = ", ..." if len(own) > SHOWN else ""
        lines.append(f"skipped, {reason}: {len(own):,}: {', '.join(own[:SHOWN])}{more}")
    return lines


def _write_shards(
    work: Path,
    store: FeatureStore,
    utts: list[str],
    texts: dict[str, list[str]],
    pron: Pronunciations,
) -> None:
    frames = {u: store.frames(u) for u in utts}
    total = sum(frames.values())
    count = max(1, min(MAX_SHARDS, total // SHARD_FRAMES))
    speakers = {u: store.speaker(u) for u in utts}
    order = sorted(utts, key=lambda u: (speakers[u], u))
    shards = [sorted(s, key=lambda u: (frames[u], u)) for s in cut(order, frames, speakers, count)]
    for i, shard in enumerate(shards):
        row = {"utts": shard, "words": [texts[u] for u in shard]}
        write_text(work / "shards" / f"{i}.json", json.dumps(row, ensure_ascii=False))
    about = {"shards": len(shards), "frames": total, "utterances": len(utts)}
    lengths = [[u, frames[u], texts[u]] for u in utts]
    about["key"] = sha256_json([lengths, pron.to_json(), store.key, shards])
    write_json(work / "shards" / "about.json", about)


def cut(
    order: Sequence[str], frames: Mapping[str, int], speakers: Mapping[str, str], count: int
) -> list[list[str]]:
    """Cut a corpus into shards of whole speakers; one that fills a shard alone is cut.

    Args:
        order: Utterances, those of a speaker together.
        frames: Of each utterance.
        speakers: Of each utterance.
        count: At most so many shards.
    """
    target = sum(frames[u] for u in order) / count
    shards: list[list[str]] = [[]]
    filled = own = 0  # frames up to here; of the speaker in this shard
    before = ""
    for utt in order:
        fresh = speakers[utt] != before
        own = 0 if fresh else own
        full = own >= target or (fresh and filled >= target * len(shards))
        if full and len(shards) < count:
            shards.append([])
            own = 0
        shards[-1].append(utt)
        before, filled, own = speakers[utt], filled + frames[utt], own + frames[utt]
    return shards
