# SPDX-License-Identifier: Apache-2.0
"""Each kind of label has a linear layer of its own; models of before are read."""

import torch

from espnet_ext.ml_lmcl.network import ClassifyNetwork
from espnet_ext.ml_lmcl.options import resolve
from espnet_ext.text.tokenizer import read_about

CLASSES = {"scenario": 3, "action": 2}


def network(text_corpus, seed):
    folder = str(text_corpus.root / "dump/text_encoder")
    torch.manual_seed(seed)
    conf = resolve({"preset": "ce_asr"})
    return ClassifyNetwork(conf, folder, CLASSES, read_about(folder).pad_id).eval()


def test_one_head_does_not_train_the_layer_of_the_other(text_corpus):
    model = network(text_corpus, 0).models["asr"]
    model.logits(torch.randn(4, model.encoder.config.hidden_size))["action"].sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {n.split(".")[1] for n in trained} == {"action"}


def test_a_model_whose_heads_share_a_layer_is_read(text_corpus):
    old, new = network(text_corpus, 1), network(text_corpus, 2)
    one = old.models["asr"].linears["scenario"]
    state = {k: v for k, v in old.state_dict().items() if ".linears." not in k}
    state |= {f"models.asr.linear.{k}": v for k, v in one.state_dict().items()}
    new.load_state_dict(state)  # strict
    h = torch.randn(4, old.models["asr"].encoder.config.hidden_size)
    for head, z in new.models["asr"].logits(h).items():
        assert torch.equal(z, old.models["asr"].heads[head](one(h)))
