# SPDX-License-Identifier: Apache-2.0
"""Stage 4: token lists as ESPnet splits text, tags as one token."""

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.recipe.steps import tokens

TEXT = {"a1": "go to <city> rome >", "a2": "gg", "a3": "add 10 %"}


@pytest.fixture
def corpus(folder):
    folder.write("dump/train/text", "".join(f"{u} {t}\n" for u, t in TEXT.items()))
    return folder


def make(folder, **section):
    folder.recipe(tokens=section, format={})
    ctx = folder.context("tokens")
    tokens.run(ctx, tokens.plan(ctx))
    out = tokens.folder(ctx)
    return ctx, (out / "tokens.txt").read_text().splitlines(), out


def test_tags_are_one_token_and_the_rest_is_split_as_espnet_does(corpus):
    from espnet2.text.char_tokenizer import CharTokenizer

    ctx, made, out = make(corpus, type="char", symbols=["<city>", ">"])
    split = tokens.splitter(ctx.recipe.tokens, out)
    stock = CharTokenizer(non_linguistic_symbols=out / "symbols.txt")
    for text in TEXT.values():
        assert split(text) == stock.text2tokens(text)
        assert set(split(text)) <= set(made)
        assert stock.tokens2text(split(text)) == text
    assert made[:2] == ["<blank>", "<unk>"] and made[-1] == "<sos/eos>"
    assert {"<city>", ">", "<space>", "%"} <= set(made) and "<" not in made
    assert len(made) == len(set(made))
    option = tokens.token_options(ctx)
    assert option[option.index("--non_linguistic_symbols") + 1] == str(out / "symbols.txt")


def test_tags_are_pieces_of_a_bpe_model(corpus):
    import sentencepiece

    _, made, out = make(corpus, type="bpe", size=16, symbols=["<city>", ">"])
    model = sentencepiece.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    assert "<city>" in model.encode(TEXT["a1"], out_type=str) and "<city>" in made


def test_an_impossible_size_says_so(corpus):
    with pytest.raises(UsageError, match="sentencepiece cannot make 5 pieces"):
        make(corpus, type="bpe", size=5)
