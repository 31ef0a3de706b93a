# SPDX-License-Identifier: Apache-2.0
"""What adaptation does for speech unlike what en_us was trained on: times, and doubtful words.

    python benchmarks/align_adapt.py [--work DIR] [--seed 7] [--utts 200]
                                     [--data FOLDER ...] [--lexicon CMUDICT]

Synthetic sentences with exact word times: as they are, with voices a quarter higher and a seventh
lower (resampled, so also faster and slower), and as by telephone (300 to 3400 Hz, noise 15 dB
below the speech). A word is replaced in every twentieth transcript. The aligners: en_us; en_us
adapted to five of the utterances, and to all; the default training on all. Times are those of the
right transcripts. Of --data the edges of speech are compared, by energy, as in align_peers.py.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from align_check import spoil
from align_peers import Times, differences, edge_differences, true_words, words_of
from scipy import signal

from espnet_ext.align.adapt import adapt_aligner
from espnet_ext.align.evaluate.check import doubtful, missing
from espnet_ext.align.model import AlignModel, find
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import apply_aligner, learn_confidence, save_model, train_aligner
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.tables import read_table, write_table

EVERY, FEW = 20, 5
Change = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def resampled(factor: float) -> Change:
    """Play speech so much faster, and higher."""
    return lambda x, rate, rng: signal.resample_poly(x, 100, round(100 * factor))


def telephone(x: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
    """Leave 300 to 3400 Hz, and add noise."""
    y = signal.sosfilt(signal.butter(4, [300, 3400], "band", fs=rate, output="sos"), x)
    return y + rng.standard_normal(len(y)) * np.sqrt(np.mean(y**2)) * 10 ** (-15 / 20)


CHANGES: dict[str, tuple[Change, float]] = {  # and by how much times grow
    "as it is": (lambda x, rate, rng: x, 1.0),
    "voices higher": (resampled(1.25), 1 / 1.25),
    "voices lower": (resampled(0.86), 1 / 0.86),
    "telephone": (telephone, 1.0),
}


@dataclass(frozen=True)
class Job:
    """Data to align, its dictionary, the folder of the job, and the wrong transcripts."""

    data: Path
    lexicon: str
    work: Path
    wrong: set[str]


def changed(source: Path, out: Path, change: Change) -> None:
    """Write a folder with other audio."""
    rng = np.random.default_rng(1)
    (out / "wav").mkdir(parents=True)
    paths = {}
    for utt, path in read_table(source / "wav.scp").items():
        x, rate = soundfile.read(path)
        paths[utt] = str(out / "wav" / f"{utt}.wav")
        soundfile.write(paths[utt], change(x, rate, rng), rate)
    write_table(out / "wav.scp", paths)
    write_table(out / "utt2spk", read_table(source / "utt2spk"))


def some_wrong(source: Path, out: Path, work: Path) -> set[str]:
    """Write transcripts of which every twentieth is wrong; return those."""
    spoil(source, work, 1)
    texts, other = read_table(source / "text"), read_table(work / "text")
    wrong = set(list(texts)[::EVERY])
    write_table(out / "text", {u: other[u] if u in wrong else t for u, t in texts.items()})
    return wrong


def few(data: Path, out: Path) -> Path:
    """Write a folder with five right utterances."""
    for name in ("wav.scp", "utt2spk", "text"):
        write_table(out / name, dict(list(read_table(data / name).items())[1 : FEW + 1]))
    return out


def aligners(job: Job) -> Iterator[tuple[str, AlignModel]]:
    """Yield the aligners by name."""
    shipped, changes = find("en_us"), {"lexicon": job.lexicon, "textgrid": False}
    yield "en_us", shipped
    for name, data in (("adapted to 5", few(job.data, job.work / "few")), ("adapted", job.data)):
        work = job.work / name
        yield name, adapt_aligner(shipped, data, work / "model", work, map, str, **changes)
    o, work = from_dict(changes), job.work / "train"
    if not job.lexicon:
        return
    session = train_aligner(job.data, work, o, map, str)
    model = save_model(session, work / "model", o.passes[-1], job.data)
    learn_confidence(session, model, job.data)
    yield "trained on it", model


def row(name: str, job: Job, model: AlignModel, true: Times | None, start: float) -> str:
    """Align by a model; return a line of the table."""
    changes = {"textgrid": False, "lexicon": job.lexicon}
    work = job.work / f"by {name}"
    a, _ = apply_aligner(model, job.data, work / "ali", work, map, str, **changes)
    cpu_s = time.process_time() - start
    found = {u: w for u, w in words_of(a).items() if u not in job.wrong}
    paths = read_table(job.data / "wav.scp")
    ms = differences(found, true) if true else edge_differences(found, paths)
    listed = {*(doubtful(a) or ()), *missing(a)}
    size = np.abs(ms)
    return (f"{name:<14}{np.median(size):8.1f}{size.mean():8.1f}{100 * np.mean(size <= 20):8.1f}"
            f"{100 * np.mean(size <= 50):8.1f}{len(listed & job.wrong):6} of {len(job.wrong):<5}"
            f"{len(listed - job.wrong):6} of {len(found):<6}{cpu_s:8.1f}")  # fmt: skip


def compare(title: str, job: Job, true: Times | None) -> None:
    """Print the table of a folder."""
    print(f"\n{title}\n{'ms':<14}{'median':>8}{'mean':>8}{'<= 20':>8}{'<= 50':>8}"
          f"{'wrong listed':>14}{'right listed':>15}{'CPU s':>8}")  # fmt: skip
    start = time.process_time()
    for name, model in aligners(job):
        print(row(name, job, model, true, start), flush=True)
        start = time.process_time()


def main() -> None:
    """Make speech, align it by each aligner, print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--utts", type=int, default=200)
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER")
    parser.add_argument("--lexicon", default="", help="CMUdict; without: espeak-ng, no training")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as tmp:
        work = args.work or Path(tmp)
        speech = work / "speech"
        make_corpus(speech, seed=args.seed, train_minutes=1, test_utts=args.utts)
        true = true_words(speech)
        for title, (change, scale) in CHANGES.items():
            own = work / title.replace(" ", "_")
            changed(speech / "test", own / "data", change)
            wrong = some_wrong(speech / "test", own / "data", own / "spoilt")
            times = {u: [(w, a * scale, b * scale) for w, a, b in t] for u, t in true.items()}
            compare(title, Job(own / "data", args.lexicon, own, wrong), times)
        for i, data in enumerate(args.data):
            own = work / f"data{i}"
            wrong = some_wrong(data, own / "data", own / "spoilt")
            for name in ("wav.scp", "utt2spk"):
                write_table(own / "data" / name, read_table(data / name))
            compare(data.name, Job(own / "data", args.lexicon, own, wrong), None)


if __name__ == "__main__":
    main()
