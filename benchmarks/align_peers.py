# SPDX-License-Identifier: Apache-2.0
"""The English aligner of the package beside pocketsphinx 5 and its English model, in one run.

    pip install pocketsphinx==5.1.1        # into any environment; the package never needs it
    python benchmarks/align_peers.py [--work DIR] [--seed 7] [--data FOLDER ...] [--lexicon CMUDICT]

Synthetic sentences have exact word times. Neither system has heard their voices, but en_us was
trained on others of this synthesiser, which is an advantage. Of other data folders (--data, e.g.
the test set of AN4) only the edges of speech are known, from its energy: where the first word
begins and the last one ends. Breath and noise mislead that: read medians there, and only to
compare. CPU time includes loading the model, once.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.model import find
from espnet_ext.align.run import apply_aligner
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.synth.layout import RATE_HZ
from espnet_ext.data.tables import read_table

Times = dict[str, list[tuple[str, float, float]]]  # words of an utterance: name, start_s, end_s
HOP_S = 0.005
FLOOR_DB, RISE = 10.0, 0.15


def ours(data: Path, work: Path, lexicon: str) -> Times:
    """Align by en_us; words are pronounced by espeak-ng where no lexicon is given."""
    changes = {"textgrid": False, "lexicon": lexicon}
    done, _ = apply_aligner(find("en_us"), data, work / "ali", work / "work", map, str, **changes)
    found = AlignmentDir(done.path)
    return {u: [(w.name, w.start_s, w.end_s) for w in found.words[u]] for u in found.utts}


def sphinx(data: Path, work: Path, lexicon: str) -> Times:
    """Align by pocketsphinx in two passes, words and then phones, as its own command does."""
    from pocketsphinx import Decoder

    decoder, out = Decoder(samprate=RATE_HZ, lm=None, bestpath=False, loglevel="FATAL"), {}
    texts, paths = read_table(data / "text"), read_table(data / "wav.scp")
    for utt, text in texts.items():
        raw = soundfile.read(paths[utt], dtype="int16")[0].tobytes()
        try:
            decoder.set_align_text(text.lower())
            for again in (False, True):
                if again:
                    decoder.set_alignment()
                decoder.start_utt()
                decoder.process_raw(raw, full_utt=True)
                decoder.end_utt()
            words = [(w.name.partition("(")[0], w.start / 100, (w.start + w.duration) / 100)
                     for w in decoder.get_alignment()]  # fmt: skip
        except RuntimeError:  # a word that it does not know, or no path
            continue
        out[utt] = [w for w in words if w[0][0] not in "<["]
    return out


SYSTEMS: dict[str, Callable[[Path, Path, str], Times]] = {"en_us": ours, "pocketsphinx": sphinx}


def differences(found: Times, true: Times) -> np.ndarray:
    """Return differences in ms of all starts and ends of utterances whose words are the same."""
    rows = [
        (b - a, d - c)
        for utt, words in found.items()
        if [w.lower() for w, *_ in words] == [w.lower() for w, *_ in true[utt]]
        for (_, b, d), (_, a, c) in zip(words, true[utt], strict=True)
    ]
    return 1000 * np.array(rows).reshape(-1, 2)


def edges(path: str) -> tuple[float, float]:
    """Return where the energy of a recording rises and falls, in seconds."""
    x, rate = soundfile.read(path, dtype="float32")
    n = round(HOP_S * rate)
    energy = 10 * np.log10(np.square(x[: len(x) // n * n]).reshape(-1, n).mean(1) + 1e-9)
    low, high = np.percentile(energy, 10), np.percentile(energy, 95)
    loud = np.flatnonzero(energy > max(low + FLOOR_DB, low + RISE * (high - low)))
    return loud[0] * HOP_S, (loud[-1] + 1) * HOP_S


def line(name: str, ms: np.ndarray, count: int, of: int, cpu_s: float, hours: float) -> str:
    """Return a row of the table."""
    size = np.abs(ms)
    shares = [f"{100 * np.mean(size <= limit):7.1f}" for limit in (20, 50, 100)]
    return (f"{name:<14}{count:>5} of {of:<5}{np.median(size):8.1f}{size.mean():8.1f}"
            f"{''.join(shares)}{np.mean(ms[:, 0]):8.1f}{np.mean(ms[:, 1]):8.1f}"
            f"{cpu_s / hours:10.0f}")  # fmt: skip


def compare(title: str, data: Path, true: Times | None, work: Path, lexicon: str) -> None:
    """Print the table of a data folder; without true times, of the edges of speech."""
    paths = read_table(data / "wav.scp")
    hours = sum(soundfile.info(p).duration for p in paths.values()) / 3600
    what = "word edges" if true else "edges of speech, by energy"
    print(f"\n{title}: {len(paths)} utterances, {60 * hours:.1f} min; {what}")
    print(f"{'ms':<14}{'aligned':>13}{'median':>9}{'mean':>8}{'<=20':>7}{'<=50':>7}{'<=100':>7}"
          f"{'starts':>8}{'ends':>8}{'CPU s/h':>10}")  # fmt: skip
    for name, align in SYSTEMS.items():
        start = time.process_time()
        found = align(data, work / f"{title}_{name}", lexicon)
        cpu_s = time.process_time() - start
        if true:
            ms = differences(found, true)
        else:
            speech = {u: edges(paths[u]) for u in found}
            ms = 1000 * np.array([
                (w[0][1] - speech[u][0], w[-1][2] - speech[u][1]) for u, w in found.items() if w
            ])  # fmt: skip
        print(line(name, ms, len(found), len(paths), cpu_s, hours))


def main() -> None:
    """Make speech, align it by each system, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--lexicon", default="", help="CMUdict; without: espeak-ng")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as tmp:
        work = args.work or Path(tmp)
        make_corpus(work / "speech", seed=args.seed, train_minutes=0.5, test_utts=200)
        lines = (work / "speech" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        rows = map(json.loads, lines)
        true = {r["id"]: [(w[0], w[1], w[2]) for w in r["words"]] for r in rows}
        compare("synthetic", work / "speech" / "test", true, work, args.lexicon)
        for data in args.data:
            compare(data.name, data, None, work, args.lexicon)


if __name__ == "__main__":
    main()
