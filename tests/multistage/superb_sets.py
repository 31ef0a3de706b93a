# SPDX-License-Identifier: Apache-2.0
"""Toy sets of SUPERB's tasks: tones of known pitch, and an encoder that hears pitch."""

from pathlib import Path

import numpy as np
import soundfile as sf

from espnet_ext.data.tables import write_table

FS = 16000
HZ = {"a": 500, "b": 1500, "c": 3000}


class Ear:
    """Stands for a frozen encoder: energy of bands, every 640 samples; layer 0 is noise."""

    fs, count, width, frame_s, padded = FS, 3, 4, 0.04, 0

    def of(self, utt) -> np.ndarray:
        speech, _ = sf.read(utt.audio, dtype="float32")
        frames = speech[: len(speech) // 640 * 640].reshape(-1, 640)
        power = np.abs(np.fft.rfft(frames)) ** 2
        bands = np.stack([power[:, i * 40 : i * 40 + 80].sum(1) for i in range(4)], 1)
        bands = np.log10(bands + 1e-2)
        noise = np.random.default_rng(len(frames)).normal(size=bands.shape)
        return np.stack([noise, bands, -bands], 1).astype(np.float16)


def tone(letters: str, seconds: float = 0.2) -> np.ndarray:
    """Return a tone for each letter; '-' is silence, letters of 'a+b' sound together."""
    t = np.arange(round(seconds * FS)) / FS
    parts = []
    for unit in letters.split():
        waves = [np.sin(2 * np.pi * HZ[x] * t) for x in unit.split("+") if x != "-"]
        parts.append(sum(waves, np.zeros_like(t)))
    return (0.2 * np.concatenate(parts)).astype(np.float32)


def write(folder: Path, rows: dict[str, np.ndarray], labels: dict[str, str] | None) -> Path:
    """Write a set with its audio; without labels, no ``text``."""
    folder.mkdir(parents=True)
    for utt, speech in rows.items():
        noise = np.random.default_rng(len(utt)).normal(size=len(speech))
        sf.write(folder / f"{utt}.wav", speech + 0.001 * noise, FS)
    write_table(folder / "wav.scp", {utt: folder / f"{utt}.wav" for utt in rows})
    write_table(folder / "utt2spk", {utt: utt for utt in rows})
    if labels is not None:
        write_table(folder / "text", labels)
    return folder
