# SPDX-License-Identifier: Apache-2.0
"""Sentence embeddings: poolings by hand, invariances, folders that cannot be used, off-line."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_text import WORDS, drop_tensors, make_bert

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.text import sentence_layout
from espnet_ext.text.sentence import SentenceEncoder
from espnet_ext.text.source import SENTENCE, encoder_source

TEXTS = ["je voudrais une chambre double à le mans", "roma", "quanto costa une camera", ""]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("sentence") / "bert")


@pytest.fixture
def broken(bert, tmp_path):
    """A copy of the folder to break."""
    return shutil.copytree(bert, tmp_path / "broken")


def by_hand(folder, text):
    """Return last hidden states ``(T, D)`` and pooler output ``(D,)`` of a text alone."""
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        out = model(**AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt"))
    return out.last_hidden_state[0].numpy(), out.pooler_output[0].numpy()


def unit(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_poolings_are_what_their_names_say_in_a_padded_batch(tmp_path, kind):
    folder = make_bert(tmp_path / kind, kind)
    made = {p: SentenceEncoder(folder, p)(TEXTS) for p in ("pooled", "mean", "cls")}
    for i, text in enumerate(TEXTS):
        hidden, pooled = by_hand(folder, text)
        np.testing.assert_allclose(made["pooled"][i], unit(pooled), atol=1e-5)
        np.testing.assert_allclose(made["mean"][i], unit(hidden.mean(0)), atol=1e-5)
        np.testing.assert_allclose(made["cls"][i], unit(hidden[0]), atol=1e-5)
    assert np.array_equal(SentenceEncoder(folder)(TEXTS), made["pooled"])  # auto, as for LaBSE


@settings(max_examples=25)
@given(st.lists(st.lists(st.sampled_from(WORDS.split()), max_size=12), min_size=1, max_size=6))
def test_a_text_has_the_same_embedding_alone_and_in_any_batch(bert, texts):
    encoder = _cached(bert)
    joined = [" ".join(words) for words in texts]
    made = encoder(joined)
    np.testing.assert_allclose(made, encoder(joined[::-1])[::-1], atol=2e-6)
    np.testing.assert_allclose(made[:1], encoder(joined[:1]), atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)


_ENCODERS: dict = {}


def _cached(folder):
    return _ENCODERS.setdefault(folder, SentenceEncoder(folder, "mean"))


def test_the_network_stays_frozen(bert):
    encoder = SentenceEncoder(bert, "pooled")
    before = {k: v.clone() for k, v in encoder.model.state_dict().items()}
    first = encoder(TEXTS)
    torch.manual_seed(5)  # dropout would draw other numbers
    assert np.array_equal(first, encoder(TEXTS))
    assert not encoder.model.training
    assert not any(p.requires_grad for p in encoder.model.parameters())
    after = encoder.model.state_dict()
    assert all(torch.equal(v, after[k]) for k, v in before.items())


def test_longer_texts_are_cut_at_the_positions_that_the_model_has(tmp_path):
    for kind in ("bert", "roberta"):
        encoder = SentenceEncoder(make_bert(tmp_path / kind, kind), "mean")
        long = "chambre " * 99
        assert encoder([long]).shape == (1, 16)
        assert len(encoder._ids([long])[0]) == sentence_layout.max_tokens(encoder.model.config)
        assert sentence_layout.max_tokens(encoder.model.config) == {"bert": 24, "roberta": 23}[kind]


def test_the_fingerprint_is_of_weights_tokenizer_and_pooling_not_of_the_place(bert, broken):
    first = SentenceEncoder(bert, "pooled").fingerprint
    assert SentenceEncoder(broken, "pooled").fingerprint == first
    assert SentenceEncoder(broken, "mean").fingerprint != first
    seen = {first}
    for name in ("tokenizer.json", "config.json", "model.safetensors"):
        (broken / name).write_bytes((broken / name).read_bytes() + b" ")
        seen.add(SentenceEncoder(broken, "pooled").fingerprint)
    assert len(seen) == 4


def test_the_layout_of_sentence_transformers_decides_auto(bert, broken):
    """As sentence-transformers/LaBSE: first sub-word, dense layer with tanh, length 1."""
    from safetensors.torch import save_file

    sentence_layout.write(broken, 16)
    mean = SentenceEncoder(broken)(TEXTS)
    assert np.array_equal(mean, SentenceEncoder(bert, "mean")(TEXTS))

    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = [{"type": f"sentence_transformers.models.{k}", "path": f"{i}_{k}" * (i > 0)}
               for i, k in enumerate(kinds)]  # fmt: skip
    (broken / "modules.json").write_text(json.dumps(modules))
    modes = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (broken / "1_Pooling/config.json").write_text(json.dumps(modes))
    (broken / "2_Dense").mkdir()
    dense = {"linear.weight": torch.randn(8, 16), "linear.bias": torch.randn(8)}
    (broken / "2_Dense/config.json").write_text(
        json.dumps({"activation_function": "torch.nn.modules.activation.Tanh"})
    )
    with pytest.raises(DataError, match="no weights of the Dense module"):
        SentenceEncoder(broken)(TEXTS)
    torch.save(dense, broken / "2_Dense/pytorch_model.bin")
    pickled = SentenceEncoder(broken)(TEXTS)
    save_file(dense, broken / "2_Dense/model.safetensors")
    encoder = SentenceEncoder(broken)
    assert np.array_equal(encoder(TEXTS), pickled)
    hidden, _ = by_hand(bert, TEXTS[0])
    weight, bias = (v.numpy() for v in dense.values())
    np.testing.assert_allclose(
        encoder(TEXTS)[0], unit(np.tanh(weight @ hidden[0] + bias)), atol=1e-5
    )
    assert encoder.width == 8
    again = SentenceEncoder(broken, encoder.layout.name)  # as about.json of a store says
    assert again.fingerprint == encoder.fingerprint and again.layout == encoder.layout
    with pytest.raises(DataError, match="its Dense module"):
        SentenceEncoder(broken, "pooled")
    (broken / "modules.json").write_text(json.dumps([*modules, modules[2]]))
    with pytest.raises(DataError, match="a second module 'Dense' is not supported"):
        SentenceEncoder(broken)


def test_a_pickle_that_is_more_than_tensors_is_not_run(broken):
    sentence_layout.write(broken, 16)
    modules = json.loads((broken / "modules.json").read_text())
    modules.insert(2, {"type": "sentence_transformers.models.Dense", "path": "2_Dense"})
    (broken / "modules.json").write_text(json.dumps(modules))
    (broken / "2_Dense").mkdir()
    (broken / "2_Dense/config.json").write_text(json.dumps({"activation_function": "x.Identity"}))

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(broken / "harm"),)

    torch.save({"linear.weight": Harmful()}, broken / "2_Dense/pytorch_model.bin")
    with pytest.raises(DataError, match="no weights of the Dense module"):
        SentenceEncoder(broken)(TEXTS)
    assert not (broken / "harm").exists()


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no model.safetensors"),
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_at_once(broken, gone, words):
    (broken / gone).rename(broken / "pytorch_model.bin")
    with pytest.raises(DataError, match=words) as e:
        SentenceEncoder(broken)
    assert e.value.where == broken and "SENTENCE_ENCODER" in e.value.how
    assert "pickle are not read" in e.value.how


def test_weights_that_transformers_would_fill_at_random_are_refused(broken):
    drop_tensors(broken, r"pooler")
    with pytest.raises(DataError, match="no trained pooler") as e:
        SentenceEncoder(broken, "pooled")(TEXTS)
    assert "mean" in e.value.how
    SentenceEncoder(broken, "mean")(TEXTS)  # needs none
    drop_tensors(broken, r"layer\.1\.output\.dense")
    with pytest.raises(DataError, match=r"lack 2 tensors, e\.g\. encoder\.layer\.1"):
        SentenceEncoder(broken, "mean")(TEXTS)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "bartender"}', '{"a": 1}'])
def test_a_broken_configuration_names_the_folder(broken, content):
    (broken / "config.json").write_text(content)
    with pytest.raises(DataError, match="transformers cannot load it") as e:
        SentenceEncoder(broken)(TEXTS)
    assert e.value.where == broken and "\n" not in e.value.what and e.value.how


def test_models_of_another_kind_are_refused(broken):
    """A speech encoder has a vocabulary, too, and a folder of the same form."""
    import transformers as t

    small = {"num_heads": 1, "d_model": 8, "d_kv": 8, "d_ff": 8, "num_layers": 1}
    t.T5Model(t.T5Config(vocab_size=10, **small)).save_pretrained(broken)
    with pytest.raises(DataError, match="'t5' is not a text encoder"):
        SentenceEncoder(broken, "mean")(TEXTS)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    speech = t.Wav2Vec2Config(
        **small, intermediate_size=8, conv_dim=(8,), conv_kernel=(9,), conv_stride=(5,),
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    t.Wav2Vec2Model(speech).save_pretrained(broken)
    with pytest.raises(DataError, match="'wav2vec2' is not a text encoder"):
        SentenceEncoder(broken, "mean")(TEXTS)


def test_a_tokenizer_of_another_encoder_is_refused(broken, tmp_path):
    tokenizer = json.loads((broken / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["more"] = len(tokenizer["model"]["vocab"])
    (broken / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(DataError, match=r"knows \d+ sub-words, the model \d+"):
        SentenceEncoder(broken, "mean")(TEXTS)


def test_damaged_weights_are_told_with_the_text(broken):
    from safetensors.torch import load_file, save_file

    path = broken / "model.safetensors"
    tensors = load_file(path)
    tensors["embeddings.word_embeddings.weight"][5] = float("nan")  # "je"
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(DataError, match="'je voudrais"):
        SentenceEncoder(broken, "mean")(TEXTS)
    assert SentenceEncoder(broken, "mean")(TEXTS[1:]).shape == (3, 16)
    path.write_bytes(b"\0" * 20)
    with pytest.raises(DataError, match="cannot load it"):
        SentenceEncoder(broken, "mean")(TEXTS)


def test_an_unknown_name_without_network_tells_of_the_local_folder(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="'nobody/no-such-encoder' is not available") as e:
        SentenceEncoder("nobody/no-such-encoder")
    assert "SENTENCE_ENCODER=/path/to/" in e.value.how and e.value.where == "SENTENCE_ENCODER"
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_a_name_is_the_folder_that_the_hub_gives(bert, monkeypatch):
    import huggingface_hub

    asked = {}

    def download(name, allow_patterns):
        asked[name] = allow_patterns
        return str(bert)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    named, local = SentenceEncoder("setu4993/LaBSE"), SentenceEncoder(bert)
    assert named.fingerprint == local.fingerprint and named.layout.pooling == "pooled"
    assert np.array_equal(named(TEXTS), local(TEXTS))
    assert "*.safetensors" in asked["setu4993/LaBSE"] and "*.bin" not in asked["setu4993/LaBSE"]


def test_a_pooling_that_does_not_exist_names_the_nearest(bert):
    with pytest.raises(UsageError, match="'means'") as e:
        SentenceEncoder(bert, "means")
    assert "mean" in e.value.how


def test_the_variable_of_sentence_encoders_has_a_record_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEXT_ENCODER", "roberta-base")
    monkeypatch.delenv("SENTENCE_ENCODER", raising=False)
    assert encoder_source(SENTENCE) == ""
    SENTENCE.record.parent.mkdir()
    SENTENCE.record.write_text('{"settings": {"sentence_encoder": "setu4993/LaBSE"}}')
    assert encoder_source(SENTENCE) == "setu4993/LaBSE"
    monkeypatch.setenv("SENTENCE_ENCODER", "none")
    assert encoder_source(SENTENCE) == "" and encoder_source() == "roberta-base"
