# SPDX-License-Identifier: Apache-2.0
"""The part of formatting that runs in workers: one recording in, plain data out."""

import hashlib
import itertools
import os
import re
from pathlib import Path

import numpy as np
import soundfile as sf

from espnet_ext.data import audio as audio_io
from espnet_ext.data import content
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.tar_member import parse_member
from espnet_ext.errors import DataError, of_system
from espnet_ext.frames import usual_encoder
from espnet_ext.text.tagged import TAG

UNREADABLE = "unreadable audio"
_TAG_OR_CHARACTER = re.compile(f"{TAG.pattern}|.")
# What stock ESPnet reads quickly as it is; the rest (NIST sphere, ...) is converted.
DIRECT_FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3")


def ctc_units(text: str, units: str | None) -> tuple[int, int] | None:
    """Return ``(units, adjacent repeats)`` CTC must place for ``text``; None when not asked.

    ``char`` is exact for character models, ``tagged`` for those whose tags (``<city>``) are one
    unit. ``word`` counts words and no repeats: each word takes at least one BPE unit, so it is a
    lower bound whatever the BPE model.
    """
    if units is None:
        return None
    if units == "word":
        return len(text.split()), 0
    found = _TAG_OR_CHARACTER.findall(text) if units == "tagged" else text
    return len(found), sum(a == b for a, b in itertools.pairwise(found))


def copy_id(name: str, speed: float) -> str:
    """Return the Kaldi-style id of a speed copy (``sp0.9-utt``); speed 1 keeps the name."""
    return name if speed == 1 else f"sp{speed:g}-{name}"


def safe_name(utt: str) -> str:
    """Return ``xx/name``, a path of plain characters that no other id shares.

    ``xx`` spreads the files over 256 folders, because one folder of a million files is slow.
    """
    digest = hashlib.sha256(utt.encode()).hexdigest()
    name = re.sub(r"[^A-Za-z0-9._-]", "_", utt)[:80]
    # Ids that look like a made name are hashed too, so that none can equal one.
    if name != utt or name.startswith(".") or re.search(r"-[0-9a-f]{16}$", name):
        name = f"{name.lstrip('.')}-{digest[:16]}"
    return f"{digest[:2]}/{name}"


def format_recording(item: dict) -> dict:
    """Cut, resample and write the utterances of one recording.

    Args:
        item: ``source`` (value of wav.scp), ``allow_pipes``, ``wav_dir``, ``in_shards`` (audio in
            tar files stays there; may be missing), ``options`` (the fields of FormatOptions),
            ``utts``: lists ``[utt, start_s, end_s, ctc units or None]``, times None where there
            are no segments.

    Returns:
        ``rows``: lists ``[copy id, utt, speed, path, samples, bytes or None]`` (bytes of files
        written here), ``dropped`` and ``notes``: lists ``[id, reason, detail]``.

    Raises:
        SetupError: A program of a piped entry is missing, or the disk is full.
    """
    out: dict = {"rows": [], "dropped": [], "notes": []}
    if not item["source"]:  # a set without audio
        out["rows"] = [[utt, utt, 1.0, "", 0, None] for utt, *_ in item["utts"]]
        return out
    try:
        with audio_io.open_audio(item["source"], item["allow_pipes"]) as f:
            for utterance in item["utts"]:
                _format_utterance(f, utterance, item, out)
    except DataError as e:
        for utt, *_ in item["utts"]:
            _drop_rest(out, utt, item, UNREADABLE, f"{e.what}: {item['source']}")
    except OSError as e:
        if known := of_system(e):
            raise known from None
        raise
    return out


def _drop_rest(out: dict, utt: str, item: dict, reason: str, detail: str) -> None:
    """Drop the copies of ``utt`` that have no outcome yet."""
    done = {row[0] for row in out["rows"]} | {drop[0] for drop in out["dropped"]}
    for speed in item["options"]["speeds"]:
        copy = copy_id(utt, speed)
        if copy not in done:
            out["dropped"].append([copy, reason, detail])


def _format_utterance(f: sf.SoundFile, utterance: list, item: dict, out: dict) -> None:
    utt, start_s, end_s, units = utterance
    audio, options, source = audio_io.describe(f), item["options"], item["source"]
    try:
        first, last = audio_io.frame_range(audio, start_s, end_s, source)
    except DataError as e:
        _drop_rest(out, utt, item, "times outside the audio", e.what)
        return
    wanted = []
    for speed in options["speeds"]:
        samples = round((last - first) * options["fs"] / (audio.rate * speed))
        refusal = drop_reason(samples, units, options)
        if refusal:
            out["dropped"].append([copy_id(utt, speed), *refusal])
        else:
            wanted.append(speed)
    as_it_is = (first, last) == (0, audio.frames) and _direct(audio, item)
    try:
        if wanted == [1] and as_it_is:
            speech, found = None, audio_io.check_frames(f, first, last, source, options["channel"])
        elif wanted:
            speech, found = audio_io.read_content(f, first, last, source, options["channel"])
        else:
            return
    except DataError as e:
        _drop_rest(out, utt, item, UNREADABLE, f"{e.what}: {source}")
        return
    if fault := found.fault(options["faults"]):
        _drop_rest(out, utt, item, fault.reason, f"{fault.detail}: {source}")
        return
    out["notes"] += [[utt, *note] for note in content_notes(found)]
    for speed in wanted:
        if as_it_is and speed == 1:
            path = os.path.abspath(source)
            out["rows"].append([utt, utt, speed, path, last - first, None])
        else:
            _write_copy(speech, audio.rate, utt, speed, item, out)


def _direct(audio: audio_io.AudioInfo, item: dict) -> bool:
    """Tell whether training can read the file as it is."""
    plain = not is_pipe(item["source"]) and audio.format in DIRECT_FORMATS
    if parse_member(item["source"]) and not item.get("in_shards"):
        return False
    return plain and (audio.rate, audio.channels) == (item["options"]["fs"], 1)


def _write_copy(
    speech: np.ndarray, rate: int, utt: str, speed: float, item: dict, out: dict
) -> None:
    copy = copy_id(utt, speed)
    resampled = audio_io.resample(speech, rate * speed, item["options"]["fs"])
    if not len(resampled):
        out["dropped"].append([copy, "too short", "no sample is left by resampling"])
        return
    path, size, notes = write_audio(resampled, copy, item)
    out["rows"].append([copy, utt, speed, path, len(resampled), size])
    out["notes"] += notes


def content_notes(found: content.Content) -> list[list[str]]:
    """Return ``[what, numbers]`` of audio that can be used and that a person should look at."""
    notes = []
    if fault := found.fault():
        notes.append([fault.reason, fault.detail])
    elif found.clipped > content.CLIPPED_SHARE:
        notes.append(["clipped", f"{100 * found.clipped:.1f} % of the samples at the extremes"])
    if found.unequal:
        levels = ", ".join(f"{level:.0f}" for level in found.levels_db)
        notes.append(["unequal channels are averaged", f"peaks in dB: {levels}"])
    return notes


def drop_reason(samples: int, units: list | None, options: dict) -> tuple[str, str] | None:
    """Return ``(reason, numbers)`` when an utterance of ``samples`` samples cannot be used."""
    fs, seconds = options["fs"], samples / options["fs"]
    if samples < 1 or seconds < options["min_s"]:
        return "too short", f"{seconds:.3f} s < min_s {options['min_s']:g}"
    if seconds > options["max_s"]:
        return "too long", f"{seconds:.3f} s > max_s {options['max_s']:g}"
    if units is not None:
        frames = usual_encoder(fs, options["ctc_stride"]).frames(samples)
        if sum(units) > frames:
            needs = f"{units[0]} units + {units[1]} repeats"
            return "too short for CTC", f"{needs} > {frames} encoder frames ({seconds:.3f} s)"
    return None


def write_audio(speech: np.ndarray, copy: str, item: dict) -> tuple[str, int, list[list[str]]]:
    """Write samples ``(N,)`` as 16 bit below ``item["wav_dir"]``.

    Returns:
        The path, its bytes, and notes: louder than full scale is made quieter, not clipped.
    """
    kind = item["options"]["audio_format"]
    path = Path(item["wav_dir"], f"{safe_name(copy)}.{kind}")
    note = []
    peak = float(np.abs(speech).max())
    if peak > 1:
        scale = 32767 / 32768 / peak
        speech = speech * np.float32(scale)
        note = [[copy, "scaled against clipping", f"by {scale:.4f}"]]
    # Own rounding: libsndfile scales floats by 32767, which would change samples that are only cut.
    pcm = np.clip(np.rint(speech * 32768), -32768, 32767).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        # No fsync for each file: the journal holds the size, and a rerun compares it.
        sf.write(tmp, pcm, item["options"]["fs"], format=kind.upper(), subtype="PCM_16")
        size = tmp.stat().st_size
        os.replace(tmp, path)
    finally:
        tmp.unlink(missing_ok=True)
    return str(path), size, note
