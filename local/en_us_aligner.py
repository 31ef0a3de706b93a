# SPDX-License-Identifier: Apache-2.0
"""Train the English aligner that comes with the package, and write its folder and card.

usage: AN4=/path KATHLEEN=/path CMUDICT=/path python local/en_us_aligner.py WORK OUT [--nj N]

Free speech only: AN4 (74 speakers), the Kathleen voice (public domain) and voices of espeak-ng;
pronunciations of CMUdict, 39 phones without stress. WORK gets the data, the whole aligner and
held-out parts (an4_test, kathleen_test, synth_test); OUT what is needed to align. A stopped
training goes on when it is started again.
"""

import argparse
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from cmu_lexicon import find_dictionary, write_lexicon

from espnet_ext.align import model as model_files
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import learn_confidence, train_aligner
from espnet_ext.data.audio import info
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.tables import read_table, write_set
from espnet_ext.errors import DataError, exit_code
from espnet_ext.files import write_text
from espnet_ext.recipe.executor import make_executor
from espnet_ext.recipe.options import Options

HERE = Path(__file__).resolve().parent
SYNTH_MINUTES, SEED = 15, 1
TRAINED_ON = "AN4, Kathleen, voices of espeak-ng"
PARTS = {"an4": "an4.py", "kathleen": "kathleen.py"}
OPTIONS = {"passes": ["mono", "tri", "hybrid"], "oov": "skip", "tri": {"leaves": 900}}
CARD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
# en_us: an English aligner, {size:.1f} MB

Phones of CMUdict without stress, 16 kHz. `espnet-ext align DATA OUT` uses it.

| speech it was trained on | utterances | minutes | licence |
|---|---|---|---|
{rows}

Pronunciations: CMUdict (BSD-like licence); none of it is in this folder. Words without a lexicon
are pronounced by g2p_en or espeak-ng. Passes {passes}, seed {seed}. The voices are few: 74 speakers
of AN4, one of Kathleen, and synthetic ones; adults, read speech, little noise. Adapt it to
other speech (`--adapt`), or train an aligner on that (`espnet-ext align train`).

Made by

    AN4=/path KATHLEEN=/path CMUDICT=/path python local/en_us_aligner.py WORK OUT

No pickle: JSON and npz. Apache-2.0.
"""
LICENCES = {
    "an4": "CMU AN4: any use, keep the notice",
    "kathleen": "CC0 1.0",
    "synth": "made by espeak-ng",
}


def prepare(work: Path) -> None:
    """Make the corpora, each with a training and a test set."""
    for name, script in PARTS.items():
        done = work / name / "test" / "text"
        if not done.is_file():
            subprocess.run([sys.executable, str(HERE / script), str(work / name)], check=True)
    make_corpus(work / "synth", seed=SEED, train_minutes=SYNTH_MINUTES, progress=print)


def join(work: Path) -> None:
    """Write WORK/train, all training sets in capitals, and a test set of each corpus."""
    train: dict[str, tuple[str, str, str]] = {}
    for name in LICENCES:
        train |= rows(work / name / "train", name)
        write_set(work / f"{name}_test", rows(work / name / "test", name))
    write_set(work / "train", train)


def rows(folder: Path, name: str) -> dict[str, tuple[str, str, str]]:
    """Return ``{utterance: (audio, text, speaker)}``; ids begin with the name of the corpus."""
    audio, speakers = read_table(folder / "wav.scp"), read_table(folder / "utt2spk")
    texts = read_table(folder / "text")
    return {
        f"{name}-{utt}": (audio[utt], text.upper(), f"{name}-{speakers[utt]}")
        for utt, text in texts.items()
    }


def main() -> None:
    """Train, and write the model with its card."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--nj", type=int, default=0, help="processes (default: all cores)")
    args = parser.parse_args()
    for name in ("AN4", "KATHLEEN"):
        if not os.environ.get(name):
            raise DataError("the path of the corpus is not set", name, f"{name}=/path")
    dictionary = find_dictionary()
    prepare(args.work)
    join(args.work)
    texts = [t for p in args.work.glob("*/text") for t in read_table(p).values()]
    write_lexicon(args.work, texts, dictionary)
    o = from_dict({**OPTIONS, "lexicon": str(args.work / "lexicon.txt"), "seed": SEED})
    data, work = args.work / "train", args.work / "aligner" / "work"
    with make_executor(Options(nj=args.nj)) as executor:
        session = train_aligner(data, work, o, executor.map, print)
        own = replace(o, lexicon="", oov="auto")  # words are converted where nobody gives a lexicon
        phones = session.corpus.pronunciations.phone_set()
        model = model_files.save(args.out, session.models, own, phones, TRAINED_ON)
        learn_confidence(session, model, data)
    write_text(args.out / "README.md", card(args.out, args.work, list(o.passes)))


def card(out: Path, work: Path, passes: list[str]) -> str:
    """Return README.md of the model."""
    lines = []
    for name, licence in LICENCES.items():
        audio = read_table(work / name / "train" / "wav.scp")
        minutes = sum(info(path).duration_s for path in audio.values()) / 60
        lines.append(f"| {name} | {len(audio):,} | {minutes:.1f} | {licence} |")
    size = sum(p.stat().st_size for p in out.iterdir()) / 1e6
    return CARD.format(size=size, rows="\n".join(lines), passes=", ".join(passes), seed=SEED)


if __name__ == "__main__":
    sys.exit(exit_code(main))
