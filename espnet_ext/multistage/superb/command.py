# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext probe --model MODEL --task TASK --data DIR [options]

How much do the layers of a frozen encoder tell? A light head is trained on them (SUPERB).

  --model MODEL        any ESPnet model with an encoder (ASR, ST, SSL, pre-training): its archive,
                       exp/<name>, or the folder of a phase
  --task TASK          ks  keywords      accuracy                   wav.scp, text: the keyword
                       ic  intents       accuracy, all slots right  text: action | object | location
                       pr  phones        phone error rate           text: phones
                       sd  diarisation   diarisation error rate     rttm
  --data DIR           folder with the sets train, dev and test (Kaldi-style folders)
  --train, --dev, --test NAME   other names of the sets
  --out FILE           score and settings as JSON (default: probe_TASK.json)
  --device D           cpu, cuda or cuda:N (default: cpu)
  --seed N             start of the head, order of the batches (default: 0)
  --cache DIR          where features are kept (default: probe_cache)
  --cache-gb G         larger sets are computed at each use instead (default: 50)
  --updates N  --batch N  --accumulate N  --rate R  --width N  --chunk-s S  --evaluations N
                       training of the head (default: the protocol of SUPERB, for a GPU)

For a CPU, try --updates 1000 --rate 1e-3 first; only the protocol's values give comparable scores.
"""

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

from espnet_ext import commandline
from espnet_ext.data.audio import info
from espnet_ext.data.utterances import Utterance, utterances
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import sha256_file, write_json
from espnet_ext.multistage.superb.settings import PROTOCOL, Settings

TASKS = {
    "ks": "espnet_ext.multistage.superb.classification:Keywords",
    "ic": "espnet_ext.multistage.superb.classification:Intents",
    "pr": "espnet_ext.multistage.superb.phones:Phones",
    "sd": "espnet_ext.multistage.superb.diarisation:Diarisation",
}
SETS = ("train", "dev", "test")


def main(argv: list[str]) -> int:
    """Run ``espnet-ext probe``; return the exit code."""
    if not argv or commandline.asks_for_help(argv):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    args = commandline.parse(parser(), argv)
    if args.task not in TASKS:
        raise UsageError(f"there is no task '{args.task}'", "--task", nearest(args.task, TASKS))
    settings = settings_of(args)
    found = probe(args, settings)
    found["settings"] = dataclasses.asdict(settings)
    found["protocol"] = settings == PROTOCOL[args.task]
    out = args.out or f"probe_{args.task}.json"
    write_json(out, found)
    print(f"{args.task}: {found['metric']} {found['score']:.2f} % -> {out}")
    return 0


def parser() -> commandline.Parser:
    """Return the parser of the options."""
    p = commandline.Parser("espnet-ext probe")
    for name in ("model", "task", "data"):
        p.add_argument(f"--{name}", required=True)
    for name in SETS:
        p.add_argument(f"--{name}", default=name)
    p.add_argument("--out", default="")
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--cache", type=Path, default=Path("probe_cache"))
    p.add_argument("--cache-gb", type=_positive, default=50.0)
    for name in ("updates", "batch", "accumulate", "width", "evaluations"):
        p.add_argument(f"--{name}", type=commandline.count)
    p.add_argument("--rate", type=_positive)
    p.add_argument("--chunk-s", type=_positive)
    return p


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not '{text}'")
    return value


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the protocol's settings with what the options change."""
    names = [f.name for f in dataclasses.fields(Settings)]
    given = {n: v for n in names if (v := getattr(args, n, None)) is not None}
    return dataclasses.replace(PROTOCOL[args.task], **given)


def probe(args: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """Read the sets, compute features, train the head, score it.

    Raises:
        DataError: A set or the model is not usable; sets are read before the model is loaded.
    """
    from espnet_ext.espnet.frozen import load_frozen, model_files
    from espnet_ext.hardware import check_device
    from espnet_ext.multistage.superb.features import Encoder
    from espnet_ext.multistage.superb.training import predictions, train
    from espnet_ext.plugin import load_object

    check_device(args.device)
    task = load_object(TASKS[args.task], "--task")()
    folders = {name: Path(args.data) / getattr(args, name) for name in SETS}
    rows = {name: read_set(task, folder) for name, folder in folders.items()}
    task.fit(rows["train"][1], folders["train"])
    for name, (_, labels) in rows.items():  # unknown labels are told before the model is loaded
        task.targets(labels, dict.fromkeys(labels, 0), folders[name])
    with model_files(args.model) as (config, checkpoint):
        encoder = Encoder(load_frozen(config, checkpoint, args.device), args.device)
        key = sha256_file(config) + sha256_file(checkpoint)
    task.frame_s = encoder.frame_s
    samples = round(encoder.frame_s * encoder.fs)
    say(f"{encoder.count} layers of width {encoder.width}, a frame every {samples} samples")
    sets = {n: labelled(task, *rows[n], encoder, folders[n], args, key) for n in SETS}
    trained = train(task, sets["train"], sets["dev"], settings, args.seed, args.device, say)
    pairs = [
        (predictions(trained.probe, sets[n], task, settings.batch, args.device), sets[n].targets)
        for n in ("dev", "test")
    ]
    weights = trained.probe.sum.weights.detach().softmax(0).tolist()
    return {
        "task": args.task, "metric": task.metric, "higher_is_better": task.higher_is_better,
        **task.report(*pairs), "model": str(args.model), "model_sha256": key[64:],
        "dev_score": trained.dev_score, "best_update": trained.best_update,
        "curve": trained.curve, "train_seconds": round(trained.seconds, 1), "seed": args.seed,
        "layer_weights": [round(w, 4) for w in weights], "frame_shift_samples": samples,
        "parameters": sum(p.numel() for p in trained.probe.parameters()),
        "utterances": {n: len(rows[n][0]) for n in SETS}, "padded": encoder.padded,
    }  # fmt: skip


def read_set(task: Any, folder: Path) -> tuple[list[Utterance], dict[str, Any]]:
    """Return utterances and labels of a set; they must be those of each other.

    Raises:
        DataError: The set is missing or not usable.
    """
    if not folder.is_dir():
        raise DataError("there is no such set", folder, "--data DIR holds train, dev and test")
    utts, labels = utterances(folder), task.labels(folder)
    ids = {u.id for u in utts}
    if odd := sorted(ids ^ labels.keys()):
        what = f"'{odd[0]}' has {'no label' if odd[0] in ids else 'a label, but no audio'}"
        how = f"espnet-ext doctor --data {folder}"
        raise DataError(f"{what}; {len(odd)} such utterances", folder, how)
    return utts, labels


def labelled(
    task: Any, utts: list[Utterance], labels: dict[str, Any], encoder: Any, folder: Path,
    args: argparse.Namespace, key: str,
) -> Any:  # fmt: skip
    """Return features and targets of a set; features are kept where they fit into the limit."""
    from espnet_ext.multistage.superb.features import Features, bytes_needed, keep
    from espnet_ext.multistage.superb.training import LabelledSet
    from espnet_ext.recipe.console import Progress

    seconds = sum(
        info(u.audio).duration_s if u.end_s is None else u.end_s - (u.start_s or 0) for u in utts
    )
    size_gb = bytes_needed(seconds, encoder) / 1e9
    kept = size_gb <= args.cache_gb
    how = f"kept in {args.cache}" if kept else "over --cache-gb: computed at each use"
    say(f"{folder.name}: {len(utts)} utterances, {seconds / 3600:.2f} h, {size_gb:.2f} GB, {how}")
    progress = Progress(f"features of {folder.name}")
    at = keep(utts, encoder, args.cache, key, progress) if kept else None
    features = Features(utts, encoder, at)
    frames = {u.id: n for u, n in zip(utts, features.frames, strict=True)}
    targets = task.targets(labels, frames, folder)
    return LabelledSet(features, [targets[u.id] for u in utts])


def say(text: str) -> None:
    """Tell of the progress on stderr."""
    print(text, file=sys.stderr, flush=True)
