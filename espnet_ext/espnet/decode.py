# SPDX-License-Identifier: Apache-2.0
"""Recognise lists of audio files: batches by length, what it cost, what was too short or long."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.espnet.recognise import Recogniser, best_text, load_recogniser


@dataclass
class Result:
    """Texts by utterance, and what it cost.

    Attributes:
        texts: Best text of each utterance.
        audio_s: Seconds of audio.
        wall_s: Processor seconds; loading the model is left out.
        too_short: Utterances that are too short for the model; their texts are empty.
        long: Utterances that were cut at pauses.
    """

    texts: dict[str, str]
    audio_s: float
    wall_s: float
    too_short: list[str] = field(default_factory=list)
    long: list[str] = field(default_factory=list)

    @property
    def rtf(self) -> float:
        return self.wall_s / max(self.audio_s, 1e-9)


def decode(
    config: Path | str,
    model_file: Path | str,
    beam: dict | None,
    batch_s: float,
    device: str,
    longest_s: float,
    wavs: list[tuple[str, str]],
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Recognise audio files.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        beam: Arguments of ``espnet2.bin.asr_inference.Speech2Text``; None: greedy CTC search.
        batch_s: Seconds of a batch of the greedy search, padding counted.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        longest_s: Longer audio is cut at pauses.
        wavs: ``(utterance, audio file)``.
        progress: Is called with utterances done and in all.

    Raises:
        DataError: Audio is not usable, or of another rate than the model's; it names the
            utterance.
    """
    recognise = load_recogniser(Path(config), Path(model_file), beam, 1, device, longest_s)
    return recognise_all(recognise, batch_s if beam is None else 0.0, longest_s, wavs, progress)


def recognise_all(
    recognise: Recogniser,
    batch_s: float,
    longest_s: float,
    wavs: list[tuple[str, str]],
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Do what :func:`decode` does with a recogniser that is loaded; 0 s: one by one."""
    result = Result({}, 0.0, 0.0)
    start = time.perf_counter()
    for batch in audio_batches(wavs, recognise.fs, batch_s):
        speech = [x for _, x in batch]
        for (utt, x), found in zip(batch, recognise(speech), strict=True):
            result.texts[utt] = best_text(found)
            result.audio_s += len(x) / recognise.fs
            if not found:
                result.too_short.append(utt)
            if len(x) > longest_s * recognise.fs:
                result.long.append(utt)
        if progress:
            progress(len(result.texts), len(wavs))
    result.wall_s = time.perf_counter() - start
    return result


def audio_batches(
    wavs: Iterable[tuple[str, str]], fs: int, batch_s: float
) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Yield batches of ``(utterance, samples (N,))`` of similar length, the longest first.

    Args:
        wavs: ``(utterance, audio file)``.
        fs: Rate that the files must have.
        batch_s: Seconds of a batch, padding counted.

    Raises:
        DataError: Audio is not usable, or of another rate; it names the utterance.
    """
    from espnet_ext.data.audio import info

    def seconds(path: str) -> float:
        found = info(path)
        return found.frames / found.rate

    lengths = [(named(utt, lambda p=path: seconds(p)), (utt, path)) for utt, path in wavs]
    for batch in by_length(lengths, batch_s):
        yield [(utt, named(utt, lambda p=path: _read(p, fs))) for utt, path in batch]


def by_length[Item](items: Iterable[tuple[float, Item]], limit: float) -> Iterator[list[Item]]:
    """Yield batches of similar length.

    Args:
        items: ``(length, item)``.
        limit: Padded, a batch is at most so long; a longer item is alone.
    """
    batch: list[Item] = []
    longest = 0.0
    for length, item in sorted(items, key=lambda x: -x[0]):
        if batch and longest * (len(batch) + 1) > limit:
            yield batch
            batch = []
        longest = longest if batch else length
        batch.append(item)
    if batch:
        yield batch


def named(utt: str, read: Callable[[], Any]) -> Any:
    """Return ``read()``; an error of the data names the utterance, too."""
    try:
        return read()
    except DataError as e:
        raise DataError(e.what, f"{utt}: {e.where}", e.how) from None


def _read(path: str, fs: int) -> np.ndarray:
    from espnet_ext.data.audio import read

    speech, rate = read(path)
    if rate != fs:
        what = f"the model takes {fs} Hz and the audio has {rate} Hz"
        raise DataError(what, path, "run stage 2 (format), or set format.fs")
    return speech


def merge(results: Iterable[Result]) -> Result:
    """Join the results of parallel parts; the times add up to processor seconds."""
    whole = Result({}, 0.0, 0.0)
    for r in results:
        whole.texts.update(r.texts)
        whole.audio_s, whole.wall_s = whole.audio_s + r.audio_s, whole.wall_s + r.wall_s
        whole.too_short += r.too_short
        whole.long += r.long
    return whole
