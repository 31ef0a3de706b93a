# SPDX-License-Identifier: Apache-2.0
"""The aligner of the package beside pocketsphinx 5 and Kaldi, in one run.

    pip install pocketsphinx==5.1.1 kaldi-native-fbank==1.23.0   # the package never needs them
    pip install --no-deps kaldi-hmm-gmm==1.1.4 kaldifst==1.7.17  # no others: see align_khg.py
    python benchmarks/align_peers.py [--work DIR] [--seed 7] [--minutes 20]
                                     [--data TEST [TRAIN] ...] [--lexicon CMUDICT]

Two systems come with a model of English: en_us and pocketsphinx. The others learn from TRAIN, and
all from the same dictionary: Kaldi's monophones (align_kaldi.py), and our aligner by monophones
alone and as it is by default. A system that is not installed is left out, and that is told.

Synthetic sentences have exact word times. No system has heard their voices in training, but all
except pocketsphinx have heard others of this synthesiser, which is an advantage. Of other data
folders (--data, e.g. the test set of AN4) only the edges of speech are known, from its energy:
where the first word begins and the last one ends. Breath and noise mislead that: read medians
there, and only to compare. CPU time is that of aligning with the loading of a model, not of
training.
"""

import argparse
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import align_khg
import numpy as np
import soundfile

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.model import find
from espnet_ext.align.options import AlignOptions, from_dict
from espnet_ext.align.run import apply_aligner, save_model, train_aligner
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.synth.layout import RATE_HZ
from espnet_ext.data.tables import read_table

Times = dict[str, list[tuple[str, float, float]]]  # words of an utterance: name, start_s, end_s
Align = Callable[[], Times]
HOP_S = 0.005
FLOOR_DB, RISE = 10.0, 0.15


@dataclass(frozen=True)
class Job:
    """What a system gets.

    Args:
        data: Kaldi-style folder to align.
        lexicon: Dictionary of en_us; empty: espeak-ng pronounces.
        work: Folder of this job.
        train: Folder to learn from, for the systems that come without a model.
        learnt: Dictionary of those.
    """

    data: Path
    lexicon: str
    work: Path
    train: Path | None = None
    learnt: str = ""


def words_of(found: AlignmentDir) -> Times:
    """Return the words of an alignment directory."""
    return {u: [(w.name, w.start_s, w.end_s) for w in found.words[u]] for u in found.utts}


def shipped(job: Job) -> Align:
    """Align by en_us; words are pronounced by espeak-ng where no lexicon is given."""
    changes = {"textgrid": False, "lexicon": job.lexicon}
    ali, work = job.work / "ali", job.work / "work"
    return lambda: words_of(
        apply_aligner(find("en_us"), job.data, ali, work, map, str, **changes)[0]
    )


def trained(passes: list[str], job: Job) -> Align:
    """Train the aligner by these passes."""
    o = from_dict({"lexicon": job.learnt, "textgrid": False, "passes": passes})
    session = train_aligner(job.train, job.work / "train", o, map, str)
    model = save_model(session, job.work / "model", passes[-1], job.train)
    return lambda: words_of(
        apply_aligner(model, job.data, job.work / "ali", job.work / "work", map, str)[0]
    )


def kaldi(job: Job) -> Align:
    """Train Kaldi's monophones."""
    from align_kaldi import KaldiMono

    model = KaldiMono(job.train, job.learnt, job.data)
    return lambda: model.align(job.data)


def sphinx(job: Job) -> Align:
    """Align by pocketsphinx."""
    return partial(_sphinx, job.data)


def _sphinx(data: Path) -> Times:
    """Two passes, words and then phones, as its own command does."""
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


WITH_MODEL: dict[str, Callable[[Job], Align]] = {"en_us": shipped, "pocketsphinx": sphinx}
TRAINED: dict[str, Callable[[Job], Align]] = {
    "Kaldi, mono": kaldi,
    "ours, mono": partial(trained, ["mono"]),
    "ours, default": partial(trained, AlignOptions().passes),
}


def missing() -> dict[str, str]:
    """Return systems that are not installed, and why."""
    found = {}
    if importlib.util.find_spec("pocketsphinx") is None:
        found["pocketsphinx"] = "pip install pocketsphinx==5.1.1"
    if importlib.util.find_spec("kaldi_native_fbank") is None:
        found["Kaldi, mono"] = "pip install kaldi-native-fbank==1.23.0"
    elif why := align_khg.problem():
        found["Kaldi, mono"] = why
    return found


def true_words(speech: Path) -> Times:
    """Return the words of a synthetic corpus with the synthesiser's own times."""
    lines = (speech / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    rows = map(json.loads, lines)
    return {r["id"]: [(w[0], w[1], w[2]) for w in r["words"]] for r in rows}


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


def edge_differences(found: Times, paths: dict[str, str]) -> np.ndarray:
    """Return differences in ms of the first start and the last end from the edges of speech."""
    speech = {u: edges(paths[u]) for u in found}
    rows = [(w[0][1] - speech[u][0], w[-1][2] - speech[u][1]) for u, w in found.items() if w]
    return 1000 * np.array(rows).reshape(-1, 2)


def line(name: str, ms: np.ndarray, count: int, of: int, cpu_s: float, hours: float) -> str:
    """Return a row of the table."""
    size = np.abs(ms)
    shares = [f"{100 * np.mean(size <= limit):7.1f}" for limit in (20, 50, 100)]
    return (f"{name:<14}{count:>5} of {of:<5}{np.median(size):8.1f}{size.mean():8.1f}"
            f"{''.join(shares)}{np.mean(ms[:, 0]):8.1f}{np.mean(ms[:, 1]):8.1f}"
            f"{cpu_s / hours:10.0f}")  # fmt: skip


def compare(title: str, job: Job, true: Times | None, skip: Collection[str]) -> None:
    """Print the table of a data folder; without true times, of the edges of speech."""
    data = job.data
    paths = read_table(data / "wav.scp")
    hours = sum(soundfile.info(p).duration for p in paths.values()) / 3600
    what = "word edges" if true else "edges of speech, by energy"
    print(f"\n{title}: {len(paths)} utterances, {60 * hours:.1f} min; {what}")
    print(f"{'ms':<14}{'aligned':>13}{'median':>9}{'mean':>8}{'<=20':>7}{'<=50':>7}{'<=100':>7}"
          f"{'starts':>8}{'ends':>8}{'CPU s/h':>10}")  # fmt: skip
    for name, system in (WITH_MODEL | TRAINED if job.train else WITH_MODEL).items():
        if name in skip:
            continue
        align = system(replace(job, work=job.work / f"{title}_{name}"))
        start = time.process_time()
        found = align()
        cpu_s = time.process_time() - start
        ms = differences(found, true) if true else edge_differences(found, paths)
        print(line(name, ms, len(found), len(paths), cpu_s, hours), flush=True)


def main() -> None:
    """Make speech, align it by each system, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument(
        "--minutes", type=float, default=20.0, help="synthetic speech to learn from"
    )
    parser.add_argument("--data", type=Path, action="append", default=[], nargs="+",
                        metavar="FOLDER", help="what to align, and what to learn from")  # fmt: skip
    parser.add_argument("--lexicon", default="", help="CMUdict; without: espeak-ng")
    args = parser.parse_args()
    if any(len(folders) > 2 for folders in args.data):
        parser.error("--data takes TEST and TRAIN at most; give it again for another pair")
    if any(len(folders) > 1 for folders in args.data) and not args.lexicon:
        parser.error("--data TEST TRAIN needs --lexicon")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    skip = missing()
    for name, why in skip.items():
        print(f"left out: {name} ({why})")
    with tempfile.TemporaryDirectory() as tmp:
        work = args.work or Path(tmp)
        speech = work / "speech"
        make_corpus(speech, seed=args.seed, train_minutes=args.minutes, test_utts=200)
        learnt = args.lexicon or str(speech / "lexicon.txt")
        job = Job(speech / "test", args.lexicon, work, speech / "train", learnt)
        compare("synthetic", job, true_words(speech), skip)
        for i, (data, *train) in enumerate(args.data):
            own = replace(job, data=data, train=next(iter(train), None), work=work / f"data{i}")
            compare(data.name, own, None, skip)


if __name__ == "__main__":
    main()
