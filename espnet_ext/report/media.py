# SPDX-License-Identifier: Apache-2.0
"""Sound and spectrograms as parts of the page itself (``data:`` addresses)."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import soundfile

from espnet_ext.align.evaluate.picture import RANGE_DB, WINDOW_S, spectrum
from espnet_ext.data.audio import resample

LEVELS = 16  # shades of a spectrogram
STEP_S = 0.005
COLUMNS = 1200  # of a spectrogram, however long the utterance is
TOP_HZ = 8000
SPEECH_HZ = 16000  # more carries no phone
MP3_HZ = (8000, 11025, 12000, 16000)  # what the coder knows
QUALITY = 0.2  # of libsndfile's 0 (best) to 1 (smallest)
BLOCK = 16000  # libsndfile's coders want their samples in pieces


@dataclass(frozen=True)
class Sound:
    """An utterance to hear and to see.

    Attributes:
        length_s: Its length.
        samples: ``(N,)`` float32.
        rate: Samples per second.
        picture: Its spectrogram, a PNG address.
        top_khz: Upper edge of the picture.
    """

    length_s: float
    samples: np.ndarray
    rate: int
    picture: str
    top_khz: float


def sound(samples: np.ndarray, rate: int) -> Sound:
    """Return an utterance's spectrogram and samples, at most 16,000 a second.

    Args:
        samples: ``(N,)`` float32.
        rate: Samples per second.
    """
    if rate > SPEECH_HZ:
        samples, rate = resample(samples, rate, SPEECH_HZ), SPEECH_HZ
    return Sound(len(samples) / rate, samples, rate, _picture(samples, rate), rate / 2000)


def mp3(s: Sound) -> str:
    """Return the sound as an address: MP3, which every browser plays from any place of it."""
    rate = min((r for r in MP3_HZ if r >= s.rate), default=MP3_HZ[-1])
    samples, out = resample(s.samples, s.rate, rate), io.BytesIO()
    with soundfile.SoundFile(
        out, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", compression_level=QUALITY
    ) as f:
        for start in range(0, len(samples), BLOCK):
            f.write(samples[start : start + BLOCK])
    return address(out.getvalue(), "audio/mpeg")


def address(content: bytes, mime: str) -> str:
    """Return bytes as an address that a page holds in itself."""
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _picture(samples: np.ndarray, rate: int) -> str:
    from PIL import Image

    window = max(32, round(WINDOW_S * rate))
    step = max(round(STEP_S * rate), -(-len(samples) // COLUMNS))
    power, frequencies, _ = spectrum(samples, rate, window, step)
    power = power[frequencies <= TOP_HZ][::-1]  # high frequencies on top
    shade = (power - (power.max() - RANGE_DB)) / RANGE_DB
    level = np.round(np.clip(shade, 0, 1) * (LEVELS - 1)).astype(np.uint8)
    image = Image.fromarray(level, mode="P")
    image.putpalette([x for i in range(LEVELS) for x in [255 - round(255 * i / (LEVELS - 1))] * 3])
    out = io.BytesIO()
    image.save(out, format="png", bits=4, optimize=True)
    return address(out.getvalue(), "image/png")
