# SPDX-License-Identifier: Apache-2.0
"""What may be aligned besides a Kaldi-style data folder: one recording, or a folder of pairs.

A pair is an audio file and its transcript beside it under the same name, ``x.wav`` and ``x.lab``
or ``x.txt`` (``.lab`` goes first), as the Montreal Forced Aligner takes them. Folders below are
speakers; a file that lies in no such folder is a speaker of its own. Transcripts may be plain
text: line breaks are spaces, and punctuation around words is left out.
"""

import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.errors import DataError, UsageError

AUDIO = frozenset((".wav", ".flac", ".ogg", ".mp3", ".opus", ".aif", ".aiff", ".sph", ".au"))
TEXT = (".lab", ".txt")
# Not the apostrophe ('tis), nor what marks a tag: [noise], <unk>, {um}, ++um++, *cough*.
_PUNCTUATION = '.,;:!?…"“”„«»()¡¿。、，！？-–—'
SHOWN = 5


def data_folder(given: Path, work: Path, say: Callable[[str], None], text: str = "") -> Path:
    """Return the Kaldi-style data folder of what a user gave: itself, or one made from it.

    Args:
        given: A data folder, a folder of pairs, or an audio file.
        work: Here ``data`` is written if there is a need.
        say: Receives lines for a person.
        text: Transcript of an audio file: a file, or the words; default: the file beside it.

    Raises:
        DataError: It is none of these, or has no pairs.
        UsageError: ``text`` is given for a folder.
    """
    if given.is_file():
        rows = {_name(given.name): (given, _words(given, text), "")}
    else:
        if text:
            what = "a transcript on the command line is for one recording"
            raise UsageError(
                what, "--text", "give an audio file, or write transcripts to the folder"
            )
        if (given / "wav.scp").is_file():
            return given
        rows = _pairs(given, say)
    out = work / "data"
    out.mkdir(parents=True, exist_ok=True)
    (out / "segments").unlink(missing_ok=True)
    speakers = {u: speaker or u for u, (_, _, speaker) in rows.items()}
    write_table(out / "wav.scp", {u: os.path.abspath(path) for u, (path, _, _) in rows.items()})
    write_table(out / "text", {u: text for u, (_, text, _) in rows.items() if text is not None})
    write_table(out / "utt2spk", speakers)
    write_spk2utt(out, speakers)
    return out


def plain_words(text: str) -> str:
    """Return the words of plain text with single spaces, without punctuation around them."""
    words = (w.strip(_PUNCTUATION) for w in unicodedata.normalize("NFC", text).split())
    return " ".join(w for w in words if w)


def _words(audio: Path, text: str) -> str:
    """Return the transcript of a single recording."""
    if text and not os.path.isfile(text):  # long words are no name of a file
        return plain_words(text)
    beside = [audio.with_suffix(e) for e in TEXT if audio.with_suffix(e).is_file()]
    if not text and not beside:
        raise DataError(
            "the recording has no transcript", audio,
            f"write it to {audio.with_suffix('.txt').name} beside it, or give --text",
        )  # fmt: skip
    return _read(Path(text) if text else beside[0])


def _read(path: Path) -> str:
    try:
        return plain_words(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise DataError("the transcript is not UTF-8", path, "convert the file to UTF-8") from None


def _pairs(folder: Path, say: Callable[[str], None]) -> dict[str, tuple[Path, str | None, str]]:
    """Return audio file, transcript (None if there is none) and speaker ("" unknown) by name."""
    files = [p for p in sorted(folder.rglob("*")) if not p.name.startswith(".")]
    audio = [p for p in files if p.suffix.lower() in AUDIO and p.is_file()]
    if not audio:
        raise DataError(
            "neither a data folder nor a folder of pairs: there is no wav.scp and no audio file",
            folder, "a data folder has wav.scp, text, utt2spk; a pair is x.wav and x.txt or x.lab",
        )  # fmt: skip
    texts = {p.with_suffix(""): p for e in reversed(TEXT) for p in files if p.suffix.lower() == e}
    rows: dict[str, tuple[Path, str | None, str]] = {}
    bad: dict[str, list[str]] = {}
    for path in audio:
        parts = path.relative_to(folder).parts
        speaker = _name(parts[0]) if len(parts) > 1 else ""
        name = _name("-".join(parts if not parts[-1].startswith(parts[0]) else parts[-1:]))
        if name in rows:
            raise DataError(f"two recordings are called '{name}'", path, f"see {rows[name][0]}")
        transcript = texts.pop(path.with_suffix(""), None)
        rows[name] = (path, None, speaker)
        if transcript is None:
            bad.setdefault("audio without .lab or .txt", []).append(str(path))
            continue
        try:
            rows[name] = (path, _read(transcript), speaker)
        except DataError as e:
            bad.setdefault(e.what, []).append(str(transcript))
    if texts:
        bad["text without audio"] = [str(p) for p in texts.values()]
    speakers = len({speaker for _, _, speaker in rows.values() if speaker})
    say(f"  {len(audio):,} recordings in a folder of pairs, folders of speakers: {speakers}")
    for what, paths in bad.items():
        more = ", ..." if len(paths) > SHOWN else ""
        say(f"  warning: {what}: {len(paths):,}: {', '.join(paths[:SHOWN])}{more}")
    return rows


def _name(file: str) -> str:
    """Return the name of an utterance or a speaker from a file's or a folder's."""
    stem = file if Path(file).suffix.lower() not in AUDIO else file[: -len(Path(file).suffix)]
    return re.sub(r"\s+", "_", stem) or "_"
