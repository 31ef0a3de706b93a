# SPDX-License-Identifier: Apache-2.0
"""Frozen layers: the same loss as without their memory, nothing that moves, names that stay."""

import pytest
import torch

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl import frozen as frozen_module
from espnet_ext.ml_lmcl.attention import fit_attention
from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.first_token import has_form
from espnet_ext.ml_lmcl.frozen import FrozenLayers
from espnet_ext.ml_lmcl.network import ClassifyNetwork
from espnet_ext.ml_lmcl.options import resolve
from espnet_ext.text.encoder import autocast, build_encoder, encode, text_mask
from espnet_ext.text.tokenizer import TextTokenizer, read_about

MANUAL = ["show me flights from boston to denver", "is it raining in dallas", "what does it cost"]
ASR = ["show me lights from austin to denver", "", "what does it cost"]
LABELS = torch.tensor([[0, 1], [2, 0], [1, 0]])
CLASSES = {"topic": 3, "act": 2}
LAYERS = 2  # of the corpus' encoder


def pad(rows):
    lengths = torch.tensor([len(r) for r in rows])
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1), lengths


@pytest.fixture(scope="module")
def folder(text_corpus):
    return str(text_corpus.root / "dump/text_encoder")


@pytest.fixture(scope="module")
def texts(folder):
    tokenizer = TextTokenizer(folder)
    both = {"manual": MANUAL, "asr": ASR}
    return {k: pad([torch.from_numpy(tokenizer(t)) for t in v]) for k, v in both.items()}


@pytest.fixture
def make(folder):
    def made(stage, **section):
        torch.manual_seed(0)
        conf, about = resolve(section), read_about(folder)
        if stage == 1:
            network = ContrastiveNetwork(conf, folder, about)
        else:
            network = ClassifyNetwork(conf, folder, CLASSES, about.pad_id)
        for module in network.modules():  # dropout off, and the networks in training mode
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        return network.train()

    return made


def trained(network):
    return {n for n, p in network.named_parameters() if p.requires_grad}


def loss_of(network, texts):
    if isinstance(network, ContrastiveNetwork):
        return network.loss(texts, torch.Generator().manual_seed(1))[0]
    return network.loss(network.views(texts), LABELS, 0.0)[0]


@pytest.mark.parametrize("count", [1, LAYERS])
def test_stage_2_has_the_same_loss_and_gradients_as_without_memory(make, texts, count):
    """Exactly: first computed, then remembered; and as the encoder in one piece up to rounding."""
    network, whole = make(2, freeze_layers=count), make(2)
    none = make(2, freeze_layers=count, frozen_cache_mb=0)
    assert network.state_dict().keys() == whole.state_dict().keys()
    assert all(torch.equal(whole.state_dict()[n], p) for n, p in network.state_dict().items())
    losses, grads = [], []
    for net in (network, network, none, whole):
        net.zero_grad()
        loss = loss_of(net, texts)
        loss.backward()
        losses.append(loss.detach())
        grads.append({n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None})
    for other, grad in zip(losses[1:3], grads[1:3], strict=True):
        assert torch.equal(other, losses[0]) and grad.keys() == grads[0].keys()
        assert all(torch.equal(grad[n], grads[0][n]) for n in grad)
    assert torch.allclose(losses[3], losses[0], rtol=1e-5)
    assert all(torch.allclose(grads[3][n], grads[0][n], rtol=1e-3, atol=1e-6) for n in grads[0])
    assert grads[0].keys() == trained(network)
    kinds = {n.split(".")[2] for n in trained(network)}
    assert kinds == ({"linears", "heads"} if count == LAYERS else {"encoder", "linears", "heads"})
    assert not none.models["asr"].frozen.known and "raise" in str(none.models["asr"].frozen)


def test_stage_1_remembers_the_pairs_and_not_their_masked_copies(make, texts):
    network, whole = make(1, freeze_layers=1), make(1)
    assert network.state_dict().keys() == whole.state_dict().keys()
    losses = [loss_of(net, texts) for net in (network, network, whole)]
    assert torch.equal(losses[0], losses[1]) and torch.allclose(losses[0], losses[2], rtol=1e-5)
    assert len(network.frozen.known) == len({*MANUAL, *ASR})  # one text is in both
    network.eval()
    loss_of(network, texts)  # in validation the masks are the same ones each time
    assert len(network.frozen.known) > len({*MANUAL, *ASR})
    losses[1].backward()
    assert network.lm_head.dense.weight.grad.any() and trained(network) < trained(whole)
    assert not any("embeddings" in n or "layer.0" in n for n in trained(network))


@pytest.mark.parametrize("stage", [1, 2])
def test_the_first_token_alone_gives_what_the_whole_layer_gives(make, texts, monkeypatch, stage):
    """Losses and gradients; an encoder whose layers have other parts runs them whole."""
    section = {"freeze_layers": 1, "lambda_pt": 1.0}
    short = make(stage, **section)
    monkeypatch.setattr(frozen_module, "has_form", lambda *_: False)
    whole = make(stage, **section)
    monkeypatch.setattr(frozen_module, "first_token", None)  # nor is it called there
    losses = [loss_of(whole, texts)]
    monkeypatch.undo()
    losses.append(loss_of(short, texts))
    assert torch.allclose(*losses, rtol=1e-5)
    for loss in losses:
        loss.backward()
    grads = [{n: p.grad for n, p in net.named_parameters() if p.grad is not None}
             for net in (whole, short)]  # fmt: skip
    assert grads[0].keys() == grads[1].keys()
    assert all(torch.allclose(g, grads[1][n], rtol=1e-3, atol=1e-6) for n, g in grads[0].items())


def test_parts_of_another_form_are_noticed(folder):
    layer = build_encoder(folder, True).encoder.layer[-1]
    width = layer.output.dense.out_features
    assert has_form(layer, width)
    layer.attention.self.query.register_forward_hook(lambda m, i, out: out * 2)
    assert has_form(layer, width)  # whatever the weights are
    layer.output.register_forward_hook(lambda m, i, out: out + i[1].mean(1, keepdim=True))
    assert not has_form(layer, width)
    del layer.attention.self.dropout
    assert not has_form(layer, width)


def test_masked_pairs_and_the_embedding_layer_of_spokencse_work_frozen(make, texts):
    network, whole = (make(1, preset="spokencse_asis", freeze_layers=n) for n in (1, 0))
    whole.load_state_dict(network.state_dict())
    losses = [loss_of(net, texts) for net in (network, whole)]
    losses[0].backward()
    assert torch.allclose(*losses, rtol=1e-5) and not network.frozen.known


def test_a_text_is_computed_once_whatever_its_batch_and_the_rest_again(make, texts, monkeypatch):
    network, counts = make(2, freeze_layers=1), []
    plain = FrozenLayers._compute

    def counting(self, ids, mask, rows):
        counts.append(len(rows))
        return plain(self, ids, mask, rows)

    monkeypatch.setattr(frozen_module.FrozenLayers, "_compute", counting)
    network.fill(texts)
    assert counts == [3, 3]
    ids, lengths = texts["manual"]
    wide = torch.nn.functional.pad(ids.flip(0), (0, 4), value=7)
    again = network.models["clean"].represent(wide, lengths.flip(0)).flip(0)
    assert counts[2:] == [0]
    assert torch.allclose(again, network.models["clean"].represent(ids, lengths), atol=1e-6)
    assert "3 texts is kept" in str(network.models["clean"].frozen)


def test_teachers_that_were_predicted_leave_states_that_updates_can_use(make, texts):
    network = make(2, freeze_layers=1)
    with torch.inference_mode():
        network.views(texts)
    loss_of(network, texts).backward()


def test_dropout_is_off_below_and_on_above(folder, texts):
    torch.manual_seed(0)
    conf = resolve({"freeze_layers": 1})
    network = ClassifyNetwork(conf, folder, CLASSES, read_about(folder).pad_id).eval().train()
    model, (ids, lengths) = network.models["asr"], texts["asr"]
    lower = [model.frozen.lower(ids, text_mask(ids, lengths), keep=False) for _ in range(2)]
    assert torch.equal(*lower)
    assert not torch.equal(model.represent(ids, lengths), model.represent(ids, lengths))


def test_other_weights_empty_the_memory(make, texts):
    network, other = make(2, freeze_layers=1), make(2)
    network.views(texts)
    with torch.no_grad():
        for p in other.parameters():
            p.mul_(1.5)
    network.load_state_dict(other.state_dict())
    assert torch.allclose(loss_of(network, texts), loss_of(other, texts), rtol=1e-5)


def test_the_memory_is_bounded(make, texts):
    network = make(2, freeze_layers=1, frozen_cache_mb=2e-3)
    network.fill(texts)
    sizes = [m.frozen.used for m in network.models.values()]
    assert all(0 < s <= 1000 for s in sizes)  # half each
    assert "is computed each time" in str(network.models["asr"].frozen)


@pytest.mark.parametrize("preset", ["spokencse_asis", "ml_lmcl"])
def test_more_layers_than_there_are(make, preset):
    for stage in (1, 2):
        with pytest.raises(UsageError, match="3 layers of an encoder that has 2"):
            make(stage, preset=preset, freeze_layers=3)
    with pytest.raises(UsageError, match="stage1=none"):
        make(1, preset=preset, freeze_layers=LAYERS)
    assert make(2, preset=preset, freeze_layers=LAYERS)


def test_masked_lm_training_tells_it_before_and_freezes_nothing(folder):
    about = read_about(folder)
    network = ContrastiveNetwork(resolve({"freeze_layers": 1}), folder, about, contrastive=False)
    assert network.frozen is None and all(p.requires_grad for p in network.parameters())
    with pytest.raises(UsageError, match="3 layers"):
        ContrastiveNetwork(resolve({"freeze_layers": 3}), folder, about, contrastive=False)


def test_an_encoder_whose_layers_say_something_else_one_by_one_is_refused(folder):
    encoder = build_encoder(folder, True)
    encoder.encoder.forward = lambda *a, **k: pytest.fail("replaced") if not a else _Out(a[0] * 2)
    with pytest.raises(UsageError, match="cannot be run one by one"):
        FrozenLayers(encoder, 1, 1)


class _Out:
    past_key_values = None

    def __init__(self, states):
        self.last_hidden_state = states


def test_a_trained_model_is_loaded_with_nothing_frozen(folder, make):
    conf, pad_id = resolve({"freeze_layers": 1}), read_about(folder).pad_id
    network = ClassifyNetwork(conf, folder, CLASSES, pad_id, weights=False)
    network.load_state_dict(make(2, freeze_layers=1).state_dict())
    assert all(m.frozen is None for m in network.models.values())


def test_plain_attention_in_half_precision_on_a_cpu_alone(folder, texts):
    """The same states up to rounding, and what was built comes back in full precision."""
    encoder = build_encoder(folder, True).eval()
    ids, mask = texts["manual"][0], text_mask(*texts["manual"])
    built, states = encoder.config._attn_implementation, []
    for precision in ("float32", "bfloat16"):
        with autocast(precision, ids):
            states.append(encode(encoder, ids, mask, 1)[mask])
            fit_attention(encoder)
            states.append(encode(encoder, ids, mask, 1)[mask])
        now = encoder.config._attn_implementation
        assert now == ("eager" if precision == "bfloat16" else built)
    fit_attention(encoder)
    assert encoder.config._attn_implementation == built
    assert torch.equal(*states[:2]) and torch.allclose(*states[2:], atol=0.03)
