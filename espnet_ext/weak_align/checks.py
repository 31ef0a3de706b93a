# SPDX-License-Identifier: Apache-2.0
"""Checks before training: do the labels belong to the audio and to the model?"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omniio import kaldi

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.frames import Features
from espnet_ext.weak_align.geometry import Geometry, feature_grid
from espnet_ext.weak_align.header import Stream
from espnet_ext.weak_align.labels import FrameGrid

# Effects of ESPnet's on-the-fly augmentation that move or change time.
MOVES_TIME = ("speed_perturb", "time_stretch", "reverse")


def check_augmentation(settings: dict[str, Any]) -> None:
    """Refuse augmentation that moves speech away from its labels.

    Args:
        settings: ESPnet's training options.

    Raises:
        UsageError: Time warp, speed perturbation in the loader, or chunks are on.
    """
    specaug = settings.get("specaug_conf") or {}
    if settings.get("specaug") and specaug.get("apply_time_warp", True):
        raise UsageError(
            "time warping moves the speech away from its labels", "specaug_conf.apply_time_warp",
            "apply_time_warp: false (ESPnet's default is true)",
        )  # fmt: skip
    conf = settings.get("preprocessor_conf") or {}
    found = [e for e in _names(conf.get("data_aug_effects")) if e in MOVES_TIME]
    if found and conf.get("data_aug_prob", 0) > 0:
        raise UsageError(
            f"the effect {found[0]} moves the speech away from its labels",
            "preprocessor_conf.data_aug_effects",
            "perturb the speed by copies of the data, whose labels are rescaled",
        )
    if settings.get("iterator_type") in ("chunk", "category_chunk"):
        raise UsageError(
            "chunks of samples have no labels", "iterator_type", "iterator_type: sequence"
        )


def _names(effects: Any) -> Iterator[str]:
    if isinstance(effects, str):
        yield effects
    elif isinstance(effects, list | tuple):
        for effect in effects:
            yield from _names(effect)


def read_labels(stream: Stream) -> Iterator[tuple[str, np.ndarray]]:
    """Yield ``(utterance, (T,) labels)`` of a ``kaldi_ark`` or ``text_int`` stream.

    Raises:
        UsageError: The type of the stream is another.
    """
    path, name, kind = stream
    if kind == "kaldi_ark":
        for utt, labels in kaldi.load_scp_sequential(path):
            yield utt, np.asarray(labels)
    elif kind == "text_int":
        for utt, text in iter_table(path):
            yield utt, np.array(text.split(), dtype=np.int64)
    else:
        raise UsageError(f"stream '{name}' is {kind}", path, "use kaldi_ark or text_int")


class Times(NamedTuple):
    """Where labels, speech and encoder frames lie in time."""

    labels: FrameGrid
    features: Features
    layer: Geometry

    def check(self, utt: str, labels: int, samples: int, where: str) -> None:
        """Check that as many encoder frames come of the labels as of the speech.

        One more or less is let through (of layers with little stride, 30 ms): aligners differ at
        the ends of an utterance.

        Raises:
            DataError: The numbers differ by more.
        """
        from_labels = round(labels * self.labels.shift_s / feature_grid(self.features).shift_s)
        have = self.layer.length(from_labels)
        need = self.layer.length(self.features.length(samples))
        if abs(have - need) > max(1, math.ceil(3 / self.layer.stride)):
            raise DataError(
                f"{utt}: {labels} labels for {samples / self.features.rate:.3f} s of speech, "
                f"that is {have} encoder frames against {need}",
                where, "align the audio that is trained on",
            )  # fmt: skip


def check_labels(
    stream: Stream, classes: int, samples: dict[str, int], times: Times, any_length: bool = False
) -> tuple[int, int]:
    """Check the labels of a set.

    Args:
        stream: ``(path, name, type)``.
        classes: K; labels are in ``[-1, K)``.
        samples: Samples by utterance, of those that are trained on; empty: lengths are unknown.
        times: Of the labels, the speech and the layer.
        any_length: Labels belong to other utterances.

    Returns:
        Utterances with a label, and all.

    Raises:
        DataError: An utterance has a class beyond K, another length than its speech, or no line.
    """
    aligned, seen = 0, set()
    for utt, labels in read_labels(stream):
        seen.add(utt)
        if labels.ndim != 1 or labels.dtype.kind != "i":
            raise DataError(f"{utt}: the labels are not a vector of integers", stream[0])
        low, high = (int(labels.min()), int(labels.max())) if len(labels) else (-1, -1)
        if high >= classes or low < -1:
            raise DataError(
                f"{utt}: label {high if high >= classes else low}, but there are {classes} classes",
                stream[0], "labels and header.json must be of the same alignment",
            )  # fmt: skip
        aligned += high >= 0
        if high >= 0 and utt in samples and not any_length:
            times.check(utt, len(labels), samples[utt], stream[0])
    lost = sorted(samples.keys() - seen)
    if lost:
        raise DataError(
            f"{lost[0]}: no labels ({len(lost)} utterances of {len(samples)})", stream[0],
            "an utterance without alignment has a line with the label -1",
        )  # fmt: skip
    return aligned, len(seen)


def check_words(stream: Stream, text: Path) -> None:
    """Check that no utterance has more aligned words than its text.

    Raises:
        DataError: One has; the message names it.
    """
    counts = {utt: len(words.split()) for utt, words in iter_table(text)}
    for utt, labels in read_labels(stream):
        words = int(labels.max()) + 1 if len(labels) else 0
        if words > counts.get(utt, words):
            raise DataError(
                f"{utt}: {words} words are aligned, the text has {counts[utt]}", stream[0],
                "align the text that is trained on",
            )  # fmt: skip


def read_samples(shape_files: Sequence[str]) -> dict[str, int]:
    """Return samples by utterance of ``speech_shape``; empty if it is not there."""
    for path in shape_files:
        if Path(path).name.startswith("speech_shape"):
            rows = iter_table(path)
            return {utt: int(shape.split(",")[0]) for utt, shape in rows}
    return {}


def stamp(stream: Stream) -> list:
    """Return what changes when a label file does: names, sizes and times of its files."""
    path = Path(stream[0])
    arks = set()
    if stream[2] == "kaldi_ark":
        arks = {value.rpartition(":")[0] for _, value in iter_table(path)}
    files = [path, *(Path(a) for a in sorted(arks) if a)]
    facts = [(str(f), f.stat()) for f in files if f.exists()]
    return [*stream, *([name, s.st_size, s.st_mtime_ns] for name, s in facts)]
