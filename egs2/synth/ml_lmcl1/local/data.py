# SPDX-License-Identifier: Apache-2.0
"""Synthetic commands with intents, manual and ASR text, in folders train, valid and test.

usage: python local/data.py OUT [--train-minutes N] [--snr-db LOW HIGH] ...

Three steps, each kept below exp/ and not done again: a recogniser is trained on a synthetic corpus
(conf/asr, in exp/asr_model); another corpus, with other sentences, more speakers and noise, is made
(exp/slu_audio); the recogniser decodes it (exp/asr_text).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.synth.room import coloured_noise, utterance_rng
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import EspnetExtError, exit_code
from espnet_ext.files import atomic_dir, sha256_json
from espnet_ext.ml_lmcl.transcribe import transcribe

ASR, AUDIO, TEXT = Path("exp/asr_model"), Path("exp/slu_audio"), Path("exp/asr_text")
PHASE = ASR / "exp/base/finetune"
NAMES = {"train": "train", "dev": "valid", "test": "test"}


def train_recogniser(options: list[str]) -> tuple[Path, Path]:
    """Run the recogniser's recipe in a folder of its own; return configuration and checkpoint.

    Raises:
        EspnetExtError: It failed; what it said stands above.
    """
    ASR.mkdir(parents=True, exist_ok=True)
    recipe = Path("conf/asr/recipe.yaml").read_bytes()
    if not (ASR / "recipe.yaml").exists() or (ASR / "recipe.yaml").read_bytes() != recipe:
        (ASR / "recipe.yaml").write_bytes(recipe)
    command = [sys.executable, "-m", "espnet_ext.recipe", "--stop-stage", "finetune", *options]
    if code := subprocess.run(command, cwd=ASR).returncode:
        how = f"cd {ASR.resolve()}; {' '.join(command)}"
        raise EspnetExtError(f"the recogniser's recipe ended with exit code {code}", ASR, how)
    return PHASE / "config.yaml", PHASE / "valid.acc.ave.pth"


def add_noise(
    source: Path, out: Path, sound: str, seed: int, snr_db: tuple[float, float]
) -> None:  # fmt: skip
    """Write a set's recordings with coloured noise of a signal-to-noise ratio in the range.

    Args:
        source, out: Folders of the recordings and of the noisy ones.
        sound: Hash of the recordings: other sentences may stand below the same ids and paths.
        seed, snr_db: Of the noise.
    """
    tables = [(source / name).read_text(encoding="utf-8") for name in ("wav.scp", "text")]
    request = sha256_json([seed, snr_db, sound, *tables])
    if (out / "request").is_file() and (out / "request").read_text(encoding="utf-8") == request:
        return
    paths = {}
    with atomic_dir(out) as tmp:
        for utt, path in read_table(source / "wav.scp").items():
            speech, rate_hz = soundfile.read(path)
            rng = utterance_rng(seed, utt)
            power = np.mean(speech**2) * 10.0 ** (-rng.uniform(*snr_db) / 10.0)
            noisy = speech + np.sqrt(power) * coloured_noise(rng, len(speech), rng.uniform(0, 6))
            noisy *= 0.9 / max(0.9, float(np.abs(noisy).max()))
            soundfile.write(tmp / f"{utt}.flac", noisy, rate_hz)
            paths[utt] = out / f"{utt}.flac"
        write_table(tmp / "wav.scp", paths)
        write_table(tmp / "text", read_table(source / "text"))
        (tmp / "request").write_text(request, encoding="utf-8")


def recognise(folder: Path, out: Path, model: tuple[Path, Path], nj: int) -> dict[str, str]:
    """Return the ASR text of a set."""
    stamp = [(folder / "request").read_text(encoding="utf-8"), model[1].stat().st_mtime_ns]
    table = out / sha256_json(stamp)[:12]
    if not table.is_file():
        transcribe(folder, *model, table, nj=nj)
    return read_table(table)


def main() -> None:
    """Write the sets and tell what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=2, help="of the sentences and the noise")
    parser.add_argument("--train-minutes", type=float, default=20.0)
    parser.add_argument("--valid-utts", type=int, default=150)
    parser.add_argument("--test-utts", type=int, default=300)
    parser.add_argument("--snr-db", type=float, nargs=2, default=(8.0, 25.0))
    parser.add_argument("--nj", type=int, default=min(2, os.cpu_count() or 1))
    help_asr = "values of conf/asr/recipe.yaml, e.g. finetune.args.max_epoch=5"
    parser.add_argument("--asr", nargs="*", default=[], metavar="KEY=VALUE", help=help_asr)
    args = parser.parse_args()
    sys.path.insert(0, str(Path("../../../local").resolve()))
    from paired_text import Pair, tell, write_pairs

    model = train_recogniser([f"--{x}" for x in args.asr])
    made = make_corpus(
        AUDIO, seed=args.seed, train_minutes=args.train_minutes, dev_utts=args.valid_utts,
        test_utts=args.test_utts, progress=lambda line: print(line, flush=True),
    )  # fmt: skip
    sets = {}
    for split, name in NAMES.items():
        source, noisy = Path(made.out_dir) / split, AUDIO.with_name("slu_noisy") / split
        add_noise(source, noisy, made.audio_sha256, args.seed, tuple(args.snr_db))
        asr = recognise(noisy, TEXT / split, model, args.nj)
        manual, intent = read_table(source / "text"), read_table(source / "intent")
        sets[name] = {utt: Pair(manual[utt], asr[utt], intent[utt]) for utt in manual}
        write_pairs(args.out / name, sets[name])
    tell(sets)


if __name__ == "__main__":
    sys.exit(exit_code(main))
