# SPDX-License-Identifier: Apache-2.0
"""A batch that is encoded in parts of similar length is the same batch."""

import pytest
import torch

from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.network import ClassifyNetwork
from espnet_ext.ml_lmcl.options import resolve
from espnet_ext.text.encoder import encode, text_mask
from espnet_ext.text.tokenizer import TextTokenizer, read_about

TEXTS = {
    "manual": [
        "show me flights from boston to denver",
        "is it raining in dallas",
        "what does it cost",
    ],
    "asr": ["show me lights from austin to denver", "", "what is it"],
}


def padded(texts):
    return torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=-1)


@pytest.fixture
def make(text_corpus):
    """Return ``make(stage, **section) -> (network, texts)``."""
    folder = str(text_corpus.root / "dump/text_encoder")
    tokenizer, about, texts = TextTokenizer(folder), read_about(folder), {}
    for kind, sentences in TEXTS.items():
        ids = [torch.from_numpy(tokenizer(t)) for t in sentences]
        texts[kind] = padded(ids), torch.tensor([len(i) for i in ids])

    def made(stage, **section):
        torch.manual_seed(0)
        conf = resolve(section)
        if stage == 1:
            return ContrastiveNetwork(conf, folder, about).eval(), texts
        return ClassifyNetwork(conf, folder, {"topic": 3}, about.pad_id).eval(), texts

    return made


@pytest.mark.parametrize("groups", [2, 3, 9])
def test_groups_of_length_change_no_state_and_no_gradient(make, groups):
    network, texts = make(2)
    encoder = network.models["asr"].encoder
    for kind in ("manual", "asr"):
        ids, lengths = texts[kind]
        mask, found = text_mask(ids, lengths), []
        for count in (1, groups):
            encoder.zero_grad()
            states = encode(encoder, ids, mask, 1, groups=count)
            states[mask].square().sum().backward()
            found.append((states[mask], encoder.embeddings.word_embeddings.weight.grad.clone()))
        for one, other in zip(*found, strict=True):
            # Sums in another order, which differ by processor.
            torch.testing.assert_close(one, other, rtol=1e-4, atol=5e-5)


def test_training_computes_less_padding_in_groups(make):
    network, texts = make(2, length_groups=3)
    encoder, seen = network.models["asr"].encoder, []
    encoder.register_forward_pre_hook(
        lambda m, a, kw: seen.append(kw["attention_mask"].numel()), with_kwargs=True
    )
    for train in (True, False):
        seen.clear()
        network.train(train).views(texts)
        ids, lengths = texts["asr"]
        assert sum(seen) == (int(lengths.sum()) if train else ids.numel())


def test_stage_1_in_groups_is_stage_1(make):
    """Without dropout; the masks are those of the same generator."""
    losses = []
    for count in (1, 4):
        network, texts = make(1, length_groups=count)
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        losses.append(network.loss(texts, torch.Generator().manual_seed(3))[0])
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)
