# SPDX-License-Identifier: Apache-2.0
"""A language model of other tokens than the recogniser's is refused, before and while decoding."""

import pytest
import yaml

from espnet_ext.errors import UsageError
from espnet_ext.espnet import speech2text
from espnet_ext.espnet.search_options import check_lm, named_files
from espnet_ext.recipe.decoding import check_decoding

LM = {"lm_train_config": "exp/lm/config.yaml", "lm_file": "exp/lm/m.pth"}
TOKENS = ["<blank>", "<unk>", "a", "b", "<sos/eos>"]


@pytest.fixture
def lm(folder):
    """Return ``lm(tokens)``: write a language model's configuration."""

    def make(tokens):
        folder.write(LM["lm_train_config"], yaml.safe_dump({"token_list": tokens}))

    return make


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (
            ["<blank>", "<unk>", "b", "a", "<sos/eos>"],
            "5 tokens there, 5 here in another order; token 2 is 'b' there and 'a' here",
        ),
        (TOKENS[:-1], r"4 tokens there, 5 here\)"),
        ([], "0 tokens there, 5 here"),
    ],
)
def test_another_token_list_is_refused(lm, tokens, says):
    lm(tokens)
    with pytest.raises(UsageError, match=says) as e:
        check_lm(LM, TOKENS, "decode.args")
    assert str(e.value.where) == LM["lm_train_config"]


def test_the_same_tokens_or_tokens_not_known_yet_pass(lm):
    check_lm(LM, TOKENS, "decode.args")  # its training is still to come
    lm(TOKENS)
    check_lm(LM, TOKENS, "decode.args")
    lm([])
    check_lm(LM, None, "decode.args")
    check_lm({"beam_size": 2}, TOKENS, "decode.args")
    check_lm(dict.fromkeys(LM), TOKENS, "Speech2Text")  # ESPnet's default is None


@pytest.mark.parametrize("half", LM)
def test_half_a_language_model_is_refused(half):
    (other,) = LM.keys() - {half}
    with pytest.raises(UsageError, match="needs lm_train_config and lm_file") as e:
        check_lm({half: LM[half]}, TOKENS, "decode.args")
    assert e.value.where == f"decode.args.{other}"


def test_it_is_refused_before_a_training_and_by_the_recogniser(folder, lm):
    lm(TOKENS[:-1])
    folder.write("conf/train.yaml", "model_conf: {}")
    folder.write("dump/tokens_char/tokens.txt", "\n".join(TOKENS))
    folder.write(LM["lm_file"], "")
    folder.recipe(finetune={"config": "conf/train.yaml"}, tokens={"type": "char"},
                  decode={"method": "beam", "args": LM})  # fmt: skip
    with pytest.raises(UsageError, match="another token list"):
        check_decoding(folder.context("decode"))
    folder.write("config.yaml", yaml.safe_dump({"token_list": TOKENS}))
    with pytest.raises(UsageError, match="another token list"):
        speech2text.build("config.yaml", "m.pth", lm_train_config=LM["lm_train_config"], lm_file=3)


@pytest.mark.parametrize(("presets", "how"), [({}, "--name lm"), ({"lm": {}}, "--preset lm")])
def test_one_that_is_not_trained_yet_is_told_before_the_recogniser_is(folder, presets, how):
    folder.write("conf/train.yaml", "model_conf: {}")
    folder.recipe(finetune={"config": "conf/train.yaml"}, presets=presets,
                  decode={"method": "beam", "args": LM})  # fmt: skip
    with pytest.raises(UsageError, match="the search needs a missing file") as e:
        check_decoding(folder.context("decode"))
    assert e.value.how == f"train it first: ./run.sh {how}"
    for path in LM.values():
        folder.write(path, "{}")
    check_decoding(folder.context("decode"))


def test_files_of_a_search_are_named():
    options = {**LM, "beam_size": 3, "ngram_file": None, "minlenratio": 0.1}
    assert {k: str(v) for k, v in named_files(options).items()} == LM
