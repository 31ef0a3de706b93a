# SPDX-License-Identifier: Apache-2.0
"""An IARPA Babel language pack into Kaldi-style folders train, dev, test, and a lexicon.

usage: python local/babel.py OUT --env VARIABLE [--train training|sub-train] [--dev-share X]
                             [--romanized] [--tags]

The variable names the folder that holds ``conversational/``. Test is the pack's own ``dev`` part;
dev is every n-th participant of the training part. What is written of the transcripts, after
Kaldi's Babel recipe where it has a rule:

* ``<sta>``, ``~``, ``<male-to-female>``, ``<female-to-male>``, ``<no-speech>`` and noises
  (``<breath>``, ``<cough>``, ``<laugh>``, ``<lipsmack>``, ``<click>``, ``<ring>``, ``<dtmf>``,
  ``<int>``, ``<noise>``) are removed: the aligner has optional silence for them.
* ``(())``, ``<foreign>``, ``<overlap>``, ``<prompt>`` become ``<spn>``: speech not written down.
* ``<hes>``, a hesitation, stays.
* ``*word*`` (mispronounced), ``word-`` (fragment), ``~word`` (cut off): a form that the lexicon
  has stays; else the marks are taken off one by one until it has; a fragment that it never has
  becomes ``<spn>``, another word stays without marks.

A segment that holds nothing but ``<spn>`` is left out, as Kaldi does.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from segmented import Lexicon, Segment, SegmentedSet, write_corpus

from espnet_ext.data.lines import utf8_lines
from espnet_ext.errors import DataError, UsageError, exit_code

REMOVED = {
    *("<sta>", "~", "<male-to-female>", "<female-to-male>", "<no-speech>", "<lipsmack>"),
    *("<breath>", "<cough>", "<laugh>", "<click>", "<ring>", "<dtmf>", "<int>", "<noise>"),
}
UNWRITTEN = {"(())", "<foreign>", "<overlap>", "<prompt>"}
SPOKEN, HESITATION = "<spn>", "<hes>"
OWN_PHONES = {SPOKEN: "SPN", HESITATION: "HES"}  # no pack uses these names
MARKS = "*~-"
TIME = re.compile(r"\[(\d+(?:\.\d*)?)\]")
FILE = re.compile(
    r"BABEL_[^_]+_\d+_(?P<code>[^_]+)_(?P<session>.+)_(?P<line>inLine|outLine|scripted)"
)
ENDINGS = (".sph", ".wav")


def find_corpus(variable: str) -> Path:
    """Return the folder ``conversational`` of the pack that the environment variable names."""
    if not (given := os.environ.get(variable)):
        raise DataError("the path of the language pack is not set", variable,
                        f"{variable}=/path/to/the/pack ./run.sh")  # fmt: skip
    root = Path(given)
    for folder in (root, root / "release-current", *sorted(root.glob("IARPA_BABEL_*"))):
        if (folder / "conversational/training").is_dir():
            return folder / "conversational"
    raise DataError("this is no Babel pack: there is no conversational/training", root,
                    f"set {variable} to the folder that holds conversational/")  # fmt: skip


def read_lexicon(path: Path, romanized: bool, tags: bool) -> Lexicon:
    """Read ``WORD<TAB>[romanised<TAB>]pronunciation<TAB>pronunciation...``.

    Args:
        path: ``reference_materials/lexicon.txt``.
        romanized: The second column is a romanised form.
        tags: Give each phone the stress and tone marks of its syllable, as Kaldi does; otherwise
            they are dropped, as a phone set several times as large needs as many more data.

    Raises:
        DataError: A line has no pronunciation, or one without phones.
    """
    if not path.is_file():
        raise DataError("the pack's lexicon is missing", path, "complete the copy")
    lexicon: Lexicon = {}
    for number, line in utf8_lines(path):
        word, *columns = (c.strip() for c in line.split("\t"))
        prons = [_phones(c, tags) for c in columns[int(romanized) :] if c]
        if not word or " " in word or not prons or not all(prons):
            shape = "WORD<TAB>romanised<TAB>phones" if romanized else "WORD<TAB>phones"
            raise DataError(f"the line is not {shape}", f"{path}:{number}",
                            "copy the file again, or check --romanized")  # fmt: skip
        known = lexicon.setdefault(word, [])
        known += [p for p in dict.fromkeys(prons) if p not in known]
    for word, phone in OWN_PHONES.items():
        lexicon.setdefault(word, [(phone,)])
    return lexicon


def _phones(pronunciation: str, tags: bool) -> tuple[str, ...]:
    phones: list[str] = []
    for syllable in re.sub(r"(?<!\S)[.#](?!\S)", "\n", pronunciation).split("\n"):
        symbols = syllable.split()
        marks = [s for s in symbols if s in ('"', "%") or s.startswith("_")]
        suffix = "".join("_" + m.lstrip("_") for m in marks) if tags else ""
        phones += [s + suffix for s in symbols if s not in marks]
    return tuple(phones)


def clean(line: str, lexicon: Lexicon) -> str:
    """Return the words of a transcript line; empty if it holds no word but ``<spn>``."""
    words = []
    for token in line.split():
        if token in REMOVED:
            continue
        words.append(SPOKEN if token in UNWRITTEN else _word(token, lexicon))
    words = [w for w in words if w]
    return " ".join(words) if any(w != SPOKEN for w in words) else ""


def _word(token: str, lexicon: Lexicon) -> str:
    if token in lexicon:
        return token
    bare = token
    while bare and (bare[0] in MARKS or bare[-1] in MARKS):
        bare = bare[:-1] if bare[-1] in MARKS else bare[1:]
        if bare in lexicon:
            return bare
    if not bare:
        return ""
    edge = token.strip("*~")
    return SPOKEN if edge.startswith("-") or edge.endswith("-") else bare


def read_part(root: Path, part: str, name: str, lexicon: Lexicon) -> SegmentedSet:
    """Read ``transcription`` and ``audio`` of a part; a recording without audio is skipped."""
    made = SegmentedSet(name)
    folder = root / part / "transcription"
    files = sorted(folder.glob("*.txt"))
    if not files:
        raise DataError("there is no transcription", folder, "complete the copy")
    for path in files:
        match = FILE.fullmatch(path.stem)
        if match is None:
            shape = "BABEL_<phase>_<language>_<participant>_<date>_<time>_<line>"
            how = "keep the pack's own file names; the line is inLine, outLine or scripted"
            raise DataError(f"the name is not {shape}", path, how)
        audio = _audio(root, part, path.stem)
        if audio is None:
            made.skip(path, "recording without audio")
            continue
        made.open(path.stem, audio)
        _read_transcript(made, path, match, lexicon)
    return made


def _audio(root: Path, part: str, stem: str) -> Path | None:
    # sub-train is a selection of training, and some packs hold its audio there only.
    folders = [root / part / "audio", root / "training/audio"]
    found = [p for f in folders for e in ENDINGS if (p := f / (stem + e)).is_file()]
    return found[0] if found else None


def _read_transcript(made: SegmentedSet, path: Path, name: re.Match, lexicon: Lexicon) -> None:
    """Read alternating lines ``[seconds]`` and text."""
    # outLine is whoever the participant talked to; Kaldi's ids, which sort by speaker.
    speaker = f"{name['code']}_{'B' if name['line'] == 'outLine' else 'A'}"
    last_s: float | None = None
    text: list[str] | None = None
    for number, line in utf8_lines(path):
        where = f"{path}:{number}"
        if (match := TIME.fullmatch(line)) is None:
            if last_s is None or line.startswith("["):
                raise DataError("the line is not a time in brackets", where, "correct the file")
            text = [*(text or []), clean(line, lexicon)]
            continue
        now_s = float(match[1])
        if last_s is not None and now_s < last_s:
            raise DataError(f"time goes back from {last_s:g} s to {now_s:g} s", where,
                            "correct the file")  # fmt: skip
        if text is not None:
            utt = f"{speaker}_{name['session']}_{round(last_s * 100):06d}"
            words = " ".join(t for t in text if t)
            made.add(Segment(utt, path.stem, speaker, last_s, now_s, words, where))
        last_s, text = now_s, None
    if text is not None:
        raise DataError("the last text has no end time", path, "copy the file again")


def split_participants(made: SegmentedSet, share: float) -> SegmentedSet:
    """Move every n-th participant (both lines of their calls) into a new set ``dev``."""
    dev = SegmentedSet("dev", made.audio, made.length_s)
    codes = sorted({s.speaker.split("_")[0] for s in made.segments.values()})
    step = max(2, round(1 / share))
    chosen = set(codes[step - 1 :: step]) or set(codes[-1:])
    dev.segments = {u: s for u, s in made.segments.items() if s.speaker.split("_")[0] in chosen}
    made.segments = {u: s for u, s in made.segments.items() if u not in dev.segments}
    return dev


def main() -> None:
    """Write the sets and the lexicon."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--env", required=True, help="variable with the path of the pack")
    parser.add_argument("--train", choices=("training", "sub-train"), default="training")
    parser.add_argument("--dev-share", type=float, default=0.05, help="of the participants")
    parser.add_argument("--romanized", action="store_true", help="the lexicon has such a column")
    parser.add_argument("--tags", action="store_true", help="keep stress and tone on phones")
    args = parser.parse_args()
    if not 0 < args.dev_share <= 0.5:
        raise UsageError(f"{args.dev_share} is no share of the participants", "--dev-share",
                         "give a number above 0, at most 0.5")  # fmt: skip
    root = find_corpus(args.env)
    lexicon = read_lexicon(root / "reference_materials/lexicon.txt", args.romanized, args.tags)
    train = read_part(root, args.train, "train", lexicon)
    sets = [train, split_participants(train, args.dev_share)]
    sets.append(read_part(root, "dev", "test", lexicon))
    write_corpus(args.out, sets, lexicon)


if __name__ == "__main__":
    sys.exit(exit_code(main))
