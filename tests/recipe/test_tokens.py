# SPDX-License-Identifier: Apache-2.0
"""Stage 4: token lists as ESPnet splits text, tags as one token."""

import re

import pytest

from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError, UsageError
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


@pytest.mark.parametrize("model_type", ["unigram", "bpe"])
@pytest.mark.parametrize(("size", "bound"), [(500, "at most"), (5, "at least")])
def test_an_impossible_size_tells_the_nearest_possible_one(corpus, model_type, size, bound):
    kind = {"type": "bpe", "model_type": model_type, "symbols": ["%", "<city>"]}
    with pytest.raises(UsageError, match=f"sentencepiece cannot make {size} pieces") as caught:
        make(corpus, **kind, size=size)
    assert caught.value.where == "tokens.size" and caught.value.how.startswith(bound)
    possible = int(re.search(r"--tokens\.size=(\d+)", caught.value.how)[1])
    make(corpus, **kind, size=possible)
    with pytest.raises(UsageError, match=f"{bound} {possible}"):
        make(corpus, **kind, size=possible + (1 if size == 500 else -1))


ACCENTS = {"a1": "e\u0301te\u0301 à la carte", "a2": "10² ﬁn", "a3": "ete\u00a0fini … ½"}


def accents(folder):
    folder.write("dump/train/text", "".join(f"{u} {t}\n" for u, t in ACCENTS.items()))
    return folder


def test_every_character_of_the_text_can_be_written_again(folder, monkeypatch):
    import sentencepiece

    said: list[str] = []
    monkeypatch.setattr(tokens, "say", said.append)
    _, made, out = make(accents(folder), type="bpe", size=20)
    model = sentencepiece.SentencePieceProcessor(model_file=str(out / "bpe.model"))
    for text in ACCENTS.values():
        assert model.decode(model.encode(tidy(text))) == tidy(text)
    assert {"²", "ﬁ", "…", "½"} <= set("".join(made)) and "\u0301" not in "".join(made)
    assert not [line for line in said if "warning" in line]


def test_a_normalisation_that_loses_characters_is_told(folder, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(tokens, "say", said.append)
    make(accents(folder), type="bpe", size=22, normalization="nmt_nfkc")
    assert "² (U+00B2) in 1 lines" in said[0] and "U+FB01" in said[0] and "U+00E9" not in said[0]


def test_words_that_are_tokens_of_espnet_do_not_stand_twice(folder):
    folder.write("dump/train/text", "a so <unk> it\nb <blank> <unk> is\n")
    _, made, _ = make(folder, type="word")
    assert made == ["<blank>", "<unk>", "so", "it", "is", "<sos/eos>"]


def test_text_is_not_held_in_memory(folder):
    import tracemalloc

    with open(folder.write("dump/train/text", ""), "w") as f:
        for i in range(4000):
            f.write(f"utt{i:06d} {'abc def ' * 12}{i % 10}\n")  # 0.4 MB
    tracemalloc.start()
    make(folder, type="char")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e5


def tagged_sets(folder, **more):
    texts = {
        "train": {"u1": "vorrei <città> Le Mans >", "u2": "<prenota> >"},
        "train_ar": {"u1": "<city> القاهرة >"},
        "dev": {"u1": "<never> x >"},
        **more,
    }
    for name, rows in texts.items():
        folder.write(f"dump/{name}/text", "".join(f"{u} {t}\n" for u, t in rows.items()))
    folder.recipe(
        tokens={"type": "char", "tagged": True, "also": True}, format={},
        data={"train": "train", "also": ["train_ar"], "valid": "dev", "test": []},
    )  # fmt: skip
    ctx = folder.context("tokens")
    tokens.run(ctx, tokens.plan(ctx))
    out = tokens.folder(ctx)
    return ctx, (out / "tokens.txt").read_text().splitlines(), out


def test_tags_of_all_training_texts_become_symbols_and_no_other(folder):
    from espnet2.text.char_tokenizer import CharTokenizer

    ctx, made, out = tagged_sets(folder)
    assert {"<città>", "<prenota>", "<city>", ">", "<space>"} <= set(made)
    assert "<never>" not in made and not {"<", "|"} & set(made)
    # Characters and tags of the training texts, and ESPnet's three with the space and the mark.
    characters = set("vorreiLeMansالقاهرة")
    assert len(made) == len(characters) + 3 + len(["<blank>", "<unk>", "<space>", ">", "<sos/eos>"])
    stock = CharTokenizer(non_linguistic_symbols=out / "symbols.txt")
    split = tokens.splitter(ctx.recipe.tokens, out)
    text = "vorrei <città> Le Mans > <prenota> > <city> القاهرة >"
    assert stock.tokens2text(stock.text2tokens(text)) == text
    assert split(text) == stock.text2tokens(text)
    option = tokens.token_options(ctx)
    assert option[option.index("--non_linguistic_symbols") + 1] == str(out / "symbols.txt")


def test_the_example_of_media_is_eighteen_symbols(folder):
    text = "<response> no > <localisation-ville> Le Mans >"
    ctx, _, out = tagged_sets(folder, train={"u1": text})
    split = tokens.splitter(ctx.recipe.tokens, out)(text)
    shown = " ".join("_" if s == "<space>" else s for s in split)
    assert shown == "<response> _ n o _ > _ <localisation-ville> _ L e _ M a n s _ >"


@pytest.mark.parametrize("bad", ["a < b", "<city> rome", "<a> <b> x > >", "x > y"])
def test_text_with_marks_that_are_no_tags_is_told_with_its_line(folder, bad):
    with pytest.raises(DataError) as e:
        tagged_sets(folder, train={"u1": "fine", "u2": bad})
    assert "dump/train/text:2, utterance u2" in str(e.value)


def test_bpe_does_not_find_tags(folder):
    with pytest.raises(UsageError, match="BPE"):
        folder.recipe(tokens={"type": "bpe", "tagged": True}, format={})
        tokens.plan(folder.context("tokens"))


PHASE = {"config": "conf/x.yaml"}


def test_a_phase_may_have_a_token_list_of_its_own_training_set(corpus):
    corpus.write("dump/st_train/text", "b1 città\n")
    own = {**PHASE, "train": "st_train", "tokens": {"type": "char"}}
    corpus.recipe(tokens={"type": "char"}, format={}, midtrain=own, finetune=PHASE)
    tokens.run(corpus.context("tokens"), tokens.plan(corpus.context("tokens")))
    lists = {}
    for phase in ("midtrain", "finetune"):
        option = tokens.token_options(corpus.context(phase))
        path = corpus.path / option[option.index("--token_list") + 1]
        lists[phase] = path.read_text(encoding="utf-8").splitlines()
    assert set(lists["midtrain"][2:-1]) == set("città")
    assert set(lists["finetune"][2:-1]) == {*"".join(TEXT.values()), "<space>"} - {" "}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"tokens": {"also": True}}, r"midtrain\.tokens\.also"),
        ({"tokens": {}, "streams": [{"name": "speech", "file": "wav.scp", "type": "sound"}]},
         r"midtrain\.tokens"),
    ],
)  # fmt: skip
def test_a_list_of_a_phase_that_cannot_be_made_is_refused(corpus, wrong, where):
    corpus.recipe(tokens={"type": "char"}, format={}, midtrain={**PHASE, **wrong})
    with pytest.raises(UsageError, match=where):
        tokens.plan(corpus.context("tokens"))


def test_without_the_recipes_list_no_stage_makes_that_of_a_phase(corpus):
    from espnet_ext.recipe.steps import train

    corpus.write("conf/x.yaml", "{}")
    corpus.recipe(format={}, midtrain={**PHASE, "tokens": {"type": "char"}})
    with pytest.raises(UsageError, match="no stage makes this token list"):
        train.plan(corpus.context("midtrain"))
