# SPDX-License-Identifier: Apache-2.0
"""ASR text of sentences that nobody said: synthesised speech in a noisy room, recognised."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.data.audio import resample
from espnet_ext.data.synth.events import SILENCE
from espnet_ext.data.synth.room import record, utterance_rng
from espnet_ext.data.tables import write_table
from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.simulate.generate import measure
from espnet_ext.scoring.edits import Score

# (B arrays (N_b,) float32) -> B texts
Recognise = Callable[[list[np.ndarray]], list[str]]
Progress = Callable[[int, int], None]

SNR_DB = (20.0, 35.0)
VARIANTS = ("", "+m1", "+m2", "+m3", "+m5", "+m7", "+f1", "+f2", "+f3", "+f4")
_RATE_WPM, _PITCH = (130, 185), (30, 70)
_PAUSE_S = (0.1, 0.3)  # before and after the speech


@dataclass(frozen=True)
class Spoken:
    """Texts recognised.

    Attributes:
        texts: Utterance id to ASR text, for all utterances.
        score: Word errors against the manual text, both lower-cased.
        audio_s: Seconds of audio.
        silent: Utterances without a sound: empty text, or nothing that can be spoken.
    """

    texts: dict[str, str]
    score: Score
    audio_s: float
    silent: list[str]


class Speaker:
    """Speaks sentences, each by a voice and in a room of its own.

    Args:
        rate_hz: Sampling rate of the audio.
        seed: Decides, with the utterance's id, voice, room and noise.
        voice: espeak-ng voice without a variant, which decides the language.
        snr_db: Range of the signal-to-noise ratio.

    Raises:
        UsageError: The range is empty.
        SetupError: The synthesiser is not installed.
    """

    def __init__(
        self,
        rate_hz: int = 16000,
        seed: int = 1,
        voice: str = "en-us",
        snr_db: tuple[float, float] = SNR_DB,
    ):
        from espnet_ext.data.synth.espeak import Espeak

        if not -20 <= snr_db[0] <= snr_db[1] <= 100:
            what = f"the signal-to-noise ratio cannot be {snr_db[0]:g} to {snr_db[1]:g} dB"
            raise UsageError(what, "--snr-db", "give LOW HIGH within -20..100")
        self.rate_hz, self.seed, self.voice, self.snr_db = rate_hz, seed, voice, snr_db
        self._espeak = Espeak()

    def __call__(self, utt: str, text: str) -> np.ndarray | None:
        """Return ``(N,)`` float32 in (-1, 1), or None if the text makes no sound."""
        if not text.strip():
            return None
        rng = utterance_rng(self.seed, utt)
        spoken = self._espeak.synthesize(
            text,
            voice=self.voice + VARIANTS[int(rng.integers(len(VARIANTS)))],
            rate_wpm=int(rng.integers(*_RATE_WPM)),
            pitch=int(rng.integers(*_PITCH)),
        )
        if all(p.label == SILENCE for p in spoken.phones):
            return None
        speech = resample(spoken.samples / np.float32(32768), spoken.rate_hz, self.rate_hz)
        low, high = (round(s * self.rate_hz) for s in _PAUSE_S)
        speech = np.pad(speech, tuple(int(n) for n in rng.integers(low, high, 2)))
        return record(speech, self.rate_hz, rng, snr_db=self.snr_db).astype(np.float32)


def speak(
    texts: Mapping[str, str],
    speaker: Callable[[str, str], np.ndarray | None],
    recognise: Recognise,
    *,
    rate_hz: int = 16000,
    batch_s: float = 60.0,
    keep_audio: Path | None = None,
    progress: Progress | None = None,
) -> Spoken:
    """Speak and recognise sentences.

    Args:
        texts: Utterance id to text; what makes no sound gets empty ASR text.
        speaker: Makes the audio, see :class:`Speaker`.
        recognise: Gives the texts of a batch.
        rate_hz: Sampling rate of the audio.
        batch_s: Seconds of a batch, padding counted.
        keep_audio: Folder that the audio is written to, as ``utt.flac``, with ``wav.scp``.
        progress: Is called with utterances done and in all.

    Raises:
        DataError: There is no utterance, or no word.
        UsageError: An utterance id cannot be the name of a file (with ``keep_audio``).
    """
    out, samples, silent, files = dict.fromkeys(texts, ""), 0, [], {}

    def audible() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal samples
        for utt in texts:
            speech = speaker(utt, texts[utt])
            if speech is None:
                silent.append(utt)
                continue
            samples += len(speech)
            if keep_audio is not None:
                files[utt] = _write(keep_audio, utt, speech, rate_hz)
            yield utt, speech

    done = 0
    for batch in _batches(audible(), int(batch_s * rate_hz)):
        found = recognise([speech for _, speech in batch])
        out.update((utt, text) for (utt, _), text in zip(batch, found, strict=True))
        done += len(batch)
        if progress:
            progress(done, len(texts))
    if keep_audio is not None:
        write_table(keep_audio / "wav.scp", files)
    return Spoken(out, measure(texts, out), samples / rate_hz, silent)


def _batches(
    items: Iterator[tuple[str, np.ndarray]], limit: int, ahead: int = 64
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Yield batches of similar length of at most ``limit`` samples, sorting ``ahead`` at a time."""
    while chunk := sorted(islice(items, ahead), key=lambda x: (-len(x[1]), x[0])):
        batch: list[tuple[str, np.ndarray]] = []
        for item in chunk:  # the first of a batch is its longest
            if batch and len(batch[0][1]) * (len(batch) + 1) > limit:
                yield batch
                batch = []
            batch.append(item)
        yield batch


def _write(folder: Path, utt: str, speech: np.ndarray, rate_hz: int) -> str:
    if "/" in utt or utt.startswith("."):
        raise UsageError("the utterance id cannot be a file's name", utt, "leave out --keep-audio")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{utt}.flac"
    soundfile.write(path, speech, rate_hz, subtype="PCM_16")
    return str(path)
