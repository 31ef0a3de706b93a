# SPDX-License-Identifier: Apache-2.0
"""Time a stage-2 step of ML-LMCL against cross-entropy alone.

Encoders with random weights, texts of the lengths of ATIS; ratios within one run, work in turn:

step      forward, loss, backward and AdamW of both classifiers with all terms (self-distillation
          at its height, teachers looked up by utterance) against alpha = beta = gamma = 0: the same
          models and texts. The ratio is the median over pairs of steps (goal: 1.15). Refresh is the
          teachers' prediction of the same texts, and its share of an epoch.
terms     a loss alone, given h and z, forward and backward: what each term adds to cross-entropy,
          and that as a share of a cross-entropy step.

    OMP_NUM_THREADS=1 python benchmarks/ml_lmcl_step.py [--phoneme-bert DIR] [--quick] [--json]

Times are those of the process, medians; other processes disturb them by some per cent. The sizes of
the encoders are those of BERT-mini and MiniLM, and a small one of this package's recipes.
A measurement, not a test: it ends with 0 whatever the figures are.
"""

import argparse
import json
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espnet_ext.errors import DataError
from espnet_ext.espnet.buckets import BucketSampler
from espnet_ext.ml_lmcl.network import ClassifyNetwork, Texts
from espnet_ext.ml_lmcl.options import resolve
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.text.encoder import quiet
from espnet_ext.text.tokenizer import TextTokenizer, read_about

# Layers, width, attention heads, rows of the embedding (0: as many as the tokenizer learns).
SIZES = {"small": (2, 128, 2, 0), "mini": (4, 256, 4, 30522), "minilm": (6, 384, 12, 30522),
         "tiny": (1, 16, 2, 0), "synth": (2, 64, 2, 0)}  # fmt: skip
CLASSES = {"atis": {"intent": 8}, "slurp": {"scenario": 18, "action": 46}}
CE = {"alpha": 0.0, "beta": 0.0, "gamma_mode": "zero"}
TERMS = {"mutual": {"alpha": 1.0}, "contrastive": {"beta": 0.1}, "distillation": {},
         "all": {"alpha": 1.0, "beta": 0.1}}  # fmt: skip
QUANTILES, LENGTHS_WORDS = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1), (2, 7, 8, 11, 14, 17, 25, 46)
WORD_ERRORS = 0.3
TABLES = ("step", "terms")
Row = dict[str, Any]


@dataclass
class Corpus:
    """Texts as sub-words, by kind and number, and the encoder's folder."""

    folder: str
    texts: dict[str, list[np.ndarray]]

    def batches(self, size: int, sorted_by_length: bool = True) -> list[np.ndarray]:
        """Return the numbers of the utterances of each batch of an epoch."""
        lengths = (max(len(t) for t in pair) for pair in zip(*self.texts.values(), strict=True))
        keys = {str(number): length for number, length in enumerate(lengths)}
        sampler = BucketSampler(keys, size, sorted_by_length=sorted_by_length)
        return [np.array(batch, dtype=int) for batch in sampler.generate(1)]

    def batch(self, chosen: np.ndarray) -> Texts:
        """Return padded texts, a width for each kind as in training."""
        out = {}
        for kind, texts in self.texts.items():
            rows = [torch.from_numpy(texts[i]) for i in chosen]
            ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
            out[kind] = ids, torch.tensor([len(row) for row in rows])
        return out


def sentences(folder: Path | None, count: int) -> list[tuple[str, str]]:
    """Return pairs of manual and ASR text: of ATIS, else words drawn by Zipf's law with errors."""
    if folder:
        if not (at := next(folder.rglob("atis/train"), None)):
            raise DataError("there is no atis/train", folder, "give the folder of Phoneme-BERT")
        names = ("text_original.txt", "en.classification.txt")
        sides = [(at / name).read_text(encoding="utf-8").splitlines() for name in names]
        return list(zip(*sides, strict=True))[:count]
    rng, out = random.Random(1), []
    words = ["".join(rng.choices("etaoinshrdlu", k=2 + i // 60)) for i in range(480)]
    chances = [1 / (rank + 1) for rank in range(len(words))]
    for _ in range(count):
        length = round(float(np.interp(rng.random(), QUANTILES, LENGTHS_WORDS)))
        manual = rng.choices(words, chances, k=length)
        wrong = ((w if rng.random() > WORD_ERRORS else rng.choice(["", *words])) for w in manual)
        out.append((" ".join(manual), " ".join(w for w in wrong if w)))
    return out


def make_corpus(folder: Path, size: str, pairs: list[tuple[str, str]]) -> Corpus:
    """Write an encoder with random weights whose tokenizer is learnt from the texts."""
    from espnet_ext.text.folder import EncoderArgs, random_encoder, write_encoder

    layers, width, heads, rows = SIZES[size]
    args = EncoderArgs(hidden_size=width, layers=layers, heads=heads)
    model, tokenizer = random_encoder(args, [text for pair in pairs for text in pair])
    if rows:
        model.resize_token_embeddings(rows)
    write_encoder(folder, model, tokenizer, "")
    tokenize = TextTokenizer(folder)
    texts = {k: [tokenize(p[i]) for p in pairs] for i, k in enumerate(("manual", "asr"))}
    return Corpus(str(folder), texts)


def adamw(network: nn.Module) -> torch.optim.Optimizer:
    """Return the recipes' optimiser."""
    return torch.optim.AdamW(network.parameters(), lr=1e-5, weight_decay=0.01, fused=True)


class Stage2:
    """The classifiers and what an update needs, with losses to choose from.

    Args:
        corpus: Texts and encoder.
        section: Of the configuration.
    """

    def __init__(self, corpus: Corpus, section: Row):
        torch.manual_seed(1)
        self.corpus, self.conf, self.plain = corpus, resolve(section), resolve({**section, **CE})
        about, classes = read_about(corpus.folder), CLASSES["atis"]
        self.network = ClassifyNetwork(self.conf, corpus.folder, classes, about.pad_id).train()
        self.optimiser = adamw(self.network)
        self.store = self.new_store()

    def new_store(self) -> TeacherStore:
        """Return a store for all utterances and the current heads."""
        names = range(len(self.conf.views))
        widths = {f"{n}.{h}": c for n in names for h, c in self.network.classes.items()}
        return TeacherStore([f"u{i:06d}" for i in range(len(self.corpus.texts["asr"]))], widths)

    def labels(self, chosen: np.ndarray) -> Tensor:
        """Return ``(B, H)``."""
        widths = self.network.classes.values()
        return torch.stack([torch.from_numpy(chosen * 7 % width) for width in widths], 1)

    def loss(self, views: list, chosen: np.ndarray, conf: Any, distil: bool) -> Tensor:
        """Return the loss of a batch by this configuration."""
        self.network.conf = conf
        teacher = (1.0, self.store, [f"u{i:06d}" for i in chosen]) if distil else (0.0,)
        return self.network.loss(views, self.labels(chosen), *teacher)[0]

    def step(self, chosen: np.ndarray, texts: Texts, full: bool = True) -> None:
        """Do one update, with all terms of the configuration or with cross-entropy alone."""
        conf = self.conf if full else self.plain
        self.optimiser.zero_grad()
        self.loss(self.network.views(texts), chosen, conf, full and conf.distils).backward()
        self.optimiser.step()

    def refresh(self, chosen: np.ndarray, texts: Texts) -> None:
        """Predict the teachers of a batch as the trainer does at the start of an epoch."""
        from espnet_ext.ml_lmcl.trainer import refresh

        batch = {f"text_{k}": ids for k, (ids, _) in texts.items()}
        batch |= {f"text_{k}_lengths": lengths for k, (_, lengths) in texts.items()}
        refresh(self.network, self.store, [([f"u{i:06d}" for i in chosen], batch)])


def process_seconds(work: Callable[[], Any]) -> float:
    """Return the processor's time that the work took in this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turn(rounds: Iterator[dict[str, Callable]], warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each work in each round but the first ones; every other is reversed."""
    times: dict[str, list[float]] = {}
    for number, works in enumerate(rounds):
        for name in list(works) if number % 2 else reversed(works):
            seconds = process_seconds(works[name])
            if number >= warm_up:
                times.setdefault(name, []).append(seconds)
    return times


def ms(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return round(1000 * statistics.median(seconds), 2)


def ratio(above: list[float], below: list[float]) -> Row:
    """Return the median of the ratios within rounds, and their quartiles."""
    low, middle, high = statistics.quantiles(
        [a / b for a, b in zip(above, below, strict=True)], n=4, method="inclusive"
    )
    return {"ratio": round(middle, 3), "quartiles": f"{low:.3f}-{high:.3f}"}


def step_rows(size: str, stage2: Stage2, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``step``."""
    for batch_size in args.batch_sizes:
        # One batch, of the usual length: the first step of a shape also pays for its memory.
        batches = stage2.corpus.batches(batch_size)
        batches.sort(key=lambda b: sum(len(stage2.corpus.texts["asr"][i]) for i in b) / len(b))
        chosen = batches[len(batches) // 2]
        texts = stage2.corpus.batch(chosen)
        teach = {"refresh": lambda c=chosen, t=texts: stage2.refresh(c, t)}
        works = {
            "ml_lmcl": lambda c=chosen, t=texts: stage2.step(c, t),
            "ce": lambda c=chosen, t=texts: stage2.step(c, t, full=False),
        }
        # First the teachers: the steps find them as those of a training do.
        found = in_turn(iter([teach] * (args.repeat + 1)))
        found |= in_turn(iter([works] * (args.repeat + 1)))
        share = ms(found["refresh"]) / (ms(found["refresh"]) + ms(found["ml_lmcl"]))
        yield {
            "encoder": size, "batch": batch_size, "ce ms": ms(found["ce"]),
            "ml_lmcl ms": ms(found["ml_lmcl"]), **ratio(found["ml_lmcl"], found["ce"]),
            "refresh ms": ms(found["refresh"]), "refresh % of epoch": round(100 * share, 1),
        }  # fmt: skip


def terms_rows(size: str, stage2: Stage2, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``terms``; labels of one head (ATIS) and of two (SLURP)."""
    plain, width = stage2.plain, stage2.network.models["asr"].encoder.config.hidden_size
    for batch_size in args.batch_sizes:
        chosen = stage2.corpus.batches(batch_size)[0]
        texts = stage2.corpus.batch(chosen)
        steps = [process_seconds(lambda t=texts, c=chosen: stage2.step(c, t, full=False))
                 for _ in range(2 if args.quick else 3)]  # fmt: skip
        for corpus, classes in CLASSES.items():
            stage2.network.classes = classes
            stage2.store = stage2.new_store()
            views = []
            for number in range(2):
                tensors = [torch.randn(len(chosen), w) for w in (width, *classes.values())]
                h, *z = [t.requires_grad_() for t in tensors]
                views.append((h, dict(zip(classes, z, strict=True))))
                named = {f"{number}.{head}": x for head, x in views[-1][1].items()}
                stage2.store.put([f"u{i:06d}" for i in chosen], named)
            confs = {"ce": plain} | {
                name: resolve({"alpha": 0.0, "beta": 0.0, **terms}) for name, terms in TERMS.items()
            }
            works = {
                name: lambda c=conf, n=name, v=views, b=chosen: stage2.loss(
                    v, b, c, n in ("distillation", "all")
                ).backward()
                for name, conf in confs.items()
            }
            found = in_turn((works for _ in range(3 * args.repeat + 3)), warm_up=3)
            for name in TERMS:
                more = [a - b for a, b in zip(found[name], found["ce"], strict=True)]
                share = 100 * statistics.median(more) / min(steps)
                yield {"encoder": size, "batch": batch_size, "labels": corpus, "term": name,
                       "ms above ce": ms(more), "% of a ce step": round(share, 2)}  # fmt: skip
        stage2.network.classes = CLASSES["atis"]
        stage2.store = stage2.new_store()


def stage1_stepper(network: nn.Module) -> Callable[[Texts], None]:
    """Return what does an update of stage 1."""
    optimiser = adamw(network.train())

    def step(texts: Texts) -> None:
        optimiser.zero_grad()
        network.loss(texts)[0].backward()
        optimiser.step()

    return step


class Report:
    """Prints tables in Markdown and keeps their rows."""

    def __init__(self) -> None:
        self.tables: dict[str, list[Row]] = {}

    def add(self, table: str, rows: Iterator[Row]) -> None:
        """Print rows as they come, under a heading where the table begins."""
        for row in rows:
            if table not in self.tables:
                print(f"\n{table}\n\n| " + " | ".join(row) + " |\n|" + "---|" * len(row))
            self.tables.setdefault(table, []).append(row)
            print("| " + " | ".join(str(x) for x in row.values()) + " |", flush=True)


def options(argv: list[str] | None, doc: str, tables: tuple[str, ...]) -> argparse.Namespace:
    """Parse the options that the benchmarks of this method share."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--phoneme-bert", type=Path, metavar="DIR", help="texts: its ATIS")
    parser.add_argument("--encoders", nargs="+", default=["small", "mini", "minilm"], choices=SIZES)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--repeat", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--only", nargs="+", default=tables, metavar="TABLE", choices=tables)
    parser.add_argument("--quick", action="store_true", help="a tiny encoder, a few short steps")
    parser.add_argument("--json", action="store_true", help="print all rows as a line of JSON, too")
    args = parser.parse_args(argv)
    args.repeat = max(args.repeat, 2)
    if args.quick:
        args.encoders, args.batch_sizes, args.repeat = ["tiny"], [8], 2
    return args


def run(args: argparse.Namespace, tables_of: Callable[[str, Corpus, Report], None]) -> int:
    """Call ``tables_of`` with each encoder; print what they have in common, and the JSON line."""
    logging.disable(logging.WARNING)
    quiet()
    print(f"{torch.get_num_threads()} threads, {args.precision}; ms are process time, "
          f"medians of {args.repeat}")  # fmt: skip
    report, pairs = Report(), sentences(args.phoneme_bert, 40 if args.quick else 3867)
    for size in args.encoders:
        with tempfile.TemporaryDirectory() as name:
            tables_of(size, make_corpus(Path(name) / "encoder", size, pairs), report)
    if args.json:
        print(json.dumps({"precision": args.precision, **report.tables}))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    args = options(argv, __doc__ or "", TABLES)

    def tables_of(size: str, corpus: Corpus, report: Report) -> None:
        stage2 = Stage2(corpus, {"precision": args.precision})
        for table, rows in (("step", step_rows), ("terms", terms_rows)):
            if table in args.only:
                report.add(table, rows(size, stage2, args))

    if "step" in args.only:
        import_trainer()
    return run(args, tables_of)


def import_trainer() -> None:
    """Import the trainer the fast way: it needs ESPnet."""
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import provide_editdistance

    fastimport.enable()
    provide_editdistance()
    import espnet_ext.ml_lmcl.trainer  # noqa: F401


if __name__ == "__main__":
    sys.exit(main())
