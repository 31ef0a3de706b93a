# SPDX-License-Identifier: Apache-2.0
"""A token list that the user gives (``tokens.file``): checked at once, copied by stage 4."""

import hashlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import write_text
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import Tokens
from espnet_ext.text import tagged

BLANK, UNKNOWN, LAST = "<blank>", "<unk>", "<sos/eos>"  # ESPnet's own
MODEL = "bpe.model"
MOST = 0.5  # share of unknown tokens, above which the list belongs to other texts


def folder_name(t: Tokens) -> str:
    """Return a name of its own for each given list."""
    path = Path(t.file)
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:6]
    return f"tokens_{t.type}_{re.sub(r'[^A-Za-z0-9._-]', '_', path.stem)}_{digest}"


def files(t: Tokens) -> list[Path]:
    """Return the given files: the list, and for BPE the model beside it or instead of it."""
    path = Path(t.file)
    return [path, path.with_name(MODEL)] if t.type == "bpe" and path.suffix != ".model" else [path]


def read_list(t: Tokens) -> list[str]:
    """Return the given tokens.

    Raises:
        UsageError: A file is missing.
        DataError: It is no token list of ESPnet for this type; the message names the line.
    """
    for path in files(t):
        if not path.is_file():
            how = "a list with a token on each line; for BPE a .model, or bpe.model beside the list"
            raise UsageError("there is no such token list", f"tokens.file: {path}", how)
    path = Path(t.file)
    if path.suffix == ".model":
        return [BLANK, UNKNOWN, *_pieces(path), LAST]
    try:
        tokens = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError:
        raise DataError("the token list is not in UTF-8", path) from None
    _check(t, tokens, path)
    if t.type == "bpe" and (lost := [x for x in _pieces(files(t)[1]) if x not in set(tokens)]):
        what = f"the list lacks {len(lost)} pieces of its model, the first is '{lost[0]}'"
        raise DataError(what, path, f"list and {MODEL} must be of one training")
    return tokens


def _check(t: Tokens, tokens: list[str], path: Path) -> None:
    first: dict[str, int] = {}
    for number, token in enumerate(tokens, 1):
        where = f"{path}:{number}"
        if not token.strip():
            raise DataError("an empty token", where)
        if token in first:
            raise DataError(f"'{token}' stands twice, first in line {first[token]}", where)
        first[token] = number
        known = (BLANK, UNKNOWN, LAST, "<space>", *t.symbols)
        if t.type == "char" and len(token) > 1 and token not in known and not _is_tag(t, token):
            how = "tokens.type: word or bpe, or add it to tokens.symbols"
            raise DataError(f"'{token}' is no character", where, how)
    for token, number in ((BLANK, 1), (LAST, len(tokens))):
        if tokens[number - 1] != token:
            how = f"ESPnet's order: {BLANK}, {UNKNOWN}, the tokens, {LAST}"
            raise DataError(f"'{token}' must stand in line {number}", f"{path}:{number}", how)
    if UNKNOWN not in first:
        raise DataError(f"the list has no '{UNKNOWN}'", path)


def _is_tag(t: Tokens, token: str) -> bool:
    return t.tagged and token[0] + token[-1] == "<>"


def _pieces(model: Path) -> list[str]:
    import sentencepiece as spm

    try:
        m = spm.SentencePieceProcessor(model_file=str(model))
    except (OSError, RuntimeError):
        raise DataError("not a model of sentencepiece", model) from None
    return [
        m.id_to_piece(i)
        for i in range(m.get_piece_size())
        if not m.is_unknown(i) and not m.is_control(i)
    ]


def copy(t: Tokens, out: Path) -> list[str]:
    """Write ``tokens.txt`` (and ``bpe.model``, or ``symbols.txt``) into ``out``."""
    tokens = read_list(t)
    if t.type == "bpe":
        shutil.copyfile(files(t)[-1], out / MODEL)
    else:
        tags = [x for x in tokens if _is_tag(t, x) or (t.tagged and x == tagged.CLOSE)]
        own = (BLANK, UNKNOWN, LAST, "<space>", *t.symbols)
        symbols = [*t.symbols, *(x for x in tags if x not in own)]
        write_text(out / "symbols.txt", "".join(f"{s}\n" for s in symbols))
    write_text(out / "tokens.txt", "".join(f"{x}\n" for x in tokens))
    return tokens


def check_texts(
    t: Tokens, tokens: list[str], sentences: Iterable[str], split: Callable[[str], list]
) -> None:
    """Tell how many tokens of the training texts are not in the list.

    Args:
        t: The settings.
        tokens: The list.
        sentences: The training texts.
        split: Splits a sentence into tokens, as text.

    Raises:
        DataError: Most of them are not.
    """
    known, unknown, total = set(tokens), Counter(), 0
    for sentence in sentences:
        parts = split(sentence)
        total += len(parts)
        unknown.update(x for x in parts if x not in known)
    if not unknown:
        return
    shown = ", ".join(f"'{x}' ({n})" for x, n in unknown.most_common(5))
    what = f"{unknown.total()} of {total} tokens of the training texts are not in {t.file}: {shown}"
    if unknown.total() > MOST * total:
        raise DataError(what, "tokens.file", "another list, or texts in its letter case")
    say(f"  warning: {what}")
