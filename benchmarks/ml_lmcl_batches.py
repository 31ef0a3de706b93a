# SPDX-License-Identifier: Apache-2.0
"""Time what ML-LMCL's batches save: groups of length, and several texts in one forward.

Encoders with random weights, texts of the lengths of ATIS; ratios within one run, work in turn:

padding   batches of similar length (buckets), random ones that are encoded in two groups of similar
          length, and random ones, an epoch of stage 2 each, with the first encoder: sub-words
          computed per real one, and time.
stage1    a step with all texts in one forward against one forward a kind of text (manual, ASR, and
          both of them masked).
stacked   both encoders of stage 2 in one forward, by batched matrix products and by
          torch.func.vmap, against two; forward and backward, dropout on and off.

Below 1 the first named is faster.

    OMP_NUM_THREADS=1 python benchmarks/ml_lmcl_batches.py [--phoneme-bert DIR] [--quick] [--json]

The times and options are those of ml_lmcl_step.py. A measurement, not a test: it ends with 0
whatever the figures are, except that encoders that differ in their results end it with 1.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator

import torch
from ml_lmcl_step import (
    Corpus,
    Report,
    Row,
    Stage2,
    in_turn,
    ms,
    options,
    ratio,
    run,
    stage1_stepper,
)
from torch import Tensor, nn

from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.network import Texts
from espnet_ext.ml_lmcl.options import resolve
from espnet_ext.text.encoder import autocast, build_encoder, encode, join, text_mask
from espnet_ext.text.tokenizer import read_about

TABLES = ("padding", "stage1", "stacked")


def padding_rows(size: str, corpus: Corpus, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``padding``: an epoch's sub-words and time."""
    stages = {n: Stage2(corpus, {"precision": args.precision, "length_groups": n}) for n in (1, 2)}
    real = sum(len(t) for texts in corpus.texts.values() for t in texts)
    for batch_size in args.batch_sizes:
        orders = {by: corpus.batches(batch_size, by == "buckets") for by in ("buckets", "random")}
        made = {by: [(c, corpus.batch(c)) for c in order] for by, order in orders.items()}
        ways = {"buckets": ("buckets", 1), "groups": ("random", 2), "random": ("random", 1)}
        row: Row = {"encoder": size, "batch": batch_size}
        for way, (by, groups) in ways.items():
            lengths = (n for _, texts in made[by] for _, n in texts.values())
            parts = (part for n in lengths for part in n.sort()[0].tensor_split(groups))
            computed = sum(len(part) * int(part[-1]) for part in parts if len(part))
            row[f"{way}: computed / real"] = round(computed / real, 3)

        def works(number: int, made: dict = made, ways: dict = ways) -> dict[str, Callable]:
            return {way: lambda b=made[by], s=stages[groups]: s.step(*b[number])
                    for way, (by, groups) in ways.items()}  # fmt: skip

        found = in_turn([works(-1), *map(works, range(len(orders["random"])))])
        for way in ("buckets", "groups"):
            row[f"time: {way} / random"] = round(sum(found[way]) / sum(found["random"]), 3)
        yield row


class Apart(ContrastiveNetwork):
    """One forward for each kind of text."""

    def _states(self, pairs: list, guessed: list) -> tuple[Tensor, Tensor]:
        with autocast(self.conf.precision, next(self.parameters())):
            each = [encode(self.encoder, *text, self.about.pad_id) for text in pairs + guessed]
        width = max(states.shape[1] for states in each)
        padded = [nn.functional.pad(s, (0, 0, 0, width - s.shape[1])) for s in each]
        return torch.cat(padded).split([sum(len(ids) for ids, _ in t) for t in (pairs, guessed)])


def stage1_rows(size: str, corpus: Corpus, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``stage1``."""
    conf, about = resolve({"precision": args.precision}), read_about(corpus.folder)
    networks = {name: made(conf, corpus.folder, about).eval()
                for name, made in (("one", ContrastiveNetwork), ("apart", Apart))}  # fmt: skip
    texts = corpus.batch(corpus.batches(args.batch_sizes[0])[0])
    losses = [n.loss(texts, torch.Generator().manual_seed(1))[0] for n in networks.values()]
    # In bfloat16 the results differ by their rounding.
    torch.testing.assert_close(*losses, rtol=1e-2 if args.precision == "bfloat16" else 1e-4, atol=0)
    steps = {name: stage1_stepper(network) for name, network in networks.items()}
    for batch_size in args.batch_sizes:
        order = corpus.batches(batch_size)
        rounds = [corpus.batch(order[n % len(order)]) for n in range(args.repeat + 1)]
        found = in_turn({k: lambda s=s, t=t: s(t) for k, s in steps.items()} for t in rounds)
        yield {"encoder": size, "batch": batch_size, "one forward ms": ms(found["one"]),
               "apart ms": ms(found["apart"]), **ratio(found["one"], found["apart"])}  # fmt: skip


class Pair(nn.Module):
    """Two layers of one kind in one product: each half of the batch has the weights of one.

    Args:
        a, b: Linear layers, layer norms or embeddings.
    """

    def __init__(self, a: nn.Module, b: nn.Module):
        super().__init__()
        self.like = [a]  # a list: not registered again
        self.weight = nn.Parameter(torch.stack([a.weight, b.weight]).detach())
        if getattr(a, "bias", None) is not None:
            self.bias = nn.Parameter(torch.stack([a.bias, b.bias]).detach().unsqueeze(1))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(2B, ..., D)`` of ``(2B, ...)`` ids or ``(2B, ..., D)``."""
        like, two = self.like[0], x.reshape(2, len(x) // 2, *x.shape[1:])
        if isinstance(like, nn.Embedding):
            first = torch.arange(2).mul(like.num_embeddings).view(2, *[1] * (two.dim() - 1))
            return nn.functional.embedding(two + first, self.weight.flatten(0, 1)).flatten(0, 1)
        rows = two.flatten(1, -2)  # (2, B..., D)
        if isinstance(like, nn.LayerNorm):
            normal = nn.functional.layer_norm(rows, like.normalized_shape, eps=like.eps)
            out = torch.addcmul(self.bias, normal, self.weight.unsqueeze(1))
        else:
            out = torch.baddbmm(self.bias, rows, self.weight.transpose(1, 2))
        return out.reshape(*x.shape[:-1], out.shape[-1])


def paired(a: nn.Module, b: nn.Module) -> nn.Module:
    """Put :class:`Pair` in the place of each layer of ``a`` that has weights; return ``a``."""
    for name, child in a.named_children():
        other = getattr(b, name)
        if isinstance(child, (nn.Linear, nn.LayerNorm, nn.Embedding)):
            setattr(a, name, Pair(child, other))
        else:
            paired(child, other)
    return a


Forward = Callable[[Texts], tuple[Tensor, Tensor]]


def forwards(corpus: Corpus, train: bool) -> dict[str, Forward]:
    """Return three ways to compute h ``(B, D)`` of both encoders, with the same weights."""
    torch.manual_seed(1)
    two = [build_encoder(corpus.folder, weights=False).train(train) for _ in range(2)]
    pad = read_about(corpus.folder).pad_id
    both = paired(copy.deepcopy(two[0]), copy.deepcopy(two[1]))
    params, buffers = torch.func.stack_module_state(two)
    base = copy.deepcopy(two[0]).to("meta")
    base.set_attn_implementation("eager")  # the fused one has no rule for vmap on a CPU

    def apart(texts: Texts) -> tuple[Tensor, Tensor]:
        pairs = zip(two, texts.values(), strict=True)
        return tuple(encode(e, ids, text_mask(ids, n), pad)[:, 0] for e, (ids, n) in pairs)

    def joined(texts: Texts) -> tuple[Tensor, Tensor]:
        return join([(ids, text_mask(ids, lengths)) for ids, lengths in texts.values()])

    def batched(texts: Texts) -> tuple[Tensor, Tensor]:
        return encode(both, *joined(texts), pad)[:, 0].chunk(2)

    def vmapped(texts: Texts) -> tuple[Tensor, Tensor]:
        ids, mask = (x.unflatten(0, (2, -1)) for x in joined(texts))
        # A mask of four dimensions: transformers makes one by a vmap of its own, with branches.
        bias = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo().min)[:, :, None, None]
        bias = bias.expand(-1, -1, -1, mask.shape[-1], -1)

        def one(p: dict, b: dict, ids: Tensor, bias: Tensor) -> Tensor:
            options = {"input_ids": ids, "attention_mask": bias}
            return torch.func.functional_call(base, (p, b), kwargs=options).last_hidden_state[:, 0]

        filled = ids.masked_fill(~mask, pad)
        return torch.vmap(one, randomness="different")(params, buffers, filled, bias).unbind()

    return {"apart": apart, "batched": batched, "vmap": vmapped}


def stacked_rows(size: str, corpus: Corpus, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``stacked``; always float32."""
    for batch_size in args.batch_sizes:
        order = corpus.batches(batch_size)
        rounds = [corpus.batch(order[n % len(order)]) for n in range(args.repeat + 1)]
        for train in (False, True):
            ways = forwards(corpus, train)
            if not train:
                first, *others = (torch.cat(list(way(rounds[0]))) for way in ways.values())
                for other in others:
                    torch.testing.assert_close(other, first, rtol=1e-3, atol=1e-4)
            found = in_turn(
                {name: lambda w=way, t=t: sum(h.square().sum() for h in w(t)).backward()
                 for name, way in ways.items()} for t in rounds
            )  # fmt: skip
            row: Row = {"encoder": size, "batch": batch_size, "dropout": "on" if train else "off",
                        "apart ms": ms(found["apart"])}  # fmt: skip
            for name in ("batched", "vmap"):
                row |= {f"{name}: {k}": v for k, v in ratio(found[name], found["apart"]).items()}
            yield row


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    args = options(argv, __doc__ or "", TABLES)

    def tables_of(size: str, corpus: Corpus, report: Report) -> None:
        if "padding" in args.only and size == args.encoders[0]:
            report.add("padding", padding_rows(size, corpus, args))
        if "stage1" in args.only:
            report.add("stage1", stage1_rows(size, corpus, args))
        if "stacked" in args.only:
            report.add("stacked", stacked_rows(size, corpus, args))

    return run(args, tables_of)


if __name__ == "__main__":
    sys.exit(main())
