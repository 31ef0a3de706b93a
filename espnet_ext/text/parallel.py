# SPDX-License-Identifier: Apache-2.0
"""Train a small multilingual sentence encoder on translations: a stand-in where no LaBSE is.

    L = 1/2 (CE(S / tau, diagonal) + CE(S' / tau, diagonal)),  S_ij = cos(z_i, z'_j)

z_i and z'_i are mean-pooled texts of one meaning in two languages; texts of the other meanings of
the batch are the wrong ones (InfoNCE). It sees plain text only: a tag would tell it the answer of
the task that it is to help. The folder it writes is read like any other encoder, ``pooling: auto``
or ``mean``.

    python -m espnet_ext.text.parallel TSV OUT [--dev TSV]

The tables have a header and the columns meaning, language and text; translations have one meaning.

Source: the loss of LaBSE (arXiv 2007.01852) without its margin.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.data.lines import table_rows
from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.files import atomic_dir, check_replaceable, sha256_json, write_json
from espnet_ext.text import sentence_layout, similarity
from espnet_ext.text.folder import EncoderArgs, random_encoder
from espnet_ext.text.similarity import Parallel

COLUMNS = ("meaning", "language", "text")
RECORD = "training.json"
LEAST_RETRIEVAL = 0.5  # below it the encoder is of no use as a teacher
SAMPLE = 1000  # texts that measure the result
NEIGHBOURS = 8  # meanings that are near by their words


@dataclass(frozen=True)
class ParallelArgs:
    """How the encoder is made and trained.

    Attributes:
        width, layers, heads, vocab_size: Of the encoder.
        steps, batch: Updates, and meanings in each.
        lr: Highest rate of AdamW; rises over a tenth of the steps, then falls to 0.
        tau: Temperature of the cosines.
        seed: Of weights and batches.
    """

    width: int = 96
    layers: int = 2
    heads: int = 4
    vocab_size: int = 2000
    steps: int = 300
    batch: int = 64
    lr: float = 2e-3
    tau: float = 0.07
    seed: int = 1


def read_parallel(path: Path | str) -> list[Parallel]:
    """Read a table of texts with their meanings and languages.

    Raises:
        DataError: It is missing, no such table, or a line has an empty column or a tag; file:line.
    """
    rows = []
    for number, row in table_rows(Path(path), COLUMNS)[1]:
        found = Parallel(row["meaning"], row["language"], tidy(row["text"]))
        if not all(asdict(found).values()):
            raise DataError("a column is empty", f"{path}:{number}", "give a text, or remove it")
        if "<" in found.text or ">" in found.text:
            how = "give plain words: an encoder that sees tags knows the answer"
            raise DataError(f"the text has a tag: '{found.text}'", f"{path}:{number}", how)
        rows.append(found)
    return rows


def train(
    rows: Sequence[Parallel],
    args: ParallelArgs,
    progress: Callable[[int, int, float], None] | None = None,
) -> tuple[Any, Any]:
    """Return model and tokenizer.

    Args:
        rows: Texts; a meaning with one language only teaches nothing, but its words count.
        args: Settings.
        progress: Called as ``progress(step, steps, loss)``.

    Raises:
        DataError: There are no translations.
    """
    import torch

    texts = [r.text for r in rows]
    pairs = translations(rows)
    if len(pairs) < 2:
        how = "give texts of at least two languages that share their meaning"
        raise DataError(f"{len(pairs)} meanings have a translation", "parallel texts", how)
    shape = EncoderArgs(
        vocab_size=args.vocab_size, hidden_size=args.width, layers=args.layers, heads=args.heads,
        max_tokens=128, seed=args.seed,
    )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the sums, and so the result, are those of any machine
    try:
        masked, tokenizer = random_encoder(shape, texts)
        model = masked.base_model.train()
        _optimise(model, tokenizer(texts, truncation=True, max_length=128)["input_ids"],
                  batches(texts, pairs, args), args, progress)  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    return model.eval(), tokenizer


def translations(rows: Sequence[Parallel]) -> list[dict[str, list[int]]]:
    """Return the rows of each meaning by language, of meanings with two or more."""
    found: dict[str, dict[str, list[int]]] = {}
    for i, row in enumerate(rows):
        found.setdefault(row.meaning, {}).setdefault(row.language, []).append(i)
    return [by_language for by_language in found.values() if len(by_language) > 1]


def batches(
    texts: Sequence[str], pairs: list[dict[str, list[int]]], args: ParallelArgs
) -> Iterator[list[tuple[int, int]]]:
    """Yield batches of rows that are translations; no text is on one side of a batch twice.

    Every other meaning is one of the nearest by its words to the one before it: by chance, two
    meanings that differ in one word would hardly meet in a batch.
    """
    rng = random.Random(args.seed)
    near = neighbours(texts, pairs)
    queue: list[int] = []
    for _ in range(args.steps):
        batch: list[tuple[int, int]] = []
        seen: tuple[set[str], set[str]] = (set(), set())
        number = 0
        for turn in range(min(args.batch, len(pairs))):
            queue = queue or rng.sample(range(len(pairs)), len(pairs))
            number = rng.choice(near[number]) if turn % 2 else queue.pop()
            meaning = pairs[number]
            one, two = (rng.choice(meaning[x]) for x in rng.sample(sorted(meaning), 2))
            if texts[one] in seen[0] or texts[two] in seen[1]:
                continue  # another meaning with the same words is no wrong answer
            seen[0].add(texts[one])
            seen[1].add(texts[two])
            batch.append((one, two))
        yield batch


def neighbours(texts: Sequence[str], pairs: list[dict[str, list[int]]]) -> list[list[int]]:
    """Return for each meaning the numbers of the others that share most words with it."""
    from scipy.sparse import csr_array

    words: dict[tuple[str, str], int] = {}
    at = [
        sorted({words.setdefault((language, word), len(words))
                for language, rows in pair.items() for i in rows for word in texts[i].split()})
        for pair in pairs
    ]  # fmt: skip
    columns = np.array([c for row in at for c in row])
    starts = np.cumsum([0, *map(len, at)])
    bags = csr_array((np.ones(len(columns), np.float32), columns, starts), (len(at), len(words)))
    count = min(NEIGHBOURS, len(pairs) - 1)
    out: list[list[int]] = []
    for first in range(0, len(at), 256):
        shared = (bags[first : first + 256] @ bags.T).toarray()
        rows = np.arange(len(shared))
        shared[rows, first + rows] = -1  # itself
        out += np.argsort(-shared, axis=1, kind="stable")[:, :count].tolist()
    return out


def _optimise(model: Any, ids: list[list[int]], steps: Iterator, args: ParallelArgs, told) -> None:
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    warm = max(1, args.steps // 10)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, (args.steps - s) / max(1, args.steps - warm))
    )
    for step, batch in enumerate(steps, 1):
        sides = zip(*batch, strict=True)
        loss = info_nce(*(_embed(model, [ids[i] for i in side]) for side in sides), args.tau)
        if not math.isfinite(loss.item()):
            raise DataError(f"the loss is {loss.item()} at step {step}", "lr", "give a smaller lr")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if told:
            told(step, args.steps, loss.item())


def info_nce(one: Any, two: Any, tau: float) -> Any:
    """Return the loss of translations ``(B, E)`` and ``(B, E)`` of length 1; a scalar."""
    import torch

    cosines = one @ two.T / tau
    right = torch.arange(len(one), device=one.device)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(cosines, right) + cross_entropy(cosines.T, right)) / 2


def _embed(model: Any, ids: list[list[int]]) -> Any:
    """Return ``(B, E)`` of length 1, with gradient."""
    import torch

    pad = model.config.pad_token_id
    rows = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(x) for x in ids], batch_first=True, padding_value=pad
    )
    mask = rows != pad
    out = model(input_ids=rows, attention_mask=mask.long())
    return torch.nn.functional.normalize(sentence_layout.pool(out, mask, "mean"), dim=1)


def write(folder: Path, model: Any, tokenizer: Any, record: dict) -> None:
    """Write the folder of the encoder, atomically."""
    with atomic_dir(folder) as tmp:
        model.save_pretrained(tmp)
        tokenizer.save_pretrained(tmp)
        sentence_layout.write(tmp, model.config.hidden_size)
        write_json(tmp / RECORD, record)


def measure(folder: Path, rows: Sequence[Parallel]) -> tuple[float, dict[tuple[str, str], float]]:
    """Return the mean cosine of different texts, and :func:`similarity.retrieval`."""
    from espnet_ext.text.sentence import SentenceEncoder

    vectors = SentenceEncoder(folder, "mean")([r.text for r in rows])
    distinct = list({r.text: i for i, r in enumerate(rows)}.values())
    return similarity.mean_cosine(vectors[distinct]), similarity.retrieval(rows, vectors)


def make(
    table: Path, out: Path, dev: Path | None = None, args: ParallelArgs | None = None,
    say: Callable[[str], None] = print,
) -> None:  # fmt: skip
    """Train on a table, tell how good the encoder is, and write it.

    Raises:
        UsageError: ``out`` holds something else than such an encoder.
        DataError: A table is not usable, or the encoder is of no use: nothing is written then.
    """
    from espnet_ext.text.encoder import quiet

    check_replaceable(out, RECORD, [table, *([dev] if dev else [])])
    quiet()
    args = args or ParallelArgs()
    rows, unseen = read_parallel(table), read_parallel(dev) if dev else []
    languages = sorted({r.language for r in rows})
    pairs = translations(rows)
    say(f"{len(rows):,} texts in {', '.join(languages)}, {len(pairs):,} meanings in two or more")
    if shared := sorted({r.meaning for r in rows} & {r.meaning for r in unseen}):
        what = f"{len(shared)} meanings are in both tables, e.g. {shared[0]}"
        raise DataError(what, f"{table}, {dev}", "split by meaning, not by text")

    def progress(step: int, steps: int, loss: float) -> None:
        if step in (1, steps) or step % max(1, steps // 5) == 0:
            say(f"step {step}/{steps}: loss {loss:.3f}")

    model, tokenizer = train(rows, args, progress)
    record: dict[str, Any] = {"args": asdict(args), "texts": sha256_json([asdict(r) for r in rows])}
    with atomic_dir(out) as tmp:
        write(tmp / "encoder", model, tokenizer, record)
        for name, some in (("training", _sample(rows)), ("dev", unseen)):
            if some:
                record[name] = _judged(tmp / "encoder", name, some, bool(unseen), say)
        for path in (tmp / "encoder").iterdir():
            path.rename(tmp / path.name)
        (tmp / "encoder").rmdir()
        write_json(tmp / RECORD, record)
    parameters = sum(p.numel() for p in model.parameters())
    say(f"{out}: {args.layers} layers, {parameters:,} parameters, {args.width} values")


def _sample(rows: Sequence[Parallel]) -> list[Parallel]:
    """Return whole meanings, up to some 1000 texts."""
    order = list(dict.fromkeys(r.meaning for r in rows))
    share = max(1, len(rows) // SAMPLE)
    kept = set(order[::share])
    return [r for r in rows if r.meaning in kept]


def _judged(folder: Path, name: str, rows: Sequence[Parallel], later: bool, say) -> dict:
    cosine, found = measure(folder, rows)
    say(f"{name}: mean cosine of different texts {cosine:.2f}; {similarity.told(found)}")
    share = similarity.mean(found)
    how = "more steps (--steps), a lower rate (--lr), or more parallel texts"
    if cosine > similarity.COLLAPSED:
        what = f"the sentence encoder has collapsed: mean cosine {cosine:.2f} on {name} texts"
        raise DataError(what, folder.parent, how)
    if found and share < LEAST_RETRIEVAL and (name == "dev" or not later):
        what = f"the nearest text is a translation for {100 * share:.1f} % of the {name} texts only"
        raise DataError(what, folder.parent, how)
    return {"cosine": round(cosine, 4), "retrieval": round(share, 4)}


def main(argv: list[str] | None = None) -> int:
    """Command line; see the module's text."""
    about = "Train a small multilingual sentence encoder on translations."
    parser = argparse.ArgumentParser(prog="python -m espnet_ext.text.parallel", description=about)
    parser.add_argument("table", type=Path, help="TSV with columns meaning, language, text")
    parser.add_argument("out", type=Path, help="folder to write")
    parser.add_argument("--dev", type=Path, help="such a table of other meanings, for retrieval")
    for name, value in asdict(ParallelArgs()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value,
                            help="default: %(default)s")  # fmt: skip
    given = vars(parser.parse_args(argv))
    table, out, dev = (given.pop(k) for k in ("table", "out", "dev"))
    args = ParallelArgs(**given)
    for key in ("width", "layers", "heads", "vocab_size", "steps", "batch", "lr", "tau"):
        if getattr(args, key) <= 0:
            raise UsageError(f"{key} is {getattr(args, key)}", f"--{key}", "give more than 0")
    if args.width % args.heads:
        raise UsageError(f"width {args.width} is no multiple of heads {args.heads}", "--width")
    make(table, out, dev, args, lambda line: print(line, flush=True))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
