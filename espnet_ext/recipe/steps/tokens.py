# SPDX-License-Identifier: Apache-2.0
"""Stage 4: the token list."""

import re
from collections.abc import Callable
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import atomic_dir, write_text
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import Tokens
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.format import DUMP

TYPES = ("bpe", "char", "word")


def folder(ctx: Context) -> Path:
    """Return the folder of the token list."""
    t = ctx.recipe.tokens
    return DUMP / ("tokens_" + t.type + (str(t.size) if t.type == "bpe" else ""))


def token_options(ctx: Context) -> list[str]:
    """Return ESPnet's training options that name the token list; empty without one."""
    if ctx.recipe.tokens is None or ctx.recipe.tokens.code:
        return []
    options = ["--token_type", ctx.recipe.tokens.type]
    options += ["--token_list", str(folder(ctx) / "tokens.txt")]
    if ctx.recipe.tokens.type == "bpe":
        options += ["--bpemodel", str(folder(ctx) / "bpe.model")]
    elif ctx.recipe.tokens.symbols:
        options += ["--non_linguistic_symbols", str(folder(ctx) / "symbols.txt")]
    return options


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    t, out = ctx.recipe.tokens, folder(ctx)
    if t.type not in TYPES:
        raise UsageError(f"tokens.type cannot be '{t.type}'", None, nearest(t.type, TYPES))
    train = DUMP / ctx.recipe.data.train
    texts = [train / "text"] + ([Path(t.text)] if t.text else [])
    stock = []
    if t.type != "bpe" and not t.symbols and not t.text:  # ESPnet has no program for these
        stock = [
            "python -m espnet2.bin.tokenize_text --token_type "
            f"{t.type} --field 2- --input {train}/text --output {out}/tokens.txt "
            "--write_vocabulary true --add_symbol '<blank>:0' --add_symbol '<unk>:1' "
            "--add_symbol '<sos/eos>:-1'"
        ]
    return Plan(
        needs=texts,
        makes=[out / "tokens.txt"],
        settings={k: v for k, v in vars(t).items() if k not in ("code", "args")},
        disk_mb=1,
        stock=stock,
    )


def run(ctx: Context, plan: Plan) -> None:
    """Write ``tokens.txt`` (and ``bpe.model``)."""
    out = folder(ctx)
    with atomic_dir(out) as tmp:
        sentences = [s for path in plan.needs for _, s in iter_table(path) if s]
        tokens = _train_bpe(ctx, tmp, sentences) if ctx.recipe.tokens.type == "bpe" else None
        if tokens is None:
            tokens = _count(ctx, sentences)
            write_text(tmp / "symbols.txt", "".join(f"{s}\n" for s in ctx.recipe.tokens.symbols))
        lines = ["<blank>", "<unk>", *tokens, "<sos/eos>"]
        write_text(tmp / "tokens.txt", "".join(f"{t}\n" for t in lines))
    say(f"  {len(lines)} tokens in {out}/tokens.txt")


def _train_bpe(ctx: Context, out: Path, sentences: list[str]) -> list[str]:
    import sentencepiece as spm

    t = ctx.recipe.tokens
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_prefix=str(out / "bpe"),
            vocab_size=t.size,
            model_type=t.model_type,
            user_defined_symbols=t.symbols,
            character_coverage=1.0,
            bos_id=-1,
            eos_id=-1,
            unk_id=0,
            num_threads=1,
            shuffle_input_sentence=False,
            minloglevel=2,
        )
    except RuntimeError as e:
        raise UsageError(
            f"sentencepiece cannot make {t.size} pieces from {len(sentences)} lines: {e}",
            "tokens.size",
            "choose another size (at least the number of different characters)",
        ) from None
    model = spm.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    return [model.id_to_piece(i) for i in range(model.get_piece_size()) if not model.is_unknown(i)]


def _count(ctx: Context, sentences: list[str]) -> list[str]:
    """Return characters or words by falling frequency, ties as they come (as ESPnet does)."""
    from collections import Counter

    t = ctx.recipe.tokens
    split = splitter(t, None)
    counts = Counter(token for sentence in sentences for token in split(sentence))
    if not counts:
        raise DataError("the training text is empty", DUMP / ctx.recipe.data.train / "text")
    ordered = [w for w, _ in counts.most_common()]
    return [*t.symbols, *(w for w in ordered if w not in t.symbols)]


def splitter(t: Tokens, out: Path | None) -> Callable[[str], list]:
    """Return what splits a sentence as ESPnet's tokenizer of that type does."""
    if t.type == "bpe":
        import sentencepiece as spm

        return spm.SentencePieceProcessor(model_file=str(out / "bpe.model")).encode
    if t.type == "word":
        return str.split
    symbols = sorted(t.symbols, key=len, reverse=True)
    token = re.compile("|".join([*map(re.escape, symbols), "."]))
    return lambda text: ["<space>" if c == " " else c for c in token.findall(text)]
