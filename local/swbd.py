# SPDX-License-Identifier: Apache-2.0
"""Switchboard-1 and Hub5e_00 (eval2000) as Kaldi-style folders with segments, 8 kHz.

usage: python local/swbd.py OUT [--sides DIR] [--labelled-fraction F] [--dev N] [--max-repeats N]
                                [--window-s S] [--keep-hesitations] [--no-eval2000]

SWBD=/path is LDC97S62, SWBD_TRANSCRIPTS=/path the MS-State transcripts (looked for below SWBD if it
is not set), EVAL2000=/path LDC2002S09 and EVAL2000_TRANSCRIPTS=/path LDC2002T43 (looked for below
EVAL2000 if it is not set). Each side of a call becomes a mono file in the folder of --sides.

Whole calls, chosen by a hash of their number, are labelled; the others, unlabelled, lose their
text. dev is the first calls that hold N utterances together. The test sets are eval2000_swbd and
eval2000_callhome. What is written of the transcripts: see swbd_text.py.
"""

import argparse
import os
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from segmented import Segment, SegmentedSet, write_skipped
from swbd_text import clean, clean_stm

from espnet_ext.data.audio import open_audio
from espnet_ext.data.labelled import choose_labelled
from espnet_ext.data.lines import utf8_lines
from espnet_ext.data.origin import is_of, origin_of, write_of
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.installation import install
from espnet_ext.paths import absolute
from espnet_ext.recipe.console import Progress

SIDES = ("A", "B")
DEV_UTTERANCES = 4000  # Kaldi's number; it cuts through the call that holds the last of them
IGNORED = "ignore_time_segment_in_scoring"
TRANSCRIPT = re.compile(r"sw(?P<call>\d{4})(?P<side>[AB])-ms98-a-trans\.text")
CALL_FILE = re.compile(r"sw0?(?P<call>\d{4})\.(?:sph|wav|flac)", re.IGNORECASE)
LINE = re.compile(
    r"sw(?P<name>\d{4}[AB])-ms98-a-\d+\s+(?P<start>\d+(?:\.\d*)?)\s+(?P<end>\d+(?:\.\d*)?)"
    r"(?:\s+(?P<text>.*))?"
)
STM_LINE = re.compile(
    r"(?P<file>\S+)\s+(?P<side>[AB12])\s+\S+\s+(?P<start>\d+(?:\.\d*)?)\s+(?P<end>\d+(?:\.\d*)?)"
    r"(?:\s+<[^<>=]*>)?(?:\s+(?P<text>.*))?"
)
ENDINGS = (".wav", ".flac", ".sph")  # a converted copy comes before the original
UNREADABLE = (
    f"{install('desphere')}; sph2wav FILE writes a .wav beside it, which is taken instead "
    "(sph2pipe -f wav FILE FILE.wav does the same)"
)


def folder_of(name: str, what: str, required: bool = True) -> Path | None:
    """Return the folder that an environment variable names, from where run.sh was called."""
    if not (given := os.environ.get(name)):
        if required:
            raise DataError(f"the path of {what} is not set", name, f"{name}=/path ./run.sh")
        return None
    path = absolute(given)
    if not path.is_dir():
        raise DataError(f"{name} is not a folder", path, f"give the folder of {what}")
    return path


def find_calls(root: Path) -> dict[str, Path]:
    """Return ``{call, e.g. 2001: audio file}`` of all folders below ``root``."""
    found: dict[str, Path] = {}
    for path in sorted(root.rglob("*")):
        if match := CALL_FILE.fullmatch(path.name):
            old = found.setdefault(match["call"], path)
            if ENDINGS.index(path.suffix.lower()) < ENDINGS.index(old.suffix.lower()):
                found[match["call"]] = path
    if not found:
        how = "set SWBD to the folder of LDC97S62; its audio is swb1_d1/data/sw02001.sph and so on"
        raise DataError("this is not Switchboard-1: there is no sw0NNNN.sph", root, how)
    return found


def find_transcripts(root: Path) -> dict[str, dict[str, Path]]:
    """Return ``{call: {side: transcript}}``; a call must have both."""
    found: dict[str, dict[str, Path]] = {}
    for path in sorted(root.rglob("sw*-ms98-a-trans.text")):
        if match := TRANSCRIPT.fullmatch(path.name):
            found.setdefault(match["call"], {})[match["side"]] = path
    how = (
        "set SWBD_TRANSCRIPTS to the folder that holds swb_ms98_transcriptions: "
        "switchboard_word_alignments.tar.gz of https://www.openslr.org/5"
    )
    if not found:
        raise DataError("there is no swNNNN[AB]-ms98-a-trans.text", root, how)
    for paths in found.values():
        if len(paths) < len(SIDES):
            raise DataError("the transcript of the other side is missing", *paths.values(), how)
    return found


def split_sides(audio: Path, name: str, out: Path) -> dict[str, Path]:
    """Write ``out/NAME-A.wav`` and ``out/NAME-B.wav`` unless they are there; return the paths.

    Mu-law stays mu-law, so that nothing is lost and a side takes half of the room of a call.

    Raises:
        DataError: Not readable (compressed with shorten, truncated), or not two channels at 8 kHz.
    """
    paths = {side: out / f"{name}-{side}.wav" for side in SIDES}
    try:
        with open_audio(audio) as f:
            if (f.channels, f.samplerate) != (2, 8000):
                what = f"{f.channels} channel(s) at {f.samplerate} Hz, not 2 at 8000 Hz"
                raise DataError(what, audio, "copy the file again: a side of a call is a channel")
            origin = origin_of(audio)
            if all(is_of(p, origin) for p in paths.values()):
                return paths
            samples = f.read(dtype="int16")
            subtype = "ULAW" if f.subtype == "ULAW" else "PCM_16"
    except DataError as e:
        raise DataError(e.what, e.where, UNREADABLE if "shorten" in e.what else e.how) from None
    for channel, path in enumerate(paths.values()):
        write_of(path, samples[:, channel], 8000, subtype, "WAV", origin)
    return paths


@dataclass(frozen=True)
class Options:
    """What the command line says; see the usage."""

    out: Path
    sides: Path
    labelled_fraction: float
    dev: int
    max_repeats: int
    window_s: float
    keep_hesitations: bool
    no_eval2000: bool


def read_calls(
    calls: dict[str, Path], transcripts: dict[str, dict[str, Path]], args: Options
) -> SegmentedSet:
    """Read all calls that have audio and transcript; the others are listed as skipped."""
    made = SegmentedSet("all")
    for call in sorted(calls.keys() - transcripts.keys()):
        made.skip(calls[call], "call without transcript")
    show = Progress("sides of calls", "calls")
    for done, (call, texts) in enumerate(sorted(transcripts.items()), 1):
        if call not in calls:
            made.skip(next(iter(texts.values())), "call without audio")
            continue
        sides = split_sides(calls[call], f"sw0{call}", args.sides)
        for side, source in texts.items():
            made.open(f"sw0{call}-{side}", sides[side])
            for number, line in utf8_lines(source):
                _read_line(made, f"{source}:{number}", call + side, line, args)
        show(done, len(transcripts))
    return made


def _read_line(made: SegmentedSet, where: str, name: str, line: str, args: Options) -> None:
    match = LINE.fullmatch(line)
    if match is None or match["name"] != name:
        what = f"the line is not 'sw{name}-ms98-a-NUMBER start end words'"
        raise DataError(what, where, "copy or download the transcripts again")
    side = f"sw0{name[:-1]}-{name[-1]}"
    text = clean(match["text"] or "", args.keep_hesitations)
    made.add(_segment(side, float(match["start"]), float(match["end"]), text, where))


def _segment(side: str, start_s: float, end_s: float, text: str, where: str = "") -> Segment:
    # Kaldi's ids; a side of a call counts as a speaker.
    utt = f"{side}_{round(start_s * 100):06d}-{round(end_s * 100):06d}"
    return Segment(utt, side, side, start_s, end_s, text, where)


def call_of(segment: Segment) -> str:
    """Return the call of a segment: both sides of it stay together."""
    return segment.recording.rpartition("-")[0]


def divide(made: SegmentedSet, args: Options) -> tuple[SegmentedSet, SegmentedSet, SegmentedSet]:
    """Return labelled, unlabelled and dev: no call is in two of them."""
    sizes = Counter(call_of(s) for s in made.segments.values())
    wanted, held = min(args.dev, len(made.segments) // 10), 0  # small trees have fewer
    dev_calls: set[str] = set()
    for call in sorted(sizes):
        if held >= wanted and dev_calls:
            break
        dev_calls.add(call)
        held += sizes[call]
    others = dict.fromkeys(sorted(sizes.keys() - dev_calls), "all")
    chosen = choose_labelled(others, args.labelled_fraction)
    sets = []
    for name, calls in (
        ("labelled", chosen), ("unlabelled", others.keys() - chosen), ("dev", dev_calls)
    ):  # fmt: skip
        part = SegmentedSet(name, made.audio, made.length_s)
        part.segments = {u: s for u, s in made.segments.items() if call_of(s) in calls}
        if not part.segments:
            how = "another --labelled-fraction or --dev; with fewer than three calls there is none"
            raise DataError(f"no call is left for {name}", "--labelled-fraction, --dev", how)
        sets.append(part)
    return tuple(sets)


def drop_repeats(made: SegmentedSet, most: int) -> None:
    """Leave out utterances whose text stood ``most`` times before ("yeah"), as Kaldi does."""
    seen: Counter[str] = Counter()
    for utt in sorted(made.segments):
        segment = made.segments[utt]
        seen[segment.text] += 1
        if seen[segment.text] > most:
            made.skip(segment.where, "repeated text", utt)
            del made.segments[utt]


def cut_windows(made: SegmentedSet, window_s: float) -> None:
    """Replace the segments by equal windows over whole sides, which needs no transcript."""
    windows = {}
    for side in sorted({s.recording for s in made.segments.values()}):
        count = max(1, int(made.length_s[side] / window_s))
        step_s = made.length_s[side] / count
        for i in range(count):
            segment = _segment(side, i * step_s, (i + 1) * step_s, "")
            windows[segment.utt] = segment
    made.segments = windows


def read_eval2000(args: Options) -> list[SegmentedSet]:
    """Read Hub5e_00 English: its Switchboard calls (sw_*) and its CallHome calls (en_*)."""
    audio_root = folder_of("EVAL2000", "LDC2002S09 (or give --no-eval2000)")
    text_root = folder_of("EVAL2000_TRANSCRIPTS", "LDC2002T43", required=False) or audio_root
    stms = sorted(text_root.rglob("hub5e00.english.000405.stm"))
    if not stms:
        how = "set EVAL2000_TRANSCRIPTS to the folder of LDC2002T43"
        raise DataError("there is no hub5e00.english.000405.stm", text_root, how)
    names = {"sw": "eval2000_swbd", "en": "eval2000_callhome"}
    sets = {key: SegmentedSet(name) for key, name in names.items()}
    for number, line in utf8_lines(stms[0]):
        where = f"{stms[0]}:{number}"
        if line.startswith(";;"):
            continue
        match = STM_LINE.fullmatch(line)
        if match is None or (made := sets.get(match["file"][:2].lower())) is None:
            what = "the line is not 'sw_NNNN|en_NNNN A|B speaker start end <label> words'"
            raise DataError(what, where, "copy the file again")
        side = f"{match['file']}-{SIDES['AB12'.index(match['side']) % 2]}"
        if side not in made.audio:
            _open_eval(made, audio_root, match["file"], args.sides)
        if (match["text"] or "").strip().lower() == IGNORED:
            made.skip(where, "not to be scored")
            continue
        text = clean_stm(match["text"] or "", args.keep_hesitations)
        made.add(_segment(side, float(match["start"]), float(match["end"]), text, where))
    return list(sets.values())


def _open_eval(made: SegmentedSet, root: Path, name: str, sides: Path) -> None:
    found = [p for e in ENDINGS for p in sorted(root.rglob(name + e))]
    if not found:
        how = "set EVAL2000 to the folder of LDC2002S09, which holds hub5e_00/english"
        raise DataError(f"the audio of {name} is missing", root, how)
    for side, path in split_sides(found[0], name, sides).items():
        made.open(f"{name}-{side}", path)


def options() -> Options:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sides", type=Path, default=Path("downloads/sides"))
    parser.add_argument("--labelled-fraction", type=float, default=0.33)
    parser.add_argument("--dev", type=int, default=DEV_UTTERANCES, help="utterances, about")
    parser.add_argument("--max-repeats", type=int, default=300, help="of a text, when labelled")
    parser.add_argument("--window-s", type=float, default=0.0, help="cut unlabelled sides equally")
    parser.add_argument("--keep-hesitations", action="store_true")
    parser.add_argument("--no-eval2000", action="store_true")
    args = Options(**vars(parser.parse_args()))
    for name, good in (("dev", args.dev >= 1), ("max-repeats", args.max_repeats >= 1),
                       ("window-s", args.window_s == 0 or args.window_s >= 1)):  # fmt: skip
        if not good:
            raise UsageError("the value is too small", f"--{name}", "give 1 or more")
    return args


def main() -> None:
    """Write the sets."""
    args = options()
    root = folder_of("SWBD", "LDC97S62")
    texts = folder_of("SWBD_TRANSCRIPTS", "the transcripts", required=False) or root
    calls, transcripts = find_calls(root), find_transcripts(texts)
    tests = [] if args.no_eval2000 else read_eval2000(args)
    made = read_calls(calls, transcripts, args)
    labelled, unlabelled, dev = divide(made, args)
    drop_repeats(labelled, args.max_repeats)
    if args.window_s:
        cut_windows(unlabelled, args.window_s)
    for part in (labelled, unlabelled, dev, *tests):
        part.write(args.out)
    (args.out / "unlabelled/text").unlink()
    write_skipped(args.out, [made, labelled, *tests])
    parts = (labelled, unlabelled, dev)
    shares = [f"{len({call_of(s) for s in p.segments.values()})} {p.name}" for p in parts]
    lost = Counter(reason for _, reason, _ in made.skipped)
    why = ", ".join(f"{n} {reason}" for reason, n in sorted(lost.items()))
    print(f"calls: {', '.join(shares)}; {made.read} entries read, {len(made.skipped)} skipped"
          f"{': ' + why if why else ''} (list: skipped.tsv)")  # fmt: skip


if __name__ == "__main__":
    sys.exit(exit_code(main))
