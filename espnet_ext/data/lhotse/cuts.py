# SPDX-License-Identifier: Apache-2.0
"""The utterances of a cut: its supervisions, or all of it where it has none.

Handled: MonoCut, MultiCut; of a MixedCut its parts, if they follow one another (padding is left
out). Refused, each by its id: what has no audio of its own on disk, and what lhotse would compute
while it reads (mixing, noise, speed, volume, reverberation).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from espnet_ext.errors import DataError

DIGITS = 8  # lhotse's own rounding of sums of times
WHOLE_S = 0.001  # as much as an utterance may differ from its recording, to be all of it
BEYOND_S = 0.02  # an end beyond the audio by this much is rounding in the annotation
HARMLESS = ("Resample",)  # transforms: formatting resamples anyway
_AGAIN = "make the manifest again with lhotse"
SAVE = "save its audio in lhotse first: cuts.save_audios(FOLDER), or cuts.to_shar(FOLDER, ...)"


@dataclass(frozen=True)
class Audio:
    """A recording.

    Args:
        name: Of the recording, or of one channel of it.
        entry: Value for wav.scp.
        channel: Which channel of the file is meant, from 0; None: all of it.
    """

    name: str
    entry: str
    channel: int | None = None


@dataclass(frozen=True)
class Part:
    """An utterance: ``[start_s, end_s)`` of its recording.

    Args:
        utt: Its name.
        audio: The recording.
        start_s: Where it begins there.
        end_s: Where it ends.
        whole: It is all of the recording.
        supervision: As in the manifest; None: the cut has none.
        cut_s: Where its cut begins in the recording.
    """

    utt: str
    audio: Audio
    start_s: float
    end_s: float
    whole: bool
    supervision: dict[str, Any] | None
    cut_s: float


@dataclass(frozen=True)
class Refused:
    """What cannot become an utterance, and why."""

    id: str
    reason: str


class _Refusal(Exception):
    """The reason, from where it is found to where the id is known."""


def parts(cut: dict[str, Any], where: str) -> Iterator[Part | Refused]:
    """Yield the utterances of a cut.

    Args:
        cut: As in the manifest. A source of audio of type "file" may also be any other value of
            wav.scp.
        where: File and line, for messages.

    Raises:
        DataError: A field is missing or not of its kind.
    """
    name = str(cut.get("id", ""))
    if not name:
        raise DataError("the cut has no 'id'", where, "give a manifest of cuts")
    try:
        for single in _single(cut):
            yield from _parts(single)
    except _Refusal as e:
        yield Refused(name, str(e))
    except KeyError as e:
        raise DataError(f"the cut '{name}' lacks the field {e}", where, _AGAIN) from None
    except (TypeError, ValueError, AttributeError) as e:
        raise DataError(f"the cut '{name}' is not as lhotse writes it ({e})", where, _AGAIN) from e


def _single(cut: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cuts of one recording that a cut is made of."""
    kind = cut.get("type", "MonoCut")
    if kind == "PaddingCut":
        raise _Refusal("a PaddingCut has no audio")
    if kind != "MixedCut":
        return [cut]
    if cut.get("transforms"):
        raise _Refusal(f"a MixedCut with transforms: {SAVE}")
    tracks = [t for t in cut["tracks"] if t["cut"].get("type") != "PaddingCut"]
    if not tracks:
        raise _Refusal("a MixedCut of padding only has no audio")
    end_s = 0.0
    tracks.sort(key=lambda t: float(t.get("offset", 0.0)))
    for track in tracks:
        offset_s = float(track.get("offset", 0.0))
        if offset_s < end_s - WHOLE_S or track.get("snr") is not None:
            raise _Refusal(f"a MixedCut whose parts sound at once: {SAVE}")
        end_s = offset_s + float(track["cut"]["duration"])
    return [t["cut"] for t in tracks]


def _parts(cut: dict[str, Any]) -> Iterator[Part | Refused]:
    cut_s, length_s = float(cut["start"]), float(cut["duration"])
    supervisions = cut.get("supervisions") or []
    if not supervisions:
        audio, total_s = _audio(cut, cut.get("channel", 0))
        end_s = round(cut_s + length_s, DIGITS)
        yield _part(_key(cut["id"]), audio, cut_s, end_s, total_s, None, cut_s)
    for s in supervisions:
        start_s, end_s = float(s["start"]), round(float(s["start"]) + float(s["duration"]), DIGITS)
        try:
            audio, total_s = _audio(cut, s.get("channel", cut.get("channel", 0)))
            if start_s < -WHOLE_S or end_s > length_s + BEYOND_S or end_s <= start_s:
                raise _Refusal(
                    f"it lasts from {start_s:g} to {end_s:g} s of a cut of {length_s:g} s: "
                    "cut to supervisions in lhotse first: cuts.trim_to_supervisions()"
                )
            begin_s, end_s = (round(cut_s + t, DIGITS) for t in (max(0.0, start_s), end_s))
            yield _part(_key(s["id"]), audio, begin_s, end_s, total_s, s, cut_s)
        except _Refusal as e:
            yield Refused(str(s["id"]), str(e))


def _part(
    utt: str, audio: Audio, start_s: float, end_s: float, total_s: float, s: Any, cut_s: float
) -> Part:
    if not 0 <= start_s < total_s or end_s > total_s + BEYOND_S:
        raise _Refusal(f"[{start_s:g}, {end_s:g}) s is not inside its audio of {total_s:g} s")
    whole = start_s < WHOLE_S and end_s > total_s - WHOLE_S
    return Part(utt, audio, start_s, min(end_s, total_s), whole, s, cut_s)


def _audio(cut: dict[str, Any], wanted: int | list[int]) -> tuple[Audio, float]:
    """Return the recording of a cut, or the channel of it that is meant, and its seconds."""
    recording = cut.get("recording")
    if not recording:
        raise _Refusal("no recording: only features, or the shard has none for it")
    bad = [t for t in recording.get("transforms") or [] if _name_of(t) not in HARMLESS]
    if bad:
        raise _Refusal(f"its audio is transformed ({_name_of(bad[0])}): {SAVE}")
    channels = wanted if isinstance(wanted, list) else [wanted]
    sources = [s for s in recording["sources"] if set(s["channels"]) & set(channels)]
    if len(sources) != 1:
        how = "they are in several files" if sources else "there is no such channel"
        raise _Refusal(f"channels {channels} of recording '{recording['id']}': {how}")
    source, name = sources[0], _key(recording["id"])
    entry, own = _entry(source), source["channels"]
    total_s = float(recording["duration"])
    several = sum(len(s["channels"]) for s in recording["sources"]) > 1
    if set(channels) == set(own):
        return Audio(f"{name}-{own[0]}" if several and len(own) == 1 else name, entry), total_s
    if len(channels) > 1:
        raise _Refusal(f"channels {channels} of {own}: give all of them (their average) or one")
    return Audio(f"{name}-{channels[0]}", entry, own.index(channels[0])), total_s


def _name_of(transform: dict[str, Any] | str) -> str:
    return str(transform.get("name")) if isinstance(transform, dict) else str(transform)


def _entry(source: dict[str, Any]) -> str:
    kind, value = source["type"], source["source"]
    if kind == "command":
        return f"{value.strip().removesuffix('|').strip()} |"
    if kind != "file":
        where = {"url": "at a URL", "shar": "in Shar shards: give their folder"}
        raise _Refusal(f"its audio is not in a file, but {where.get(kind, kind)}")
    return value


def _key(name: Any) -> str:
    """Return a name without white space, which ends the key of a table."""
    return "_".join(str(name).split())
