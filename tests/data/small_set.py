# SPDX-License-Identifier: Apache-2.0
"""Small Kaldi-style sets for tests."""

import numpy as np
import soundfile as sf


def noise(path, seconds=0.5, rate=16000, channels=1, **kwargs):
    wave = np.random.default_rng(0).integers(-9000, 9000, (int(seconds * rate), channels))
    sf.write(path, wave.astype(np.int16), rate, **kwargs)
    return path


def fill(src, wavs, text=None, segments=None):
    (src / "wav.scp").write_text("".join(f"{k} {v}\n" for k, v in wavs.items()))
    utts = segments or wavs
    if segments:
        (src / "segments").write_text("".join(f"{k} {v}\n" for k, v in segments.items()))
    text = text if text is not None else dict.fromkeys(utts, "a word")
    (src / "text").write_text("".join(f"{k} {v}\n" for k, v in text.items()))
    (src / "utt2spk").write_text("".join(f"{k} s\n" for k in utts))
