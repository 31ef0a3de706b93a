# SPDX-License-Identifier: Apache-2.0
"""tokens.file: a given token list is checked before stage 1 and copied by stage 4."""

from pathlib import Path

import pytest

from espnet_ext.errors import DataError, UsageError
from espnet_ext.recipe import records
from espnet_ext.recipe.steps import tokens

GOOD = "<blank>\n<unk>\na\nb\n<space>\n<sos/eos>\n"


def context(folder, text=GOOD, name="mine.txt", **section):
    if text is not None:
        folder.write(name, text)
    folder.write("dump/train/text", "u1 ab ba\nu2 aab\n")
    folder.recipe(tokens={"type": "char", "file": name, **section})
    return folder.context("tokens")


@pytest.mark.parametrize(
    ("text", "where", "says"),
    [
        (None, "mine.txt", "there is no such token list"),
        (GOOD.replace("b\n", "a\n", 1), "mine.txt:4", "'a' stands twice, first in line 3"),
        (GOOD.replace("<blank>\n", ""), "mine.txt:1", "'<blank>' must stand in line 1"),
        (GOOD.replace("<sos/eos>\n", ""), "mine.txt:5", "'<sos/eos>' must stand in line 5"),
        (GOOD.replace("<unk>\n", ""), "mine.txt", "the list has no '<unk>'"),
        (GOOD.replace("b\n", "\n", 1), "mine.txt:4", "an empty token"),
        (GOOD.replace("b\n", "bb\n", 1), "mine.txt:4", "'bb' is no character"),
        ("", "mine.txt:1", "an empty token"),
    ],
)
def test_wrong_lists_are_refused_by_the_plan(folder, text, where, says):
    ctx = context(folder, text)
    with pytest.raises((DataError, UsageError)) as e:
        tokens.plan(ctx)
    assert says in e.value.what
    assert str(e.value.where).endswith(where)


@pytest.mark.parametrize("text", [GOOD, GOOD.replace("\n", "\r\n"), GOOD.rstrip("\n")])
def test_a_given_list_is_copied_as_it_is_and_has_its_own_folder(folder, capfd, text):
    ctx = context(folder, text)
    plan = tokens.plan(ctx)
    tokens.run(ctx, plan)
    out = tokens.folder(ctx)
    assert out.name.startswith("tokens_char_mine_") and out != Path("dump/tokens_char")
    assert (out / "tokens.txt").read_text() == GOOD
    assert "6 tokens of mine.txt" in capfd.readouterr().out
    assert plan.stock == []
    before = records.current(plan)
    folder.write("mine.txt", GOOD.replace("b\n", "b\nc\n"))
    assert records.current(tokens.plan(ctx)) != before


def test_tokens_that_the_list_lacks_are_told(folder, capfd):
    ctx = context(folder, GOOD.replace("<space>\n", ""))
    tokens.run(ctx, tokens.plan(ctx))
    assert "1 of 8 tokens of the training texts are not in mine.txt: '<space>' (1)" in (
        capfd.readouterr().out
    )
    ctx = context(folder, "<blank>\n<unk>\nA\nB\n<sos/eos>\n")
    with pytest.raises(DataError, match="8 of 8 tokens"):
        tokens.run(ctx, tokens.plan(ctx))


def test_symbols_may_be_longer(folder):
    ctx = context(folder, GOOD.replace("b\n", "b\n<tag>\n", 1), symbols=["<tag>"])
    tokens.run(ctx, tokens.plan(ctx))
    assert (tokens.folder(ctx) / "symbols.txt").read_text() == "<tag>\n"


def test_a_bpe_model_with_and_without_its_list(folder):
    folder.write("dump/train/text", "".join(f"u{i} abab baba abba {i}\n" for i in range(20)))
    folder.recipe(tokens={"type": "bpe", "size": 16})
    made = folder.context("tokens")
    tokens.run(made, tokens.plan(made))
    own = tokens.folder(made)
    for file in (own / "tokens.txt", own / "bpe.model"):
        folder.recipe(tokens={"type": "bpe", "file": str(file)})
        ctx = folder.context("tokens")
        tokens.run(ctx, tokens.plan(ctx))
        out = tokens.folder(ctx)
        assert out != own
        for name in ("tokens.txt", "bpe.model"):
            assert (out / name).read_bytes() == (own / name).read_bytes()
        options = tokens.token_options(ctx)
        assert options[options.index("--bpemodel") + 1] == str(out / "bpe.model")
    lines = (own / "tokens.txt").read_text().splitlines()
    folder.write("dump/other/tokens.txt", "\n".join([*lines[:3], *lines[4:]]) + "\n")
    folder.write("dump/other/bpe.model", "no model")
    folder.recipe(tokens={"type": "bpe", "file": "dump/other/tokens.txt"})
    with pytest.raises(DataError, match="not a model of sentencepiece"):
        tokens.plan(folder.context("tokens"))
    Path("dump/other/bpe.model").write_bytes((own / "bpe.model").read_bytes())
    with pytest.raises(DataError, match="lacks 1 pieces of its model"):
        tokens.plan(folder.context("tokens"))
