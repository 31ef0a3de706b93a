# SPDX-License-Identifier: Apache-2.0
"""The files of a synthetic corpus: audio, Kaldi-style folders, manifest and lexicon."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.data.synth.events import SILENCE
from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.files import write_text

RATE_HZ = 16000
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class Item:
    """One utterance: its line of manifest.jsonl and its samples (N,) int16."""

    row: dict
    samples: np.ndarray


def write_corpus(folder: Path, out_dir: str, items: Iterable[Item]) -> dict:
    """Write audio, manifest, lexicon and the folders of the splits; return the counts.

    Args:
        folder: Existing empty folder to write to.
        out_dir: Name ``folder`` will have in the end; ``wav.scp`` names the audio by it.
        items: The utterances, in any order.

    Returns:
        The fields of :class:`espnet_ext.data.synth.corpus.Summary` that describe the content.
    """
    rows, digest = write_audio(folder, items)
    for split in SPLITS:
        write_split(folder / split, out_dir, [r for r in rows if r["split"] == split])
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)
    write_text(folder / "manifest.jsonl", "".join(lines))
    write_text(folder / "lexicon.txt", lexicon_text(rows))
    return count(rows) | {"audio_sha256": digest}


def write_audio(folder: Path, items: Iterable[Item]) -> tuple[list[dict], str]:
    """Write FLAC files; return the rows by id and the hash of all samples in that order."""
    rows, hashes = [], {}
    for item in items:
        path = folder / item.row["audio"]
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, item.samples, RATE_HZ, subtype="PCM_16", format="FLAC")
        rows.append(item.row)
        hashes[item.row["id"]] = hashlib.sha256(item.samples.astype("<i2").tobytes()).hexdigest()
    rows.sort(key=lambda row: row["id"].encode())
    return rows, hashlib.sha256("".join(hashes[r["id"]] for r in rows).encode()).hexdigest()


def write_split(folder: Path, out_dir: str, rows: list[dict]) -> None:
    """Write one Kaldi-style folder; the audio is named by its place after the rename."""
    folder.mkdir()
    utt2spk = {r["id"]: r["speaker"]["id"] for r in rows}
    write_table(folder / "utt2spk", utt2spk)
    write_spk2utt(folder, utt2spk)
    write_table(folder / "wav.scp", {r["id"]: os.path.join(out_dir, r["audio"]) for r in rows})
    write_table(folder / "text", {r["id"]: r["text"] for r in rows})
    write_table(folder / "intent", {r["id"]: r["intent"] for r in rows})
    write_table(
        folder / "slots", {r["id"]: json.dumps(r["slots"], ensure_ascii=False) for r in rows}
    )


def lexicon_text(rows: list[dict]) -> str:
    """Return ``word phone phone ...`` lines, every pronunciation heard, the most frequent first.

    Args:
        rows: Lines of the manifest; the phones of a word are those within its times.
    """
    heard: Counter[tuple[str, str]] = Counter()
    for row in rows:
        phones = iter(p for p in row["phones"] if p[0] != SILENCE)
        phone = next(phones, None)
        for word, _, end_s in row["words"]:
            inside = []
            while phone is not None and phone[1] < end_s:
                inside.append(phone[0])
                phone = next(phones, None)
            heard[word, " ".join(inside)] += 1
    ordered = sorted(heard, key=lambda key: (key[0], -heard[key], key[1]))
    return "".join(f"{word} {phones}\n" for word, phones in ordered)


def count(rows: list[dict]) -> dict:
    """Return utterances, minutes and speakers per split, and numbers of words and phones."""
    by_split = {split: [r for r in rows if r["split"] == split] for split in SPLITS}
    return {
        "utts": {s: len(part) for s, part in by_split.items()},
        "minutes": {
            s: round(sum(r["duration_s"] for r in part) / 60, 3) for s, part in by_split.items()
        },
        "speakers": {s: len({r["speaker"]["id"] for r in part}) for s, part in by_split.items()},
        "words": len({w[0] for r in rows for w in r["words"]}),
        "phones": len({p[0] for r in rows for p in r["phones"]} - {SILENCE}),
    }
