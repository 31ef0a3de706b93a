# SPDX-License-Identifier: Apache-2.0
"""The Kathleen voice as Kaldi-style folders: train, dev, test, and parts of the training set.

usage: python local/kathleen.py OUT [--test-minutes M] [--dev-minutes M] [--labelled-minutes M]
                                    [--lexicon]

KATHLEEN=/path names the corpus, one US English voice reading CMU Arctic prompts, in either layout:

* the public release: data/arctic_PROMPT_TIME.wav beside arctic_PROMPT_TIME.txt;
* a folder with transcripts.tsv (columns id, prompt, text) and wav/ID.flac or wav/ID.wav.

Many prompts were read two or three times. The sets have different prompts and different sentences.
Which set a prompt is in is decided by a hash, not by a random number, so both layouts have the
same ids and sets on every machine. Test has one reading of each prompt, the first, because
intervals take utterances as independent; the others are listed in skipped.tsv.

train_10min (M labelled minutes) and train_rest, which has no text, make up train: for training
with few labels. train_25 and train_50 have that share of train, for learning curves. They are
nested: train_10min is in train_25, and that in train_50, if train is long enough.
"""

import argparse
import hashlib
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cmu_lexicon import find_dictionary, write_lexicon

from espnet_ext.data.audio import info
from espnet_ext.data.labelled import write_part
from espnet_ext.data.lines import utf8_lines
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.files import write_text

SOURCE = "git clone https://github.com/rhasspy/dataset-voice-kathleen"
SPEAKER = "kathleen"
EXPECTED = 1620
SHARES = (25, 50)  # per cent of train
MAX_DAMAGED = 0.02  # a copy that lacks more than this share of its utterances is refused
RELEASED = re.compile(r"arctic_(?P<prompt>[ab]\d+)_(?P<time>\d+)")
LISTED = re.compile(rf"{SPEAKER}-arctic_(?P<prompt>[ab]\d+)-(?P<take>\d+)")
SPACE, DROPPED = re.compile(r"[-\u2013\u2014\s]+"), re.compile(r'[.,;:?!"()\u201c\u201d]')
WORDS = re.compile(r"[A-Z']+(?: [A-Z']+)*")
CUT = {"'EM", "'TIS", "'TWAS", "'BOUT", "'CAUSE", "'ROUND", "'TIL"}  # others are in quotes


@dataclass(frozen=True)
class Reading:
    """One reading of a prompt; ``take`` counts from 1, ``where`` is where its text stands."""

    utt: str
    prompt: str
    take: int
    text: str
    audio: Path
    where: str
    length_s: float = 0.0


class Corpus:
    """Readings and what is left out, and why: ``(utterance or file, reason, detail)``."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.skipped: list[tuple[str, str, str]] = []

    @property
    def read(self) -> int:
        """Utterances that the corpus has."""
        return len(self.readings) + len(self.skipped)

    def add(self, utt: str, prompt: str, take: int, text: str, audio: Path, where: str) -> None:
        """Take a reading, or skip it if its text or audio is not usable."""
        words = clean(text)
        if not WORDS.fullmatch(words):
            self.skipped.append((utt, "text that is no words", f"{where}: {text}"))
            return
        try:
            length_s = info(audio).duration_s
        except DataError as e:
            self.skipped.append((utt, "broken audio", f"{audio}: {e.what}"))
            return
        self.readings.append(Reading(utt, prompt, take, words, audio, where, length_s))


def clean(text: str) -> str:
    """Return upper-case words without punctuation; parts of a compound are words."""
    text = DROPPED.sub("", SPACE.sub(" ", text.replace("\u2019", "'").upper()))
    words = (word.rstrip("'") for word in text.split())
    return " ".join(filter(None, (word if word in CUT else word.strip("'") for word in words)))


def read_corpus(root: Path) -> Corpus:
    """Read either layout.

    Raises:
        DataError: It is neither, a line is not usable, or many utterances are damaged.
    """
    if (root / "transcripts.tsv").is_file():
        corpus = read_table(root)
    else:
        released = next((f for f in (root / "data", root) if [*f.glob("arctic_*.wav")]), None)
        if released is None:
            raise DataError(
                "this is not the Kathleen corpus: there is neither data/arctic_*.wav nor "
                "transcripts.tsv", root, f"set KATHLEEN to its folder; get it by: {SOURCE}",
            )  # fmt: skip
        corpus = read_release(released)
    corpus.readings.sort(key=lambda r: r.utt.encode())
    if len(corpus.skipped) > MAX_DAMAGED * corpus.read:
        utt, reason, detail = corpus.skipped[0]
        what = f"{len(corpus.skipped)} of {corpus.read} utterances are not usable"
        raise DataError(f"{what}, the first is {utt}: {reason} ({detail})", root,
                        f"copy the corpus again: {SOURCE}")  # fmt: skip
    return corpus


def read_table(root: Path) -> Corpus:
    """Read the layout with transcripts.tsv.

    Raises:
        DataError: A line is not 'id prompt text', or an id stands twice.
    """
    corpus, seen = Corpus(), set()
    source = root / "transcripts.tsv"
    audio = {p.stem: p for end in ("wav", "flac") for p in sorted((root / "wav").glob(f"*.{end}"))}
    for number, line in utf8_lines(source):
        where = f"{source}:{number}"
        if number == 1 and line.split("\t") == ["id", "prompt", "text"]:
            continue
        utt, prompt, text = [*line.split("\t"), "", ""][:3]
        match = LISTED.fullmatch(utt)
        if line.count("\t") > 2 or match is None or match["prompt"] != prompt:
            what = f"the line is not '{SPEAKER}-arctic_PROMPT-TAKE<tab>PROMPT<tab>text'"
            raise DataError(what, where, "copy the corpus again")
        if utt in seen:
            raise DataError(f"'{utt}' stands twice", where, "remove one of the lines")
        seen.add(utt)
        if utt in audio:
            corpus.add(utt, prompt, int(match["take"]), text, audio[utt], where)
        else:
            corpus.skipped.append((utt, "no audio", where))
    for utt in sorted(audio.keys() - seen):
        corpus.skipped.append((utt, "no transcript", str(audio[utt])))
    return corpus


def read_release(folder: Path) -> Corpus:
    """Read the layout of the public release; readings of a prompt are numbered by their time."""
    corpus, takes = Corpus(), Counter()
    stems = {p.stem for end in ("wav", "txt") for p in folder.glob(f"arctic_*.{end}")}
    named = {stem: RELEASED.fullmatch(stem) for stem in stems}
    for stem in sorted(s for s, match in named.items() if match is None):
        corpus.skipped.append((stem, "name without prompt and time", str(folder)))
    ordered = sorted((m["prompt"], int(m["time"]), stem) for stem, m in named.items() if m)
    for prompt, _, stem in ordered:
        takes[prompt] += 1
        utt = f"{SPEAKER}-arctic_{prompt}-{takes[prompt]}"
        audio, source = folder / f"{stem}.wav", folder / f"{stem}.txt"
        if not source.is_file():
            corpus.skipped.append((utt, "no transcript", str(source)))
        elif not audio.is_file():
            corpus.skipped.append((utt, "no audio", str(audio)))
        else:
            text = " ".join(line for _, line in utf8_lines(source))
            corpus.add(utt, prompt, takes[prompt], text, audio, str(source))
    return corpus


def group_prompts(readings: list[Reading]) -> list[list[Reading]]:
    """Return groups that must not be torn apart, in an order that a hash decides.

    A group has all readings of a prompt, and all prompts of which two readings have the same
    words: now and then another sentence than the prompt's was read.
    """
    group: dict[str, str] = {}

    def first(key: str) -> str:
        while group.setdefault(key, key) != key:
            key = group[key]
        return key

    for r in readings:
        a, b = first(f"prompt {r.prompt}"), first(f"words {r.text}")
        group[max(a, b)] = min(a, b)
    members: dict[str, list[Reading]] = {}
    for r in readings:
        members.setdefault(first(f"prompt {r.prompt}"), []).append(r)
    return [members[name] for name in sorted(members, key=lambda n: (_hash(n), n))]


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def one_each(group: list[Reading]) -> list[Reading]:
    """Return the first reading of each prompt, and no words twice."""
    kept: list[Reading] = []
    for r in sorted(group, key=lambda r: (r.take, r.prompt)):
        if all(r.prompt != k.prompt and r.text != k.text for k in kept):
            kept.append(r)
    return kept


def take_minutes(groups: list[list[Reading]], minutes: float) -> list[Reading]:
    """Remove groups from the front of a list until they have so many minutes."""
    taken: list[Reading] = []
    while groups and sum(r.length_s for r in taken) < 60 * minutes:
        taken += groups.pop(0)
    return taken


def split(corpus: Corpus, args: argparse.Namespace) -> dict[str, list[Reading]]:
    """Return the readings of each set.

    Raises:
        DataError: The corpus is too small for these sets.
    """
    groups = group_prompts(corpus.readings)
    single = [one_each(group) for group in groups]
    test = take_minutes(single, args.test_minutes)
    del groups[: len(groups) - len(single)]
    dev = take_minutes(groups, args.dev_minutes)
    train = [r for g in groups for r in g]
    minutes = sum(r.length_s for r in train) / 60
    if not (test and dev and minutes > args.labelled_minutes):
        what = f"{minutes:.2f} minutes are left for training after {len(test)} utterances of test"
        raise DataError(f"{what} and {len(dev)} of dev", "--test-minutes, --dev-minutes",
                        "complete the copy of the corpus, or ask for less")  # fmt: skip
    sets = {"train": train, "dev": dev, "test": test}
    few = take_minutes(list(groups), args.labelled_minutes)
    sets[f"train_{args.labelled_minutes:g}min"] = few
    labelled = {r.utt for r in few}
    sets["train_rest"] = [r for r in train if r.utt not in labelled]
    for share in SHARES:
        sets[f"train_{share}"] = take_minutes(list(groups), share / 100 * minutes)
    return sets


def write(out: Path, corpus: Corpus, sets: dict[str, list[Reading]]) -> None:
    """Write the sets and skipped.tsv; tell the numbers."""
    used = {r.utt for name in ("train", "dev", "test") for r in sets[name]}
    further = [r for r in corpus.readings if r.utt not in used]
    skipped = [*corpus.skipped]
    skipped += [(r.utt, "further reading of a test prompt", r.prompt) for r in further]
    rows = {r.utt: r for r in corpus.readings}
    tables = {
        "wav.scp": {u: os.path.abspath(r.audio) for u, r in rows.items()},
        "text": {u: r.text for u, r in rows.items()},
        "utt2spk": dict.fromkeys(rows, SPEAKER),
    }
    for name, readings in sets.items():
        with_text = name != "train_rest"
        write_part(out / name, tables, {r.utt for r in readings}, with_text)
        print(f"{name}: {len(readings)} utterances, {sum(r.length_s for r in readings) / 60:.1f} "
              f"min, {len({r.prompt for r in readings})} prompts"
              f"{'' if with_text else ', no text'}")  # fmt: skip
    lines = ["utterance\treason\tdetail", *("\t".join(row) for row in skipped)]
    write_text(out / "skipped.tsv", "\n".join(lines) + "\n")
    note = "" if corpus.read == EXPECTED else f" (note: the whole corpus has {EXPECTED})"
    print(f"{corpus.read} utterances read, {len(used)} written to train, dev and test, "
          f"{len(further)} further readings of test prompts left out, {len(corpus.skipped)} not "
          f"usable{note}")  # fmt: skip
    for utt, reason, detail in corpus.skipped:
        print(f"  {utt}: {reason} ({detail})")


def options() -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UsageError: A number of minutes is not above 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--test-minutes", type=float, default=10.0)
    parser.add_argument("--dev-minutes", type=float, default=7.0)
    parser.add_argument("--labelled-minutes", type=float, default=10.0, help="of train_10min")
    parser.add_argument("--lexicon", action="store_true", help="lexicon.txt out of CMUdict")
    args = parser.parse_args()
    for name in ("test_minutes", "dev_minutes", "labelled_minutes"):
        if not 0 < getattr(args, name) < float("inf"):
            raise UsageError(f"{getattr(args, name):g} is no number of minutes",
                             f"--{name.replace('_', '-')}", "give a number above 0")  # fmt: skip
    return args


def main() -> None:
    """Write the sets and, if asked for, the lexicon."""
    args = options()
    given = os.environ.get("KATHLEEN")
    if not given:
        raise DataError("the path of the corpus is not set", "KATHLEEN", f"get it by: {SOURCE}")
    dictionary = find_dictionary() if args.lexicon else None  # before the audio is opened
    corpus = read_corpus(Path(given))
    sets = split(corpus, args)
    write(args.out, corpus, sets)
    if dictionary:
        texts = [r.text for name in ("train", "dev", "test") for r in sets[name]]
        write_lexicon(args.out, texts, dictionary)


if __name__ == "__main__":
    sys.exit(exit_code(main))
