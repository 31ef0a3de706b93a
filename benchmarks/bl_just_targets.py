# SPDX-License-Identifier: Apache-2.0
"""Do the classes that masked losses predict say which phone is spoken?

    OMP_NUM_THREADS=1 python benchmarks/bl_just_targets.py [--work DIR] [--minutes 15] [--seed 1]

Normalised mutual information between the classes of the encoder frames of a synthetic test set
and the synthesiser's phone in the middle of each, over all frames and without silence. k-means is
fitted to a training set of other speakers. "log-mel" features are what the encoder reads,
normalised per utterance; "cepstra" are 13 of them, normalised again, as k-means is usually fed.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.fft import dct
from sklearn.metrics import normalized_mutual_info_score

from espnet_ext.bl_just.best_rq_loss import RandomProjectionQuantiser
from espnet_ext.bl_just.kmeans_loss import NearestCentre
from espnet_ext.bl_just.masking import normalised, stacked_frames
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.espnet import fastimport

SHIFT_S, MELS, CEPSTRA, UTTERANCES = 0.01, 40, 13, 300
FRAMES = (2, 4)  # input frames of an encoder frame
CODES = (100, 200)


def phones(row: dict, frames: int) -> np.ndarray:
    """Return the phone at the time of each input frame."""
    said, times = np.full(frames, "SIL", dtype="<U16"), np.arange(frames) * SHIFT_S
    for phone, start, end in row["phones"]:
        said[(times >= start) & (times < end)] = phone
    return said


def features(rows: list[dict], data: Path) -> list[torch.Tensor]:
    """Return the log-mel features of each utterance ``(T, F)``, normalised."""
    fastimport.enable()
    from espnet2.asr.frontend.default import DefaultFrontend

    front = DefaultFrontend(fs="16k", n_fft=512, win_length=400, hop_length=160, n_mels=MELS)
    found = []
    for row in rows:
        samples, _ = soundfile.read(data / row["audio"], dtype="float32")
        with torch.no_grad():
            x, n = front(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        found.append(normalised(x, n)[0])
    return found


def cepstra(x: torch.Tensor) -> torch.Tensor:
    """Return the cepstra of log-mel features, normalised."""
    found = torch.from_numpy(dct(x.numpy(), norm="ortho", axis=1)[:, :CEPSTRA])
    return normalised(found[None], torch.tensor([len(x)]))[0]


def stacked(x: torch.Tensor, frames: int) -> torch.Tensor:
    """Return what is under each encoder frame."""
    return stacked_frames(x[None], torch.tensor([len(x)]), len(x) // frames, frames)[0]


def quantisers(train: torch.Tensor) -> dict[str, torch.nn.Module]:
    """Return what gives classes, by name."""
    found = {}
    for codes in CODES:
        found[f"random projection {codes}"] = RandomProjectionQuantiser(train.shape[1], codes, 16)
        found[f"k-means {codes}"] = NearestCentre(train.shape[1], codes)
        found[f"k-means {codes}"].fit(train)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep the corpus there")
    parser.add_argument("--minutes", type=float, default=15.0, help="training audio")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        data = (args.work or Path(tmp)) / "data"
        make_corpus(data, seed=args.seed, train_minutes=args.minutes)
        lines = (data / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        parts = {name: [r for r in rows if r["split"] == name] for name in ("train", "test")}
        mels = {k: features(part[:UTTERANCES], data) for k, part in parts.items()}
    said = [phones(row, len(x)) for row, x in zip(parts["test"], mels["test"], strict=False)]
    print(f"{'frames':<8}{'input':<10}{'classes':<24}{'all':>6}{'speech':>8}")
    for frames in FRAMES:
        true = np.concatenate([s[frames // 2 :: frames][: len(s) // frames] for s in said])
        for name, make in (("log-mel", lambda x: x), ("cepstra", cepstra)):
            train, test = (
                torch.cat([stacked(make(x), frames) for x in mels[k]]) for k in ("train", "test")
            )
            for label, quantiser in quantisers(train).items():
                classes, speech = quantiser(test).numpy(), true != "SIL"
                shares = [
                    normalized_mutual_info_score(true[m], classes[m])
                    for m in (np.ones_like(speech), speech)
                ]
                print(f"{frames:<8}{name:<10}{label:<24}{shares[0]:>6.3f}{shares[1]:>8.3f}")


if __name__ == "__main__":
    main()
