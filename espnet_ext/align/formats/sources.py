# SPDX-License-Identifier: Apache-2.0
"""The table of formats: alignments of any origin, read into utterances and written from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from espnet_ext.align.formats import audacity, ctm, elan, jsonl, textgrid
from espnet_ext.align.formats.directory import AlignmentDir, Header
from espnet_ext.align.formats.tiers import (
    PHONES,
    TIERS,
    WORDS,
    Losses,
    Tier,
    TierOf,
    Utterance,
    Utterances,
    last_end_s,
)
from espnet_ext.errors import DataError, UsageError

Render = Callable[[Utterance, Losses], dict[str, str]]
TRIED = 20  # utterances that are looked at for which tiers there are
FILE, SHARED, EACH = "one file", "a folder of files of all utterances", "a file for an utterance"


@dataclass(frozen=True)
class Format:
    """A form of alignments on disk.

    Args:
        about: What it is, for help.
        layout: What a writer makes: FILE, SHARED or EACH.
        render: Texts of an utterance: under "" with FILE, under file names with SHARED, under
            endings of its own files with EACH. None: ``train`` writes it, or an importer.
        fits: Whether a path is of this form.
        read: Utterances of a path, by name; they are read when asked for.
        lengths: Whether its files tell the lengths of utterances; else ``utt2dur`` does.
    """

    about: str
    layout: str
    render: Render | None
    fits: Callable[[Path], bool]
    read: Callable[[Path], Mapping[str, Utterance]]
    lengths: bool = True


def _directory(path: Path) -> Mapping[str, Utterance]:
    a = AlignmentDir(path)

    def load(utt: str, _: None) -> Utterance:
        tiers = {WORDS: a.words[utt], PHONES: a.phones[utt]}
        frames = a.scores[utt].frames if utt in a.scores else len(a.labels(utt))
        return Utterance(utt, max(frames * a.header.frame_shift_s, last_end_s(tiers)), tiers)

    return Utterances(dict.fromkeys(a.utts), load)


def _holds(ending: str) -> Callable[[Path], bool]:
    def fits(path: Path) -> bool:
        if path.is_dir():
            return next(path.rglob("*" + ending), None) is not None
        return path.name.endswith(ending)

    return fits


def _is_manifest(path: Path) -> bool:
    path = path / "manifest.jsonl" if path.is_dir() else path
    return path.is_file() and path.name.endswith((".jsonl", ".jsonl.gz"))


def _lines(path: Path) -> Mapping[str, Utterance]:
    return jsonl.read(path / "manifest.jsonl" if path.is_dir() else path)


# The first that fits a path is taken: an alignment directory has CTM files and TextGrids, too.
FORMATS: dict[str, Format] = {
    "align": Format(
        "alignment directory of 'espnet-ext align'", EACH, None,
        lambda p: (p / "header.json").is_file(), _directory,
    ),
    "jsonl": Format("JSON lines", FILE, jsonl.render, _is_manifest, _lines),
    "lhotse": Format(
        "lhotse's supervisions with alignment", FILE, jsonl.render_lhotse,
        lambda p: _is_manifest(p) and p.is_file() and jsonl.is_lhotse(p), _lines,
    ),
    "textgrid": Format(
        "Praat's TextGrids", EACH, textgrid.render, _holds(textgrid.SUFFIX), textgrid.read
    ),
    "textgrid-short": Format(
        "the same in the short form", EACH, partial(textgrid.render, short=True),
        _holds(textgrid.SUFFIX), textgrid.read,
    ),
    "elan": Format("ELAN's .eaf files", EACH, elan.render, _holds(elan.ENDING), elan.read),
    "ctm": Format(
        "words.ctm and phones.ctm", SHARED, ctm.render,
        lambda p: p.suffix == ctm.ENDING or any((p / f"{t}{ctm.ENDING}").is_file() for t in TIERS),
        ctm.read, lengths=False,
    ),
    "audacity": Format(
        "Audacity's labels", EACH, audacity.render,
        lambda p: any(_holds(e)(p) for e in audacity.ENDINGS.values()), audacity.read,
        lengths=False,
    ),
}  # fmt: skip
WRITTEN = tuple(name for name, form in FORMATS.items() if form.render)


@dataclass(frozen=True)
class Source:
    """An alignment to compare, to import or to write in another format.

    Args:
        name: Where it lies.
        utterances: By name, read when asked for.
        phones: Phones by utterance; None if it has none.
        words: Words by utterance; None if it has none.
        directory: The alignment directory, where it is one.
    """

    name: str
    utterances: Mapping[str, Utterance]
    phones: Tier | None
    words: Tier | None
    directory: AlignmentDir | None = None

    @property
    def utts(self) -> tuple[str, ...]:
        """Names of its utterances."""
        return tuple(self.utterances)

    @property
    def header(self) -> Header | None:
        """The header of an alignment directory."""
        return self.directory.header if self.directory else None


def open_alignment(path: Path | str | AlignmentDir, form: str = "") -> Source:
    """Open an alignment of any known form.

    Args:
        path: Folder or file.
        form: Name of its format; default: the one that it looks like.

    Raises:
        UsageError: The form is not known.
        DataError: A file is missing or not usable.
    """
    path = path.path if isinstance(path, AlignmentDir) else Path(path)
    if not path.exists():
        raise DataError("there is no such alignment", path)
    form = form or format_of(path)
    utterances = FORMATS[form].read(path)
    if form == "align":
        a = AlignmentDir(path)
        return Source(str(path), utterances, a.phones, a.words, a)
    there = _tiers_in(utterances)
    tiers = {t: TierOf(utterances, t) if t in there else None for t in TIERS}
    return Source(str(path), utterances, tiers[PHONES], tiers[WORDS])


def made_in(folder: Path) -> Path:
    """Return the alignment in what 'align train' or 'align apply' made, else the folder itself."""
    inner = folder / "alignment"
    return inner if (inner / "header.json").is_file() else folder


def format_of(path: Path) -> str:
    """Return the name of the format that a path looks like.

    Raises:
        UsageError: None fits.
    """
    for name, form in FORMATS.items():
        if form.fits(path):
            return name
    known = "; ".join(f"{name}: {form.about}" for name, form in FORMATS.items())
    raise UsageError("not a readable alignment", path, f"known are {known}")


def _tiers_in(utterances: Mapping[str, Utterance]) -> set[str]:
    """Return the tiers of the first utterances that can be read; all if none can."""
    found: set[str] = set()
    for utt in islice(utterances, TRIED):
        try:
            found |= utterances[utt].tiers.keys()
        except DataError:
            continue  # whoever needs it will tell
    return found or set(TIERS)
