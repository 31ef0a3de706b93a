# SPDX-License-Identifier: Apache-2.0
"""Audio-visual clips as Kaldi-style folders: wav.scp, video.scp, utt2spk, and text where known.

What the readers of LRS3, VoxCeleb2, Kinetics-600 and GRID share. The sound is taken out of each
clip once, as mono FLAC of the models' rate, into a folder of its own, so preparing the data again
reads nothing twice. A clip that cannot be used is left out and listed with its reason:
clips found = clips written + clips left out.
"""

import argparse
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf

from espnet_ext.data.audio import resample
from espnet_ext.data.content import SILENT_PEAK
from espnet_ext.data.origin import is_of, origin_of, write_of
from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.data.video import audio_of, probe
from espnet_ext.errors import DataError
from espnet_ext.progress import duration
from espnet_ext.recipe.console import Progress
from espnet_ext.recipe.executor import Local

FARTHEST_S = 0.5  # sound and picture of a clip may differ in length by this much
FS = 16000


@dataclass(frozen=True)
class Clip:
    """A clip of a corpus.

    Attributes:
        utt: Its utterance id.
        video: The file.
        speaker: Who speaks, or what must not be in two sets.
        text: Its words; empty: not known.
        sound: File of its sound where the clip itself has none.
        where: What lists it, for messages; empty: nothing does.
        end_s: Seconds it must have: end of its alignment, or those of each clip; 0: not known.
    """

    utt: str
    video: Path
    speaker: str
    text: str = ""
    sound: Path | None = None
    where: str = ""
    end_s: float = 0.0


class Taken(NamedTuple):
    """What became of a clip: the audio file, or the reason why it is left out."""

    audio: str
    reason: str = ""
    detail: str = ""
    length_s: float = 0.0


@dataclass
class ClipSet:
    """A set in the making; ``skipped`` holds ``(file, reason, detail)``."""

    name: str
    clips: dict[str, Clip] = field(default_factory=dict)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)
    audio: dict[str, str] = field(default_factory=dict)
    length_s: float = 0.0

    @property
    def read(self) -> int:
        """Clips that were found, or listed by the corpus."""
        return len(self.clips) + len(self.skipped)

    def skip(self, where: object, reason: str, detail: str = "") -> None:
        """Leave something out."""
        self.skipped.append((str(where), reason, detail))

    def add(self, clip: Clip) -> None:
        """Take a clip; a second one of the same id is left out."""
        if clip.utt in self.clips:
            self.skip(clip.video, "repeated clip", f"{self.clips[clip.utt].video}")
        else:
            self.clips[clip.utt] = clip

    def take_audio(self, folder: Path, jobs: int = 1) -> None:
        """Take the sound out of all clips, in ``jobs`` processes; drop those that lack something.

        Raises:
            DataError: No clip can be used.
        """
        clips, progress = list(self.clips.values()), Progress(self.name, "clips")
        results = _map(partial(take_audio, folder=Path(os.path.abspath(folder))), clips, jobs)
        for done, (clip, taken) in enumerate(zip(clips, results, strict=True), 1):
            if taken.reason:
                self.skip(clip.where or clip.video, taken.reason, taken.detail)
                del self.clips[clip.utt]
            else:
                self.audio[clip.utt] = taken.audio
                self.length_s += taken.length_s
            progress(done, len(clips))
        if not self.clips:
            where, reason, detail = self.skipped[0] if self.skipped else (self.name, "no clip", "")
            reason += f", {detail}" if detail else ""
            raise DataError(f"no clip of {self.name} can be used; the first: {reason}",
                            where, "check that the copy of the corpus is complete")  # fmt: skip

    def write(self, out: Path) -> None:
        """Write folder ``out/name`` and tell the numbers."""
        folder = out / self.name
        write_table(folder / "wav.scp", self.audio)
        write_table(folder / "video.scp", {u: os.path.abspath(c.video) for u, c in self})
        utt2spk = {u: c.speaker for u, c in self}
        write_table(folder / "utt2spk", utt2spk)
        write_spk2utt(folder, utt2spk)
        if all(c.text for _, c in self):
            write_table(folder / "text", {u: c.text for u, c in self})
        groups = len(set(utt2spk.values()))
        print(
            f"{self.name}: {self.read} clips read, {len(self.clips)} written "
            f"({duration(self.length_s)}, {groups} group{'s' if groups != 1 else ''}), "
            f"{len(self.skipped)} skipped{self._reasons()}"
        )

    def _reasons(self) -> str:
        """Return why clips were left out: the number of each reason, and the first such clip."""
        clips: dict[str, list[str]] = {}
        for where, reason, _ in self.skipped:
            clips.setdefault(reason, []).append(Path(where).name)
        why = [
            f"{len(names)} {reason} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for reason, names in sorted(clips.items())
        ]
        return ": " + ", ".join(why) if why else ""

    def __iter__(self) -> Iterator[tuple[str, Clip]]:
        return iter(self.clips.items())


def _map(function: Callable[[Clip], Taken], clips: list[Clip], jobs: int) -> Iterator[Taken]:
    """Yield ``function(clip)`` in the order of ``clips``."""
    if jobs < 2:
        yield from map(function, clips)
        return
    executor = Local(jobs)
    try:
        yield from executor.map(function, clips)
    finally:
        executor.close()


def take_audio(clip: Clip, folder: Path) -> Taken:
    """Write the sound of a clip to ``folder`` unless it is there; say what is wrong with the clip.

    Returns:
        The file, or the reason to leave the clip out.
    """
    try:
        facts = probe(str(clip.video))
        source = clip.video if facts.has_audio else clip.sound
        if source is None or not source.is_file():
            return Taken("", "no sound")
        path = audio_path(clip.utt, folder)
        if not is_of(path, origin := origin_of(source)):
            speech, rate = audio_of(str(source))
            speech = resample(speech, rate, FS)
            peak = float(np.abs(speech).max(initial=0.0))
            if not SILENT_PEAK <= peak < float("inf"):
                return Taken("", "silent" if peak < SILENT_PEAK else "sound that is not finite")
            speech = speech / max(1.0, peak)  # resampling may reach beyond full scale
            write_of(path, speech, FS, "PCM_16", "FLAC", origin)
        length_s = sf.info(path).duration
    except DataError as e:
        reason, _, detail = e.what.replace(" (", ": ", 1).partition(": ")
        return Taken("", reason, detail.rstrip(")"))
    if abs(length_s - facts.duration_s) > FARTHEST_S:
        detail = f"{length_s:.2f} s of sound, {facts.duration_s:.2f} s of picture"
        return Taken("", "sound and picture differ in length", detail)
    if length_s < clip.end_s - FARTHEST_S:  # a download that was cut off
        return Taken("", "cut off", f"{length_s:.2f} s of sound, {clip.end_s:.2f} s expected")
    return Taken(str(path), length_s=length_s)


def audio_path(utt: str, folder: Path) -> Path:
    """Return where the sound of a clip is; 256 folders, as some corpora have 400,000 clips."""
    return folder / hashlib.sha256(utt.encode()).hexdigest()[:2] / f"{utt}.flac"


def hold_out(groups: Iterable[str], share: float, seed: int = 0) -> set[str]:
    """Return groups (speakers, talks) for a held-out set: at least one, never all.

    The choice depends on names and seed alone, neither on a file system's order nor on how many
    groups a share leaves.

    Raises:
        DataError: There are fewer than two groups.
    """
    names = set(groups)
    if len(names) < 2:
        what = f"{len(names)} speakers or talks cannot be split into training and development"
        raise DataError(what, ", ".join(names) or None, "complete the copy of the corpus")
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    return set(ranked[: min(len(names) - 1, max(1, round(share * len(names))))])


def corpus_root(variable: str, holds: str) -> Path:
    """Return the folder that a variable of the environment names.

    Raises:
        DataError: The variable is not set, or names no folder.
    """
    given = os.environ.get(variable)
    if not given or not Path(given).is_dir():
        what = f"not a folder: {given}" if given else f"{variable} is not set in the environment"
        raise DataError(what, variable, f"{variable}=/path/to/the/folder with {holds} ./run.sh")
    return Path(given)


def add_arguments(parser: argparse.ArgumentParser, dev_share: float | None = None) -> None:
    """Add the options that all readers have."""
    parser.add_argument("--audio", type=Path, default=Path("downloads/audio"),
                        help="folder of the sound taken out of the clips")  # fmt: skip
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    if dev_share is not None:
        parser.add_argument("--dev-share", type=float, default=dev_share,
                            help="share of speakers or talks in av_dev")  # fmt: skip
        parser.add_argument("--split-seed", type=int, default=0)


def split(clips: Iterable[Clip], held: set[str], names: tuple[str, str]) -> list[ClipSet]:
    """Return training and held-out set of clips: those of groups ``held`` are in the second."""
    train, dev = ClipSet(names[0]), ClipSet(names[1])
    for clip in clips:
        (dev if clip.speaker in held else train).add(clip)
    return [train, dev]


def finish(sets: list[ClipSet], args: argparse.Namespace, out: Path) -> list[ClipSet]:
    """Take the sound of all sets out of the clips, then write them."""
    for made in sets:
        made.take_audio(args.audio, args.jobs)
    for made in sets:
        made.write(out)
    return sets


def run(
    name: str, doc: str, read: Callable[[argparse.Namespace], list[ClipSet]],
    arguments: Callable[[argparse.ArgumentParser], None],
) -> None:  # fmt: skip
    """Be the command line of a reader."""
    from segmented import write_skipped

    parser = argparse.ArgumentParser(prog=name, description=doc.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments(parser)
    args = parser.parse_args()
    sets = finish(read(args), args, args.out)
    write_skipped(args.out, sets)
    if any(made.skipped for made in sets):
        print(f"each skipped clip and its reason: {args.out / 'skipped.tsv'}")
