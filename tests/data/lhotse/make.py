# SPDX-License-Identifier: Apache-2.0
"""Makes the files of this folder with lhotse itself, and lets lhotse read what we write.

By hand, in an environment that has lhotse and soundfile (tests need neither):

    python make.py FOLDER                        # cuts.jsonl.gz and shar/; audio in FOLDER/audio
    python make.py FOLDER --check CUTS.jsonl.gz  # what 'espnet-ext data --to-cuts' has written

``cuts.jsonl.gz`` has one cut of each kind; paths of audio are relative, as lhotse was given them.
"""

import os
import sys
from pathlib import Path

import lhotse
import numpy as np
import soundfile
from lhotse.cut import PaddingCut
from lhotse.supervision import AlignmentItem

RATE_HZ, SAMPLES = 16000, 4800


def write_audio(folder: Path) -> None:
    """Write a.wav, b.wav and c.wav (two channels), tones that differ."""
    folder.mkdir(parents=True, exist_ok=True)
    t = np.arange(SAMPLES) / RATE_HZ
    tone = {hz: 0.1 * np.sin(2 * np.pi * hz * t) for hz in (200, 300, 400, 500)}
    both = np.stack([tone[400], tone[500]], axis=1)
    for name, wave in {"a": tone[200], "b": tone[300], "c": both}.items():
        soundfile.write(folder / f"{name}.wav", wave, RATE_HZ, subtype="PCM_16")


def supervisions() -> lhotse.SupervisionSet:
    """Return two utterances of a, one that is all of b, one on each channel of c."""
    make, item = lhotse.SupervisionSegment, AlignmentItem
    words = {"word": [item("hello", 0.05, 0.05, 0.9)], "phone": [item("HH", 0.05, 0.02)]}
    rows = [
        make("a-1", "a", 0.0, 0.1, text="hello  there", speaker="s1", language="en", gender="F",
             alignment=words, custom={"intent": "greet"}),
        make("a-2", "a", 0.15, 0.1, text="you", speaker="s1",
             alignment={"word": [item("you", 0.16, 0.04)]}),
        make("b", "b", 0.0, SAMPLES / RATE_HZ, text="b b", speaker="s2"),
        make("c-0", "c", 0.1, 0.1, channel=0, text="left", speaker="s3"),
        make("c-1", "c", 0.1, 0.1, channel=1, text="right", speaker="s4"),
    ]  # fmt: skip
    return lhotse.SupervisionSet.from_segments(rows)


def make(out: Path) -> None:
    """Write the manifests and shards."""
    write_audio(Path("audio"))
    found = (lhotse.Recording.from_file(f"audio/{name}.wav") for name in "abc")
    recordings = lhotse.RecordingSet.from_recordings(found)
    plain = lhotse.CutSet.from_manifests(recordings=recordings, supervisions=supervisions())
    a, b, c = plain
    named = {
        "mono": a, "multi": c, "padded": b.pad(duration=1.0), "appended": a.append(b),
        "mixed": a.mix(b, snr=10), "faster": b.perturb_speed(1.1), "resampled": b.resample(8000),
        "padding": PaddingCut("padding", 1.0, RATE_HZ, 0.0, num_samples=RATE_HZ),
        "window": a.truncate(offset=0.05, duration=0.15),
    }  # fmt: skip
    cuts = lhotse.CutSet.from_cuts(cut.with_id(name) for name, cut in named.items())
    cuts.to_file(str(out / "cuts.jsonl.gz"))
    (out / "shar").mkdir(exist_ok=True)
    short = plain.trim_to_supervisions(keep_overlapping=False)
    short.to_shar(str(out / "shar"), fields={"recording": "flac"}, shard_size=2)


def check(path: Path) -> None:
    """Read a manifest with lhotse, audio included."""
    for cut in lhotse.CutSet.from_file(str(path)):
        lhotse.validate(cut)
        audio = cut.load_audio()
        assert audio.shape[-1] == cut.num_samples
        (s,) = cut.supervisions
        assert s.start >= 0 and s.end <= cut.duration
        words = [item.symbol for item in (s.alignment or {}).get("word", [])]
        print(cut.id, audio.shape, s.speaker, repr(s.text), words)


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    os.chdir(sys.argv[1])
    if "--check" in sys.argv:
        check(Path(sys.argv[3]))
    else:
        make(here)
