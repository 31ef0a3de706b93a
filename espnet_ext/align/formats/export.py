# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext align export``: an alignment of any known form, written in another format."""

import argparse
import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from espnet_ext.align.formats.segmented import read_segments
from espnet_ext.align.formats.sources import (
    EACH,
    FILE,
    FORMATS,
    WRITTEN,
    Format,
    Source,
    made_in,
    open_alignment,
)
from espnet_ext.align.formats.tiers import (
    LENGTHS,
    NAMES,
    Losses,
    Utterance,
    file_name,
    write_name,
)
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import atomic_dir, atomic_path

SHOWN = 5


@dataclass
class Exported:
    """What an export did.

    Args:
        utterances: How many were written.
        losses: What the format could not hold.
        failed: Utterances that were left out, and why.
    """

    utterances: int = 0
    losses: Losses = field(default_factory=Losses)
    failed: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return lines for a person."""
        n = self.utterances
        rows = [f"{n:,} utterance{'' if n == 1 else 's'} written", *self.losses.lines()]
        if self.failed:
            shown = [f"{u} ({why})" for u, why in list(self.failed.items())[:SHOWN]]
            more = "; ..." if len(self.failed) > SHOWN else ""
            rows.append(f"left out: {len(self.failed):,}: {'; '.join(shown)}{more}")
        return rows


def export(source: Source, out: Path, form: str, data: Path | None = None) -> Exported:
    """Write an alignment in another format.

    Args:
        source: See :func:`espnet_ext.align.formats.sources.open_alignment`.
        out: File or folder to write. A folder is replaced only if it holds nothing else than
            files of the format.
        form: One of :data:`espnet_ext.align.formats.sources.WRITTEN`.
        data: Kaldi-style folder, for speakers, and for recordings and audio files.

    Raises:
        UsageError: There is no such format, or ``out`` has something else.
        DataError: No utterance could be written, or a table of ``data`` is unusable.
    """
    if form not in WRITTEN:
        raise UsageError(
            f"there is no format '{form}' to write", "--format", nearest(form, WRITTEN)
        )
    about, done = _about(data), Exported()
    form_of = FORMATS[form]
    _check_out(out, form_of, Path(source.name))
    with _writer(out, form_of) as write:
        for utt in source.utterances:
            try:
                u = about(source.utterances[utt])
                write(u, form_of.render(u, done.losses))
            except DataError as e:
                done.failed[utt] = e.what
            else:
                done.utterances += 1
        if not done.utterances:
            first = "; ".join(f"{u}: {why}" for u, why in list(done.failed.items())[:1])
            raise DataError(
                f"no utterance could be written: {first or 'there is none'}", source.name
            )
    return done


def _about(data: Path | None) -> Callable[[Utterance], Utterance]:
    """Return a function that adds what a data folder knows of an utterance."""
    if data is None:
        return lambda u: u
    tables = {t: data / t for t in ("wav.scp", "utt2spk", "segments") if (data / t).is_file()}
    if not tables:
        raise DataError("the folder has neither wav.scp nor utt2spk", data, "give a data folder")
    audio = read_table(tables["wav.scp"]) if "wav.scp" in tables else {}
    speakers = read_table(tables["utt2spk"]) if "utt2spk" in tables else {}
    segments = read_segments(tables["segments"]) if "segments" in tables else {}

    def add(u: Utterance) -> Utterance:
        recording, start_s, _ = segments.get(u.name, (u.recording, u.start_s, 0.0))
        path = audio.get(recording or u.name, "")
        return replace(
            u, speaker=speakers.get(u.name, u.speaker), recording=recording, start_s=start_s,
            audio="" if path.endswith("|") else path,
        )  # fmt: skip

    return add


def _check_out(out: Path, form: Format, source: Path) -> None:
    """Refuse to replace what is no export of this format.

    Raises:
        UsageError: There is something else.
    """
    other = "name another place for OUT"
    if out.exists() and out.resolve() in (source.resolve(), *source.resolve().parents):
        raise UsageError("OUT is the alignment itself", out, other)
    if form.layout == FILE:
        if out.is_dir():
            raise UsageError("OUT is a folder, and this format is one file", out, other)
        if not out.name.endswith((".jsonl", ".jsonl.gz")):
            raise UsageError(f"'{out.name}' is not named as this format is", out, "name it x.jsonl")
        return
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError("OUT is a file, and this format is a folder", out, other)
    for path in out.iterdir():
        if path.name not in (NAMES, LENGTHS) and not (path.is_file() and form.fits(path)):
            raise UsageError(f"OUT has '{path.name}', which is none of this format", out, other)


Write = Callable[[Utterance, dict[str, str]], None]


@contextmanager
def _writer(out: Path, form: Format) -> Iterator[Write]:
    """Yield a function that writes the texts of an utterance; all appear at the end, or nothing."""
    with ExitStack() as stack:
        if form.layout == FILE:
            tmp = stack.enter_context(atomic_path(out))
            f = stack.enter_context(_text(tmp, compressed=out.suffix == ".gz"))
            yield lambda u, texts: f.write(texts[""])
            return
        folder, files = stack.enter_context(atomic_dir(out)), {}

        def add(name: str, text: str) -> None:
            if name not in files:
                files[name] = stack.enter_context(_text(folder / name))
            files[name].write(text)

        def write(u: Utterance, texts: dict[str, str]) -> None:
            for name, text in texts.items():
                if form.layout == EACH:
                    with _text(folder / file_name(u.name, name)) as own:
                        own.write(text)
                    write_name(folder, u.name, name)
                else:
                    add(name, text)
            if not form.lengths and len(u.name.split()) == 1:
                add(LENGTHS, f"{u.name} {float(u.length_s)!r}\n")

        yield write


def _text(path: Path, *, compressed: bool = False) -> IO[str]:
    if compressed:
        return gzip.open(path, "wt", encoding="utf-8", newline="\n")
    return open(path, "w", encoding="utf-8", newline="\n")


def main_export(argv: list[str]) -> int:
    """Run ``espnet-ext align export ALIGNMENT OUT``; return the exit code."""
    p = argparse.ArgumentParser(
        prog="espnet-ext align export",
        description="Write an alignment in another format. What the format cannot hold is told.",
        epilog="formats: "
        + "; ".join(f"{name}: {FORMATS[name].about} ({FORMATS[name].layout})" for name in WRITTEN),
        allow_abbrev=False,
    )
    p.add_argument(
        "alignment", type=Path,
        help="OUT of 'align train', 'apply' or 'import', or an alignment in any of the formats",
    )  # fmt: skip
    p.add_argument("out", type=Path, help="file or folder to write")
    p.add_argument("--format", choices=WRITTEN, required=True)
    p.add_argument(
        "--data", type=Path, help="data folder: speakers, recordings, audio files (default: what "
        "'align' made of a folder of pairs)",
    )  # fmt: skip
    a = p.parse_args(argv)
    source = open_alignment(made_in(a.alignment))
    made = a.alignment / "work/data"
    done = export(source, a.out, a.format, a.data or (made if made.is_dir() else None))
    print("\n".join(done.lines()))
    if source.directory and (lost := len(source.directory.skipped)):
        print(f"{lost:,} utterances have no alignment: {source.directory.path}/skipped.tsv")
    print(a.out)
    return 0
