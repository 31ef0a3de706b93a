# SPDX-License-Identifier: Apache-2.0
"""TED-LIUM release 2 into Kaldi-style folders train, dev, test with segments, and a lexicon.

usage: python local/tedlium2.py OUT [--downloads DIR] [--start-padding S] [--end-padding S]

TEDLIUM2=/path names an existing copy; otherwise it is downloaded. The texts are those of ESPnet's
recipe: pronunciation marks "(2)", "<sil>" and the utterance's name at the end of a line are
removed, a token that starts with an apostrophe joins the word before it ("didn 't", "it 's"), and
"<unk>" stays, as it stands for a spoken word. Marks of noise, {NOISE} or [NOISE], are removed
here, as the aligner has optional silence for them. A talk is a speaker.
"""

import argparse
import os
import re
import shutil
import sys
from itertools import pairwise, product
from pathlib import Path

from segmented import Lexicon, Segment, SegmentedSet, write_corpus

from espnet_ext.data.download import extract, fetch
from espnet_ext.data.lines import utf8_lines
from espnet_ext.errors import DataError, SetupError, exit_code
from espnet_ext.recipe.console import Progress

URL = "https://www.openslr.org/resources/19/TEDLIUM_release2.tar.gz"
SHA256 = "93281b5fcaaae5c88671c9d000b443cb3c7ea3499ad12010b3934ca41a7b9c58"  # as torchaudio has it
DOWNLOAD_GB = 75  # archive and its content
FOLDER, DICTIONARY = "TEDLIUM_release2", "TEDLIUM.152k.dic"
# Training segments as others count them; dev and test as Kaldi scores them (ESPnet leaves long and
# short utterances of dev out and has 466).
EXPECTED = {"train": 92973, "dev": 507, "test": 1155}
IGNORED = "ignore_time_segment_in_scoring"
UNKNOWN, UNKNOWN_PHONE = "<unk>", "NSN"
LINE = re.compile(
    r"(?P<talk>\S+)\s+(?P<channel>\S+)\s+(?P<speaker>\S+)\s+(?P<start>\d+(?:\.\d*)?)\s+"
    r"(?P<end>\d+(?:\.\d*)?)\s+<[^<>\s]*>(?:\s+(?P<text>.*))?"
)
MARK = re.compile(r"\{[^\s{}]*\}|\[[^\s\[\]]*\]|<sil>")
VARIANT, NAME_AT_END = re.compile(r"\([0-9]\)"), re.compile(r"\(\S*\)$")

Joined = dict[str, tuple[str, str]]


def find_corpus(downloads: Path) -> Path:
    """Return the folder that holds train, dev and test; download it if TEDLIUM2 is not set."""
    given = os.environ.get("TEDLIUM2")
    root = Path(given) if given else downloads / "tedlium2"
    if not given and not root.is_dir():
        archive = downloads / "TEDLIUM_release2.tar.gz"
        downloads.mkdir(parents=True, exist_ok=True)
        free_gb = shutil.disk_usage(downloads).free / 1e9
        if not archive.exists() and free_gb < DOWNLOAD_GB:
            what = f"archive and content need {DOWNLOAD_GB} GB, and {free_gb:.0f} GB are free"
            raise SetupError(what, downloads, "free some space")
        fetch(URL, archive, sha256=SHA256, progress=Progress("TED-LIUM 2", "bytes"))
        extract(archive, root)
    for folder in (root / FOLDER, root):
        if (folder / "train/stm").is_dir() and (folder / DICTIONARY).is_file():
            return folder
    raise DataError(f"this is not TED-LIUM 2: there is no train/stm with {DICTIONARY}", root,
                    f"set TEDLIUM2 to the folder that holds {FOLDER}")  # fmt: skip


def clean(text: str, joined: Joined) -> str:
    """Return the words of a transcript; what was joined goes into ``joined`` with its parts."""
    text = NAME_AT_END.sub("", VARIANT.sub("", text).rstrip())
    words: list[str] = []
    free = False  # a word takes one suffix, as in ESPnet's recipe
    for token in text.split():
        if MARK.fullmatch(token):
            continue
        if token.startswith("'") and free:
            joined[words[-1] + token] = (words[-1], token)
            words[-1] += token
            free = False
        else:
            words.append(token)
            free = True
    return " ".join(words)


def read_set(root: Path, name: str, joined: Joined) -> SegmentedSet:
    """Read ``stm`` and ``sph`` of a set; a talk without stm is listed as skipped."""
    made = SegmentedSet(name)
    stms = sorted((root / name / "stm").glob("*.stm"))
    if not stms:
        raise DataError("there is no stm file", root / name / "stm", "complete the copy")
    for stm in stms:
        sph = root / name / "sph" / f"{stm.stem}.sph"
        made.open(stm.stem, sph)
        for number, line in utf8_lines(stm):
            if not line.startswith(";;"):
                _read_line(made, f"{stm}:{number}", stm.stem, line, joined)
    for sph in sorted((root / name / "sph").glob("*.sph")):
        if sph.stem not in made.audio:
            made.skip(sph, "talk without stm")
    return made


def _read_line(made: SegmentedSet, where: str, talk: str, line: str, joined: Joined) -> None:
    match = LINE.fullmatch(line)
    if match is None or match["talk"] != talk:
        raise DataError("the line is not 'talk channel speaker start end <label> text' of "
                        f"talk {talk}", where, "copy or download the file again")  # fmt: skip
    if (match["text"] or "").strip() == IGNORED:
        made.skip(where, "not to be scored")
        return
    start_s, end_s = float(match["start"]), float(match["end"])
    utt = f"{talk}-{round(start_s * 100):07d}-{round(end_s * 100):07d}"
    text = clean(match["text"] or "", joined)
    made.add(Segment(utt, talk, talk, start_s, end_s, text, where))


def pad(made: SegmentedSet, start_padding_s: float, end_padding_s: float) -> None:
    """Move segment ends outwards, into gaps only: training segments are cut close to the words.

    ESPnet's and Kaldi's recipes pad by 0.15 s and 0.1 s. A gap shorter than both is shared.
    """
    talks: dict[str, list[Segment]] = {}
    for segment in made.segments.values():
        talks.setdefault(segment.recording, []).append(segment)
    both = start_padding_s + end_padding_s
    for segments in talks.values():
        segments.sort(key=lambda s: s.start_s)
        # Times before any change: a segment's new end must not count as its neighbour's gap.
        gaps = [b.start_s - a.end_s for a, b in pairwise(segments)]
        segments[0].start_s = max(0.0, segments[0].start_s - start_padding_s)
        for (a, b), gap in zip(pairwise(segments), gaps, strict=True):
            share = min(1.0, max(0.0, gap) / both) if both else 0.0
            a.end_s += share * end_padding_s
            b.start_s -= share * start_padding_s
        last = segments[-1]
        last.end_s = min(last.end_s + end_padding_s, made.length_s[last.recording])


def read_dictionary(path: Path) -> Lexicon:
    """Read lines ``word phone ...`` and ``word(2) phone ...``; entries of noises are left out."""
    lexicon: Lexicon = {}
    empty = 0
    for number, line in utf8_lines(path):
        word, *phones = line.split()
        word = VARIANT.sub("", word)
        if not word:
            raise DataError("the line has no word", f"{path}:{number}", "copy the file again")
        if word in ("<s>", "</s>", UNKNOWN) or MARK.fullmatch(word):
            continue
        if not phones:
            empty += 1
        elif tuple(phones) not in lexicon.setdefault(word, []):
            lexicon[word].append(tuple(phones))
    if empty:
        print(f"lexicon: {empty} entries of {path.name} have no phones and are left out")
    return {word: prons for word, prons in lexicon.items() if prons}


def complete(lexicon: Lexicon, joined: Joined) -> int:
    """Add "<unk>", and joined words that lack an entry whose parts have one; return their number.

    ``<unk>`` is spoken, hence has a phone of its own rather than silence.
    """
    lexicon[UNKNOWN] = [(UNKNOWN_PHONE,)]
    made = {
        word: [a + b for a, b in product(lexicon[first], lexicon[second])]
        for word, (first, second) in joined.items()
        if word not in lexicon and first in lexicon and second in lexicon
    }
    lexicon.update(made)
    return len(made)


def main() -> None:
    """Write the sets and the lexicon."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--start-padding", type=float, default=0.15, help="of train, in seconds")
    parser.add_argument("--end-padding", type=float, default=0.1, help="of train, in seconds")
    args = parser.parse_args()
    root, joined = find_corpus(args.downloads), {}
    lexicon = read_dictionary(root / DICTIONARY)
    sets = [read_set(root, name, joined) for name in EXPECTED]
    pad(sets[0], args.start_padding, args.end_padding)
    composed = complete(lexicon, joined)
    write_corpus(args.out, sets, lexicon, EXPECTED, f", {composed} words composed")


if __name__ == "__main__":
    sys.exit(exit_code(main))
