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
from pathlib import Path

from espnet_ext import commandline
from espnet_ext.errors import UsageError, nearest
from espnet_ext.files import write_json
from espnet_ext.multistage.superb.probing import SETS, TASKS, Job, probe
from espnet_ext.multistage.superb.settings import PROTOCOL, Settings


def main(argv: list[str]) -> int:
    """Run ``espnet-ext probe``; return the exit code."""
    if not argv or commandline.asks_for_help(argv):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    args = commandline.parse(parser(), argv)
    if args.task not in TASKS:
        raise UsageError(f"there is no task '{args.task}'", "--task", nearest(args.task, TASKS))
    folders = {name: Path(args.data) / getattr(args, name) for name in SETS}
    job = Job(args.task, folders, settings_of(args), args.device, args.seed, args.cache,
              args.cache_gb)  # fmt: skip
    found = probe(job, args.model).facts
    out = args.out or f"probe_{args.task}.json"
    write_json(out, found)
    print(f"{args.task}: {found['metric']} {found['score']:.2f} % -> {out}")
    return 0


def parser() -> commandline.Parser:
    """Return the parser of the options."""
    positive = commandline.number("a number above 0", lambda value: 0 < value < 1e9)
    p = commandline.Parser("espnet-ext probe")
    for name in ("model", "task", "data"):
        p.add_argument(f"--{name}", required=True)
    for name in SETS:
        p.add_argument(f"--{name}", default=name)
    p.add_argument("--out", default="")
    p.add_argument("--device", default="cpu")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--cache", type=Path, default=Path("probe_cache"))
    p.add_argument("--cache-gb", type=positive, default=50.0)
    for name in ("updates", "batch", "accumulate", "width", "evaluations"):
        p.add_argument(f"--{name}", type=commandline.count)
    p.add_argument("--rate", type=positive)
    p.add_argument("--chunk-s", type=positive)
    return p


def settings_of(args: argparse.Namespace) -> Settings:
    """Return the protocol's settings with what the options change."""
    names = [f.name for f in dataclasses.fields(Settings)]
    given = {n: v for n in names if (v := getattr(args, n, None)) is not None}
    return dataclasses.replace(PROTOCOL[args.task], **given)
