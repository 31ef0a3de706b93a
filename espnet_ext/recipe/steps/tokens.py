# SPDX-License-Identifier: Apache-2.0
"""Stage 4: the token list."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import iter_table
from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import atomic_dir, write_text
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import PHASES, Tokens
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import tokens_given
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.text import tagged

FIRST, LAST = ("<blank>", "<unk>"), "<sos/eos>"  # ESPnet's own
TYPES = ("bpe", "char", "word")


def tokens_of(ctx: Context) -> Tokens | None:
    """Return the token list of the current phase; in other stages that of the recipe."""
    phase = ctx.stage.name if ctx.stage is not None else ""
    own = getattr(ctx.recipe, phase).tokens if phase in PHASES else None
    return own or ctx.recipe.tokens


def folder(ctx: Context) -> Path:
    """Return the folder of the token list of the current phase, else of the recipe."""
    phase = ctx.stage.name if ctx.stage is not None else ""
    own = phase in PHASES and getattr(ctx.recipe, phase).tokens is not None
    return _folder(tokens_of(ctx), phase if own else "")


def _folder(t: Tokens, phase: str) -> Path:
    if t.file:
        return DUMP / tokens_given.folder_name(t)
    of_phase = f"{phase}_" if phase else ""
    return DUMP / (f"tokens_{of_phase}{t.type}" + (str(t.size) if t.type == "bpe" else ""))


def token_options(ctx: Context) -> list[str]:
    """Return ESPnet's training options that name the token list; empty without one."""
    t = tokens_of(ctx)
    if t is None or t.code:
        return []
    out = folder(ctx)
    options = ["--token_type", t.type, "--token_list", str(out / "tokens.txt")]
    if t.type == "bpe":
        options += ["--bpemodel", str(out / "bpe.model")]
    elif t.symbols or t.tagged:
        options += ["--non_linguistic_symbols", str(out / "symbols.txt")]
    return options


@dataclass(frozen=True)
class _List:
    """A list that the stage makes: the recipe's, or a phase's own."""

    section: Tokens
    where: str  # key of recipe.yaml
    folder: Path
    texts: list[Path]  # to learn from; a given list is checked against them


def _lists(ctx: Context) -> list[_List]:
    """Return the recipe's list and those of the phases.

    Raises:
        UsageError: A phase's list asks for what only the recipe's can do.
    """
    t, data = ctx.recipe.tokens, ctx.recipe.data
    also = [DUMP / name / "text" for name in data.also] if t.also else []
    lists = [_List(t, "tokens", _folder(t, ""), [DUMP / data.train / "text", *also])]
    for name, phase in ctx.recipe.phases.items():
        if phase.tokens is None:
            continue
        where, own = f"{name}.tokens", phase.tokens
        if own.also or own.code:
            key = "also" if own.also else "code"
            how = f"leave it out: the list is made of the texts of {name}.train"
            raise UsageError("only the recipe's token list can have this", f"{where}.{key}", how)
        texts = [DUMP / (phase.train or data.train) / s.file for s in phase.streams
                 if s.type == "text"]  # fmt: skip
        if not texts:
            what = f"the phase has no stream of text, and {where} would have nothing to learn from"
            raise UsageError(what, where, f"{name}.streams, or leave {where} out")
        lists.append(_List(own, where, _folder(own, name), texts))
    return [_with_further_text(one) for one in lists]


def _with_further_text(one: _List) -> _List:
    further = [Path(one.section.text)] if one.section.text else []
    return replace(one, texts=[*one.texts, *further])


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    lists = _lists(ctx)
    needs, stock = [], []
    for one in lists:
        _check(one)
        needs += one.texts
        if one.section.file:
            # What is wrong with it is told before time is spent.
            tokens_given.read_list(one.section)
            needs += tokens_given.files(one.section)
        stock += _stock(one)
    phases = {one.where: _settings(one.section) for one in lists[1:]}
    return Plan(
        needs=[*dict.fromkeys(needs)],
        makes=[one.folder / "tokens.txt" for one in lists],
        settings={**_settings(lists[0].section), **({"phases": phases} if phases else {})},
        disk_mb=1,
        stock=stock,
    )


def _check(one: _List) -> None:
    t = one.section
    if t.type not in TYPES:
        raise UsageError(f"{one.where}.type cannot be '{t.type}'", None, nearest(t.type, TYPES))
    if t.tagged and t.type == "bpe":
        how = f"{one.where}.type: char, or name the tags in {one.where}.symbols"
        raise UsageError("BPE does not find tags by itself", f"{one.where}.tagged", how)


def _stock(one: _List) -> list[str]:
    t = one.section
    if t.type == "bpe" or t.symbols or t.text or t.file or t.tagged or t.also:
        return []  # ESPnet has no program for these
    return [
        "python -m espnet2.bin.tokenize_text --token_type "
        f"{t.type} --field 2- --input {one.texts[0]} --output {one.folder}/tokens.txt "
        "--write_vocabulary true --add_symbol '<blank>:0' --add_symbol '<unk>:1' "
        "--add_symbol '<sos/eos>:-1'"
    ]


def _settings(t: Tokens) -> dict:
    """What the list depends on; what came later is told where it is asked for."""
    later = {"file", "tagged", "also"}
    return {k: v for k, v in vars(t).items() if k not in ("code", "args") and (v or k not in later)}


def run(ctx: Context, plan: Plan) -> None:
    """Write ``tokens.txt`` (and ``bpe.model``) of each list."""
    for one in _lists(ctx):
        if one.section.file:
            _take_given(one)
        else:
            _make(one)


def _make(one: _List) -> None:
    with atomic_dir(one.folder) as tmp:
        if one.section.type == "bpe":
            tokens = _train_bpe(one, tmp)
        else:
            symbols = _symbols(one.section, one.texts)
            write_text(tmp / "symbols.txt", "".join(f"{s}\n" for s in symbols))
            tokens = _count(one, tmp, symbols)
        lines = [*FIRST, *tokens, LAST]
        write_text(tmp / "tokens.txt", "".join(f"{t}\n" for t in lines))
    say(f"  {len(lines)} tokens in {one.folder}/tokens.txt")


def _take_given(one: _List) -> None:
    t = one.section
    with atomic_dir(one.folder) as tmp:
        tokens = tokens_given.copy(t, tmp)
        tokens_given.check_texts(t, tokens, _sentences(one.texts), splitter(t, tmp, str))
    say(f"  {len(tokens)} tokens of {t.file} in {one.folder}/tokens.txt")


def _sentences(paths: Iterable[Path]) -> Iterator[str]:
    """Yield all texts, one by one, in the form that training and scoring use."""
    return (text for path in paths for _, value in iter_table(path) if (text := tidy(value)))


def _train_bpe(one: _List, out: Path) -> list[str]:
    import sentencepiece as spm

    t, characters = one.section, Counter()

    def counted() -> Iterator[str]:
        for sentence in _sentences(one.texts):
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
        lines = characters[""]
        what = f"sentencepiece cannot make {t.size} pieces from {lines} lines of {one.texts[0]}"
        raise UsageError(
            what, f"{one.where}.size", _other_size(one, str(e), len(characters))
        ) from None
    model = spm.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    _warn_of_lost(model, characters)
    return [model.id_to_piece(i) for i in range(model.get_piece_size()) if not model.is_unknown(i)]


def _other_size(one: _List, told: str, symbols: int) -> str:
    """Return how to mend a size that sentencepiece refuses; ``told`` is what it said."""
    if found := re.search(r"too high.*<= (\d+)", told):
        return f"at most {found[1]}: --{one.where}.size={found[1]}, or --{one.where}.type=char"
    if found := re.search(r"required_chars\. \d+ vs (\d+)", told):
        return f"at least {found[1]}, one for each character: --{one.where}.size={found[1]}"
    return f"choose another size, at least {symbols}, the number of different characters: {told}"


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


def _count(one: _List, out: Path, symbols: list[str]) -> list[str]:
    """Return characters or words by falling frequency, ties as they come (as ESPnet does)."""
    split = splitter(one.section, out)
    counts = Counter(token for sentence in _sentences(one.texts) for token in split(sentence))
    if not counts:
        raise DataError("the training text is empty", one.texts[0])
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
