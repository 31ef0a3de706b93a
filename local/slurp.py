# SPDX-License-Identifier: Apache-2.0
"""SLURP into folders train, valid and test with manual and ASR text; label = scenario and action.

usage: python local/slurp.py OUT [--asr released|espnet|simulate|table:PATH] [options]

SLURP=/path names a folder that holds, itself or in the layout of its repository, what --asr needs:

  released  slurp_with_oracle_test.json or slurp.json with ASR text (SpokenCSE), and meta.json with
            the labels' names; or the file that --asr espnet left. --system: whose ASR text.
  espnet    train.jsonl, devel.jsonl and test.jsonl, the text that SLURP's authors publish. The
            recordings below SLURP_AUDIO are decoded by --asr-config and --asr-model; killed, it
            goes on. One utterance per recording. The result is kept as slurp_espnet.json.
  table:PATH  the same text, and PATH the hypotheses that you have: see slurp_table.py.
  simulate  the same text, and ASR text by a confusion model, no audio; one utterance per sentence.

--download fetches the three .jsonl files when SLURP is not set. --train-extra DIR adds sentences
of HWU64 with simulated ASR text to the training set, without those of SLURP's devel or test.
--devel-only makes valid and test out of devel.jsonl, half of each label each; training is HWU64.
"""

import argparse
import os
import sys
from pathlib import Path

import slurp_text
from paired_text import Pair, Pairs, confusion_model, error_rate, tell, write_pairs
from slurp_asr import model_files, write_decoded
from slurp_table import read_hypotheses, tell_heard, tell_missing, with_hypotheses
from slurp_text import SPLITS, Sentence

from espnet_ext.data.labelled import split_labelled
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.ml_lmcl.simulate.confusion import ConfusionModel
from espnet_ext.ml_lmcl.simulate.generate import make_degraded
from espnet_ext.paths import called_from
from espnet_ext.text.normalize import normalize

NAMES = {"train": "train", "devel": "valid", "test": "test"}
SOURCES, TABLE = ("released", "espnet", "simulate"), "table"
RATE = 20.0  # percent, of simulated ASR text where there is no real one to follow


def source(text: str) -> tuple[str, str | None]:
    """Return where ASR text comes from, and the path of ``table:PATH``."""
    kind, _, path = text.partition(":")
    if text in SOURCES or (kind == TABLE and path):
        return kind, path or None
    known = [*SOURCES, f"{TABLE}:PATH"]
    raise UsageError(f"ASR text cannot come from '{text}'", "--asr", f"one of {', '.join(known)}")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    p.add_argument("out", type=Path)
    p.add_argument("--asr", default="released", metavar="SOURCE", help="see above")
    p.add_argument("--released", metavar="FILE", help="name of the released file")
    p.add_argument("--system", default="google", help="google, wav2vec2 or espnet")
    p.add_argument("--recordings", choices=("all", "headset", "first"), default="all")
    p.add_argument("--asr-config", help="config.yaml of an ESPnet model, or a packed one (.zip)")
    p.add_argument("--asr-model", help="its checkpoint; not with a packed one")
    p.add_argument("--beam", type=int, help="beam search of this width; default: greedy CTC")
    p.add_argument("--nj", type=int, default=1, help="processes that decode")
    p.add_argument("--work", type=Path, default=Path("exp/asr_text"), help="keeps what is decoded")
    p.add_argument("--confusion", help="model of 'espnet-ext simulate-asr estimate'")
    p.add_argument("--wer", type=float, help="of simulated ASR text, percent")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--train-extra", metavar="HWU64")
    p.add_argument("--devel-only", action="store_true")
    p.add_argument("--download", action="store_true")
    p.add_argument("--check", action="store_true", help="read all that is needed, write nothing")
    p.add_argument("--downloads", type=Path, default=Path("downloads/slurp"))
    p.add_argument("--sha256", nargs="*", default=[], metavar="SPLIT=HEX")
    return p


def given(path: str) -> Path:
    """Return a path of an option; a relative one is meant from where run.sh was called."""
    return called_from() / os.path.expanduser(path)


def check(args: argparse.Namespace) -> None:
    """Raise UsageError for options that do not go together."""
    wants = {
        "--asr-config is needed": args.asr == "espnet" and not args.asr_config,
        "--confusion is needed: there are no real pairs to learn from":
            args.asr == "simulate" and not args.confusion,
        "--train-extra is needed: --devel-only leaves nothing to train on":
            args.devel_only and not args.train_extra,
        "--devel-only is for --asr simulate": args.devel_only and args.asr != "simulate",
        "--download fetches the text alone, without ASR text":
            args.download and args.asr == "released",
    }  # fmt: skip
    for what, wrong in wants.items():
        if wrong:
            raise UsageError(what, f"--asr {args.asr}", "python local/slurp.py --help")
    if args.wer is not None and not 0 < args.wer < 100:
        raise UsageError(f"the word error rate cannot be {args.wer:g}", "--wer", "give percent")
    for word in args.sha256:
        if word.partition("=")[0] not in SPLITS:
            raise UsageError(f"'{word}' is not SPLIT=HEX", "--sha256", f"of {', '.join(SPLITS)}")


def root(args: argparse.Namespace) -> Path:
    """Return the folder that SLURP names.

    Raises:
        DataError: It is not set, or no folder.
    """
    value, released = os.environ.get("SLURP"), args.asr == "released"
    where = slurp_text.RELEASED if released else slurp_text.SOURCE
    how = f"SLURP=/path ./run.sh; get it from {where}" + ("" if released else ", or --download")
    if not value:
        raise DataError(f"SLURP is not set, and --asr {args.asr} reads from it", "SLURP", how)
    if not Path(value).is_dir():
        raise DataError("SLURP is not a folder", value, how)
    return Path(value)


def released(args: argparse.Namespace) -> tuple[dict[str, Pairs], dict[str, int]]:
    """Read the set with ASR text."""
    names = [args.released] if args.released else [slurp_text.FILTERED, slurp_text.UNFILTERED]
    places = ("", "datasets/slurp", "slurp", "datasets")
    folder = slurp_text.below(root(args), names, places, slurp_text.RELEASED)
    path = next(folder / n for n in names if (folder / n).is_file())
    print(f"{args.system} of {path}")
    if path.name == slurp_text.FILTERED:
        print(slurp_text.FILTER_NOTE)
    return slurp_text.read_released(path, args.system)


def official(args: argparse.Namespace) -> dict[str, list[Sentence]]:
    """Read the text that SLURP's authors publish, split by split."""
    splits = ("devel",) if args.devel_only else SPLITS
    if args.download and not os.environ.get("SLURP"):
        sums = dict(word.partition("=")[::2] for word in args.sha256)
        folder = slurp_text.download_text(args.downloads, sums)
    else:
        names = [f"{s}.jsonl" for s in splits]
        folder = slurp_text.below(root(args), names, ("", "dataset/slurp"), slurp_text.SOURCE)
    return {split: slurp_text.read_jsonl(folder / f"{split}.jsonl") for split in splits}


def from_text(sentences: dict[str, list[Sentence]]) -> dict[str, Pairs]:
    """Return the sets with empty ASR text, one utterance per sentence."""
    sets = {
        NAMES[split]: {f"slurp-{int(s.slurp_id):06d}": Pair(s.text, "", s.label) for s in rows}
        for split, rows in sentences.items()
    }
    if len(sets) == 1:  # of each label half; the hash of the id decides
        rows = {u: (p.manual, p.asr, p.label) for u, p in sets["valid"].items()}
        halves = [{u: Pair(*row) for u, row in half.items()} for half in split_labelled(rows, 0.5)]
        sets = {"train": {}, "valid": halves[0], "test": halves[1]}
    return sets


def with_asr(model: ConfusionModel, pairs: Pairs, rate: float, seed: int) -> Pairs:
    """Return the pairs with simulated ASR text."""
    texts = make_degraded(model, {u: p.manual for u, p in pairs.items()}, [rate], seed)[rate]
    return {u: Pair(p.manual, texts[u], p.label) for u, p in pairs.items()}


def extra(folder: Path, held: list[Pairs]) -> Pairs:
    """Return HWU64's sentences without those of the development and test sets."""
    known = {normalize(p.manual, "words") for pairs in held for p in pairs.values()}
    kept, dropped = {}, 0
    for utt, text, label in slurp_text.read_hwu64(folder):
        if normalize(text, "words") in known:
            dropped += 1
        else:
            kept[utt] = Pair(text, "", label)
    print(f"HWU64: {len(kept)} sentences added to train, {dropped} dropped that occur in "
          "SLURP's devel or test")  # fmt: skip
    return kept


def main() -> None:
    """Write the sets and tell what is in them."""
    args = parser().parse_args()
    args.asr, table = source(args.asr)
    check(args)
    groups: dict[str, int] = {}
    missing: dict[str, list[str]] = {}
    model = ConfusionModel.load(given(args.confusion)) if args.confusion else None
    rate = args.wer or RATE
    if args.check and args.download and not os.environ.get("SLURP"):
        print("the text will be downloaded")
        return
    if args.check and args.asr == "espnet":
        model_files(args, given)
        told = ", ".join(f"{n}: {len(rows):,} sentences" for n, rows in official(args).items())
        print(f"{told}; the recordings are looked for when they are decoded")
        return
    if args.asr == "released":
        sets, groups = released(args)
    elif args.asr == "espnet":
        sets, groups = slurp_text.read_released(
            write_decoded(args, official(args), given), "espnet"
        )
    elif args.asr == TABLE:
        heard = read_hypotheses(given(table))
        sets, missing = with_hypotheses(official(args), heard, args.recordings, NAMES)
        for name, pairs in sets.items():
            tell_heard(name, pairs, missing[name])
    else:
        sets = from_text(official(args))
        sets = {n: with_asr(model, p, rate, args.seed) if p else p for n, p in sets.items()}
    if args.train_extra:
        added = extra(given(args.train_extra), [sets["valid"], sets["test"]])
        if args.asr != "simulate":
            rate = args.wer or error_rate(sets["train"].values(), "words")
        added = with_asr(model or confusion_model(sets["train"]), added, rate, args.seed)
        sets["train"] = {**sets["train"], **added}
    for name, pairs in sets.items() if not args.check else ():
        write_pairs(args.out / name, pairs)
        tell_missing(args.out / name, name, missing.get(name, []))
    if not args.check:
        slurp_text.write_groups(args.out / "test", groups)
    tell(sets)


if __name__ == "__main__":
    sys.exit(exit_code(main))
