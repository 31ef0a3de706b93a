# SPDX-License-Identifier: Apache-2.0
"""Speech Commands v0.01 for keyword spotting (SUPERB): sets ks_train, ks_dev and ks_test.

SPEECH_COMMANDS=/path names the folder of speech_commands_v0.01, SPEECH_COMMANDS_TEST=/path that of
speech_commands_test_set_v0.01, which has a folder for each of the 12 classes. Utterances are
assigned to a set by a hash of their name, as the corpus says; those of its own test part are left
out, as SUPERB tests on the separate archive. Silence is 1 s pieces of the noise files, cut without
overlap: each tenth piece is for development.
"""

import hashlib
from pathlib import Path

from superb_common import SuperbSet, corpus_root

from espnet_ext.data.audio import info
from espnet_ext.errors import DataError

VARIABLES = ("SPEECH_COMMANDS", "SPEECH_COMMANDS_TEST")
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
LARGEST = 2**27 - 1
DEV_SHARE, TEST_SHARE = 10, 10  # per cent


def part_of(name: str) -> str:
    """Return train, dev or test for a file name; one speaker's files ``HASH_nohash_N`` go together.

    Source: the README of the corpus.
    """
    speaker = name.partition("_nohash_")[0]
    digest = hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest()
    number = int(digest, 16) % (LARGEST + 1)
    share = number * 100 / LARGEST
    return "dev" if share < DEV_SHARE else "test" if share < DEV_SHARE + TEST_SHARE else "train"


def read() -> list[SuperbSet]:
    """Return the three sets.

    Raises:
        DataError: A corpus is not there, or has another layout.
    """
    root = corpus_root("SPEECH_COMMANDS", NOISE)
    test_root = corpus_root("SPEECH_COMMANDS_TEST", SILENCE)
    sets = {name: SuperbSet(f"ks_{name}") for name in ("train", "dev")}
    for path in sorted(root.glob("[!_]*/*.wav")):
        word, part = path.parent.name, part_of(path.name)
        if part == "test":
            sets["train"].skip(path, "of the test part; SUPERB tests on the separate archive")
            continue
        speaker = path.stem.partition("_nohash_")[0]
        label = word if word in WORDS else UNKNOWN
        sets[part].add(f"{word}-{path.stem}", path, label, speaker, path)
    if missing := [w for w in WORDS if not (root / w).is_dir()]:
        raise DataError(f"there is no folder {missing[0]}", root, "complete the copy")
    silence(root / NOISE, sets)
    return [*sets.values(), read_test(test_root)]


def silence(folder: Path, sets: dict[str, SuperbSet]) -> None:
    """Add 1 s pieces of the noise files."""
    for path in sorted(folder.glob("*.wav")):
        for i in range(int(info(path).duration_s)):
            utt = f"{SILENCE}-{path.stem}-{i:04d}"
            part = "dev" if i % 10 == 9 else "train"
            sets[part].add(utt, path, SILENCE, f"{SILENCE}-{path.stem}", path, (i, i + 1))


def read_test(root: Path) -> SuperbSet:
    """Return the test set: a folder is a class."""
    made = SuperbSet("ks_test")
    for folder in sorted(p for p in root.iterdir() if p.is_dir()):
        if folder.name not in (*WORDS, UNKNOWN, SILENCE):
            made.skip(folder, "not one of the 12 classes")
            continue
        for path in sorted(folder.glob("*.wav")):
            speaker = path.stem.partition("_nohash_")[0]
            made.add(f"{folder.name}-{path.stem}", path, folder.name, speaker, path)
    return made
