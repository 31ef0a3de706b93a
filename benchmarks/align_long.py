# SPDX-License-Identifier: Apache-2.0
"""Long recordings: is a word found where it was said, and at what cost?

    python benchmarks/align_long.py --data DIR [--minutes 5 15 60] [--model en_us] [--seed 1]

Joins the utterances of a data folder, in its order, with pauses of 0.05 to 1.2 s: noise as loud as
the quietest moment of each. The joined recording is aligned as one utterance by a trained model;
the utterances are aligned one by one as the reference. A word counts as found if it lies inside its
own utterance, give or take 50 ms.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.data.tables import read_table, write_table

RATE = 16000
PAUSE_S = (0.05, 1.2)
SLACK_S = 0.05


def joined(data: Path, minutes: float, out: Path, seed: int) -> dict[str, tuple[float, float]]:
    """Write ``long/`` and ``short/`` data folders; return start and end of each utterance."""
    rng, texts = np.random.default_rng(seed), read_table(data / "text")
    wavs = read_table(data / "wav.scp")
    parts, spans, at = [], {}, 0
    for utt, place in wavs.items():
        samples, rate = soundfile.read(place, dtype="float32")
        if rate != RATE:
            raise SystemExit(f"{place}: {rate} Hz, need {RATE}")
        spans[utt] = (at / RATE, (at + len(samples)) / RATE)
        frames = samples[: len(samples) // 800 * 800].reshape(-1, 800)
        quiet = float(np.sqrt((frames**2).mean(1)).min()) + 1e-5
        pause = quiet * rng.standard_normal(int(RATE * rng.uniform(*PAUSE_S)))
        parts += [samples, pause.astype(np.float32)]
        at += len(samples) + len(pause)
        if at > 60 * RATE * minutes:
            break
    for name in ("long", "short"):
        (out / name).mkdir(parents=True)
    soundfile.write(out / "long.wav", np.concatenate(parts), RATE)
    write_table(out / "long/wav.scp", {"long": str(out / "long.wav")})
    write_table(out / "long/text", {"long": " ".join(texts[u] for u in spans)})
    write_table(out / "short/wav.scp", {u: wavs[u] for u in spans})
    write_table(out / "short/text", {u: texts[u] for u in spans})
    for name, utts in (("long", ["long"]), ("short", list(spans))):
        write_table(out / name / "utt2spk", dict.fromkeys(utts, utts[0]))
    return spans


def aligned(model: str, data: Path, out: Path) -> tuple[AlignmentDir, float, float]:
    """Align in a process of its own; return the alignment, CPU seconds, and peak MB so far."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "espnet_ext.cli", "align", "apply", model, str(data), str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return AlignmentDir(out / "alignment"), cpu_s, after.ru_maxrss / 1024


def compare(long: AlignmentDir, short: AlignmentDir, spans: dict) -> tuple[int, int, list[float]]:
    """Return how many words are found, of how many, and the differences of their edges in s."""
    words = iter(long.words["long"])
    found, total, differences = 0, 0, []
    for utt, (start_s, end_s) in spans.items():
        for own in short.words[utt]:
            word = next(words)
            total += 1
            if start_s - SLACK_S <= word.start_s and word.end_s <= end_s + SLACK_S:
                found += 1
            differences += [abs(word.start_s - start_s - own.start_s),
                            abs(word.end_s - start_s - own.end_s)]  # fmt: skip
    return found, total, differences


def main() -> None:
    """Print a line for each length, the shortest first: peak memory only ever rises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 15, 60])
    parser.add_argument("--model", default="en_us")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print("minutes  words found in their utterance  edges against one by one: median, <= 50 ms  "
          "CPU against one by one  peak MB")  # fmt: skip
    for minutes in sorted(args.minutes):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            spans = joined(args.data, minutes, work, args.seed)
            short, base_s, _ = aligned(args.model, work / "short", work / "short_out")
            long, cpu_s, peak_mb = aligned(args.model, work / "long", work / "long_out")
            found, total, differences = compare(long, short, spans)
        near = 100 * np.mean(np.array(differences) <= 0.05)
        print(
            f"{minutes:7g}  {found} of {total} ({100 * found / total:.2f} %)  "
            f"{1000 * np.median(differences):.1f} ms, {near:.2f} %  "
            f"{cpu_s:.0f} / {base_s:.0f} s = {cpu_s / base_s:.2f}  {peak_mb:.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
