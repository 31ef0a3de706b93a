# SPDX-License-Identifier: Apache-2.0
"""Stage 4: the token list."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import iter_table
from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import atomic_dir, write_text
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import Tokens
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import tokens_given
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.text import tagged

FIRST, LAST = ("<blank>", "<unk>"), "<sos/eos>"  # ESPnet's own
TYPES = ("bpe", "char", "word")


def folder(ctx: Context) -> Path:
    """Return the folder of the token list."""
    t = ctx.recipe.tokens
    if t.file:
        return DUMP / tokens_given.folder_name(t)
    return DUMP / ("tokens_" + t.type + (str(t.size) if t.type == "bpe" else ""))


def token_options(ctx: Context) -> list[str]:
    """Return ESPnet's training options that name the token list; empty without one."""
    if ctx.recipe.tokens is None or ctx.recipe.tokens.code:
        return []
    options = ["--token_type", ctx.recipe.tokens.type]
    options += ["--token_list", str(folder(ctx) / "tokens.txt")]
    if ctx.recipe.tokens.type == "bpe":
        options += ["--bpemodel", str(folder(ctx) / "bpe.model")]
    elif ctx.recipe.tokens.symbols or ctx.recipe.tokens.tagged:
        options += ["--non_linguistic_symbols", str(folder(ctx) / "symbols.txt")]
    return options


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    t, out = ctx.recipe.tokens, folder(ctx)
    if t.type not in TYPES:
        raise UsageError(f"tokens.type cannot be '{t.type}'", None, nearest(t.type, TYPES))
    if t.tagged and t.type == "bpe":
        how = "tokens.type: char, or name the tags in tokens.symbols"
        raise UsageError("BPE does not find tags by itself", "tokens.tagged", how)
    train = DUMP / ctx.recipe.data.train
    also = [DUMP / name for name in ctx.recipe.data.also] if t.also else []
    texts = [d / "text" for d in (train, *also)] + ([Path(t.text)] if t.text else [])
    if t.file:
        tokens_given.read_list(t)  # what is wrong with it is told before time is spent
        texts += tokens_given.files(t)
    stock = []
    if t.type != "bpe" and not (
        t.symbols or t.text or t.file or t.tagged or t.also
    ):  # ESPnet has no program for these
        stock = [
            "python -m espnet2.bin.tokenize_text --token_type "
            f"{t.type} --field 2- --input {train}/text --output {out}/tokens.txt "
            "--write_vocabulary true --add_symbol '<blank>:0' --add_symbol '<unk>:1' "
            "--add_symbol '<sos/eos>:-1'"
        ]
    return Plan(
        needs=texts,
        makes=[out / "tokens.txt"],
        settings=_settings(t),
        disk_mb=1,
        stock=stock,
    )


def _settings(t: Tokens) -> dict:
    """What the list depends on; what came later is told where it is asked for."""
    later = {"file", "tagged", "also"}
    return {k: v for k, v in vars(t).items() if k not in ("code", "args") and (v or k not in later)}


def run(ctx: Context, plan: Plan) -> None:
    """Write ``tokens.txt`` (and ``bpe.model``)."""
    out = folder(ctx)
    if ctx.recipe.tokens.file:
        _take_given(ctx, plan)
        return
    with atomic_dir(out) as tmp:
        if ctx.recipe.tokens.type == "bpe":
            tokens = _train_bpe(ctx, tmp, plan.needs)
        else:
            symbols = _symbols(ctx.recipe.tokens, plan.needs)
            write_text(tmp / "symbols.txt", "".join(f"{s}\n" for s in symbols))
            tokens = _count(ctx, tmp, symbols, _sentences(plan.needs))
        lines = [*FIRST, *tokens, LAST]
        write_text(tmp / "tokens.txt", "".join(f"{t}\n" for t in lines))
    say(f"  {len(lines)} tokens in {out}/tokens.txt")


def _take_given(ctx: Context, plan: Plan) -> None:
    t = ctx.recipe.tokens
    with atomic_dir(folder(ctx)) as tmp:
        tokens = tokens_given.copy(t, tmp)
        texts = [p for p in plan.needs if p not in tokens_given.files(t)]
        tokens_given.check_texts(t, tokens, _sentences(texts), splitter(t, tmp, str))
    say(f"  {len(tokens)} tokens of {t.file} in {folder(ctx)}/tokens.txt")


def _sentences(paths: Iterable[Path]) -> Iterator[str]:
    """Yield all texts, one by one, in the form that training and scoring use."""
    return (text for path in paths for _, value in iter_table(path) if (text := tidy(value)))


def _train_bpe(ctx: Context, out: Path, paths: list[Path]) -> list[str]:
    import sentencepiece as spm

    t, characters = ctx.recipe.tokens, Counter()

    def counted() -> Iterator[str]:
        for sentence in _sentences(paths):
            characters.update(set(sentence))
            characters[""] += 1
            yield sentence

    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=counted(),
            model_prefix=str(out / "bpe"),
            vocab_size=t.size,
            model_type=t.model_type,
            user_defined_symbols=t.symbols,
            normalization_rule_name=t.normalization,
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
            f"sentencepiece cannot make {t.size} pieces from {characters['']} lines: {e}",
            "tokens.size",
            "choose another size (at least the number of different characters)",
        ) from None
    model = spm.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    _warn_of_lost(model, characters)
    return [model.id_to_piece(i) for i in range(model.get_piece_size()) if not model.is_unknown(i)]


def _warn_of_lost(model: Any, characters: Counter) -> None:
    """Tell which characters of the text the model can never write."""
    lost = [c for c in sorted(characters) if c.strip() and model.decode(model.encode(c)) != c]
    if lost:
        shown = ", ".join(f"{c} (U+{ord(c):04X}) in {characters[c]} lines" for c in lost[:5])
        more = f" and {len(lost) - 5} more" if len(lost) > 5 else ""
        say(f"  warning: the token model writes these characters as others: {shown}{more}; they "
            "count as errors (tokens.normalization: identity keeps most)")  # fmt: skip


def _symbols(t: Tokens, texts: Iterable[Path]) -> list[str]:
    """Return the given symbols and, if asked for, the tags of the texts.

    Raises:
        DataError: A text has unbalanced or nested tags, or ``<`` or ``>`` that is no tag.
    """
    if not t.tagged:
        return t.symbols
    for path in texts:
        for number, (utt, text) in enumerate(iter_table(path), 1):
            tagged.check(tidy(text), f"{path}:{number}, utterance {utt}")
    found = tagged.symbols(_sentences(texts))
    return [*t.symbols, *(s for s in found if s not in t.symbols)]


def _count(ctx: Context, out: Path, symbols: list[str], sentences: Iterable[str]) -> list[str]:
    """Return characters or words by falling frequency, ties as they come (as ESPnet does)."""
    split = splitter(ctx.recipe.tokens, out)
    counts = Counter(token for sentence in sentences for token in split(sentence))
    if not counts:
        raise DataError("the training text is empty", DUMP / ctx.recipe.data.train / "text")
    ordered = [w for w, _ in counts.most_common()]
    known = {*symbols, *FIRST, LAST}
    return [*symbols, *(w for w in ordered if w not in known)]


def splitter(t: Tokens, out: Path | None, kind: type = int) -> Callable[[str], list]:
    """Return what splits a sentence as ESPnet's tokenizer of that type does.

    Args:
        t: The settings.
        out: Folder of the token list, with the ``symbols.txt`` of tagged texts.
        kind: Type of the tokens of BPE: ``int`` or ``str``.
    """
    if t.type == "bpe":
        import sentencepiece as spm

        model = spm.SentencePieceProcessor(model_file=str(out / "bpe.model"))
        return lambda text: model.encode(text, out_type=kind)
    if t.type == "word":
        return str.split
    given = t.symbols
    if t.tagged:
        given = (out / "symbols.txt").read_text(encoding="utf-8").splitlines()
    symbols = sorted(given, key=len, reverse=True)
    token = re.compile("|".join([*map(re.escape, symbols), "."]))
    return lambda text: ["<space>" if c == " " else c for c in token.findall(text)]
