# SPDX-License-Identifier: Apache-2.0
"""Both stages on a small encoder: the traps of SpokenCSE, each preset, each option."""

import itertools

import pytest
import torch

from espnet_ext import precision
from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl import contrastive as stage1
from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.network import ClassifyNetwork
from espnet_ext.ml_lmcl.options import PRESETS, resolve, resolve_trained
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.text.encoder import encode, text_mask
from espnet_ext.text.tokenizer import TextTokenizer, read_about

MANUAL = ["show me flights from boston to denver", "is it raining in dallas", "what does it cost"]
ASR = ["show me lights from austin to denver", "", "what does it cost"]
LABELS = torch.tensor([[0, 1], [2, 0], [1, 0]])
CLASSES = {"topic": 3, "act": 2}


def batch(tokenizer, texts):
    ids = [torch.from_numpy(tokenizer(t)) for t in texts]
    lengths = torch.tensor([len(i) for i in ids])
    return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-1), lengths


@pytest.fixture
def make(text_corpus):
    """Return ``make(stage, **section) -> (network, texts)``."""
    folder = str(text_corpus.root / "dump/text_encoder")
    tokenizer = TextTokenizer(folder)
    texts = {"manual": batch(tokenizer, MANUAL), "asr": batch(tokenizer, ASR)}

    def made(stage, **section):
        torch.manual_seed(0)
        conf = resolve(section)
        if stage == 1:
            return ContrastiveNetwork(conf, folder, read_about(folder)).eval(), texts
        return ClassifyNetwork(conf, folder, CLASSES, tokenizer.about.pad_id).eval(), texts

    return made


def store(network, utts=("a", "b", "c")):
    names = itertools.product(range(len(network.conf.views)), CLASSES)
    return TeacherStore(utts, {f"{n}.{h}": CLASSES[h] for n, h in names})


def test_last_layer_tells_texts_apart_and_embeddings_do_not(make):
    network, texts = make(1)
    ids, lengths = texts["manual"]
    mask = text_mask(ids, lengths)
    last = encode(network.encoder, ids, mask, 1, layer=-1)[:, 0]
    first = encode(network.encoder, ids, mask, 1, layer=0)[:, 0]
    assert torch.equal(first[0], first[1])  # trap 1: the same vector for every text
    assert not torch.allclose(last[0], last[1])


def test_padding_and_its_width_change_nothing(make):
    network, texts = make(2)
    ids, lengths = texts["manual"]
    alone = network.represent(ids[1:2, : lengths[1]], lengths[1:2])
    wide = torch.nn.functional.pad(ids, (0, 5), value=7)
    assert torch.allclose(network.represent(wide, lengths)[1:2], alone, atol=1e-5)


@pytest.mark.parametrize(
    ("mlm_text", "expected"), [("both", (3, 3)), ("asr", (0, 3)), ("manual", (3, 0))]
)
def test_masked_lm_sees_the_texts_it_is_told(make, monkeypatch, mlm_text, expected):
    """Trap 2, counted: which rows of the forward pass have something to guess."""
    network, texts = make(1, mlm_text=mlm_text, mask_ratio=1.0)
    seen = []
    plain = network._masked_lm

    def counting(states, targets):
        seen.append((targets > 0).any(1).sum().item())
        return plain(states, targets)

    monkeypatch.setattr(network, "_masked_lm", counting)
    network.loss(texts)
    empty = 1 if expected[1] else 0  # one ASR text is empty: nothing to guess
    assert seen == [sum(expected) - empty]


@pytest.mark.parametrize("masked", [False, True])
def test_contrastive_inputs_are_masked_only_on_demand(make, monkeypatch, masked):
    """Trap 3."""
    network, texts = make(1, mask_contrastive_inputs=masked, mask_ratio=1.0, lambda_pt=1.0)
    inputs = []
    plain = stage1.encode

    def spy(encoder, ids, *rest, **options):
        inputs.append(ids)
        return plain(encoder, ids, *rest, **options)

    monkeypatch.setattr(stage1, "encode", spy)
    before = texts["manual"][0].clone()
    network.loss(texts)
    assert (inputs[0] == network.about.mask_id).any().item() is masked
    assert torch.equal(texts["manual"][0], before)  # and the batch itself stays as it is


def test_terms_add_up_to_the_loss_of_stage_1(make):
    network, texts = make(1, lambda_pt=0.3, lambda_reg=0.7, distance="true")
    loss, t = network.loss(texts, torch.Generator().manual_seed(1))
    expected = 0.3 * (t["contrastive"] + 0.7 * t["polarization"]) + 0.7 * t["mlm"]
    assert torch.allclose(loss, expected)
    published, _ = make(1, preset="spokencse")
    loss, t = published.loss(texts)
    assert torch.allclose(loss, t["contrastive"] + t["mlm"]) and "polarization" not in t


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_learns_in_all_its_parameters(make, preset):
    network, texts = make(2, preset=preset)
    loss, terms = network.loss(network.views(texts), LABELS, 0.5, store(network), "abc")
    loss.backward()
    assert torch.isfinite(loss) and loss > 0
    idle = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {n for n in idle if "position" not in n and "key.bias" not in n}
    assert set(network.models) == ({"clean", "asr"} if preset == "ml_lmcl" else {"asr"})
    assert ("mutual" in terms) is (preset == "ml_lmcl")
    assert ("contrastive" in terms) is (preset in ("ml_lmcl", "spokencse", "spokencse_asis"))


def test_permuted_labels_of_the_first_head_leave_the_term_of_the_second(make):
    """Trap 4: published, the second head's term takes the labels of the first."""
    for fault in (False, True):
        section = {"first_head_labels": fault, "soft_positives": False}
        network, _ = make(2, preset="spokencse", **section)
        h = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [1.0, 1.0]])
        labels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
        swapped = torch.stack([labels[[2, 0, 1, 3], 0], labels[:, 1]], 1)
        own = [network._contrastive([(h, {})], x, None) for x in (labels, swapped)]
        network.classes = {"topic": 3}  # the first head's term alone
        first = [network._contrastive([(h, {})], x, None) for x in (labels, swapped)]
        of_second = [a - b for a, b in zip(own, first, strict=True)]
        assert torch.allclose(*of_second) is not fault


def test_a_teacher_that_says_the_same_teaches_nothing(make):
    """Trap 5: logits are stored, not probabilities; published, they are softened twice."""
    for teacher, zero in (("logits", True), ("published", False)):
        network, texts = make(2, teacher=teacher)
        views, teachers = network.views(texts), store(network)
        z = {f"{n}.{h}": of[h] * 9 for n, (_, of) in enumerate(views) for h in CLASSES}
        teachers.put("abc", z)
        views = [(h, {k: v * 9 for k, v in of.items()}) for h, of in views]
        _, terms = network.loss(views, LABELS, 1.0, teachers, "abc")
        assert (abs(terms["distillation"].item()) < 1e-5) is zero


def test_teachers_are_found_by_utterance_in_any_order():
    """Trap 14; an utterance without logits is taught by its label, or not at all."""
    teachers = TeacherStore(["a", "b", "c"], {"0.x": 4})
    z = torch.randn(2, 4)
    teachers.put(["c", "a"], {"0.x": z})
    labels = torch.tensor([3, 1, 2])
    rows, known = teachers.rows("0.x", ["a", "b", "c"], z, labels)
    assert torch.equal(rows[[2, 0]], z) and known.tolist() == [True, False, True]
    assert rows[1].tolist() == [0, 1, 0, 0]
    shuffled, _ = teachers.rows("0.x", ["c", "a", "b"], z, labels[[2, 0, 1]])
    assert torch.equal(shuffled, rows[[2, 0, 1]])
    rows, known = teachers.rows("0.x", ["a", "b", "c"], z)
    assert torch.equal(rows[[2, 0]], z) and not rows[1].any() and not known[1]


@pytest.mark.parametrize("teacher", ["logits", "published"])
def test_without_a_real_teacher_nothing_is_taught(make, teacher):
    """An utterance that was not predicted adds neither to L_d nor a soft positive to L_c."""
    section = {"preset": "spokencse", "teacher": teacher}
    network, texts = make(2, **section)
    views, teachers = network.views(texts), store(network)
    _, terms = network.loss(views, LABELS, 1.0, teachers, "abc")
    hard, _ = make(2, **section, soft_positives=False)
    _, expected = hard.loss(views, LABELS, 0.0)
    assert terms["distillation"] == 0 and terms["contrastive"] == expected["contrastive"]
    teachers.put("a", {f"0.{h}": torch.ones(1, c).cumsum(1) for h, c in CLASSES.items()})
    _, some = network.loss(views, LABELS, 1.0, teachers, "abc")
    assert some["distillation"] > 0 and some["contrastive"] == expected["contrastive"]
    by_label, _ = make(2, **section, first_teacher="one_hot")
    _, taught = by_label.loss(views, LABELS, 1.0, store(network), "abc")
    assert taught["distillation"] > some["distillation"]


def test_store_comes_back_from_its_file_and_refuses_other_data(tmp_path):
    teachers, again = (TeacherStore(["a", "b"], {"0.x": 3}) for _ in range(2))
    teachers.put(["b"], {"0.x": torch.randn(1, 3)})
    teachers.epoch = 4
    teachers.save(tmp_path / "t.pth")
    again.load(tmp_path / "t.pth")
    assert again.epoch == 4 and again.known.tolist() == [False, True]
    assert torch.equal(again.logits["0.x"], teachers.logits["0.x"])
    with pytest.raises(ValueError, match="other data"):
        TeacherStore(["a", "b"], {"0.x": 2}).load(tmp_path / "t.pth")


def test_posteriors_average_both_models(make):
    network, texts = make(2)
    p = {w: network.posteriors(*texts["asr"], w)["topic"] for w in ("clean", "asr", "average")}
    assert torch.allclose(p["average"], (p["clean"] + p["asr"]) / 2)
    assert torch.allclose(p["asr"].sum(1), torch.ones(3)) and not torch.allclose(
        *list(p.values())[:2]
    )


def test_bfloat16_is_near_float32(make):
    full, texts = make(2)
    half, _ = make(2, precision="bfloat16")
    a, b = (n.posteriors(*texts["asr"])["topic"] for n in (full, half))
    assert torch.allclose(a, b, atol=0.02) and not torch.equal(a, b) and b.dtype == torch.float32


@pytest.mark.parametrize("has", [False, True])
def test_auto_is_the_precision_that_is_faster_here(make, monkeypatch, has):
    """Emulated bfloat16 takes many times as long as float32, so a recipe must not ask for it."""
    monkeypatch.setattr(precision, "has_bfloat16", lambda device: has)
    same, texts = make(2, precision="bfloat16" if has else "float32")
    auto, _ = make(2, precision="auto")
    a, b = (n.posteriors(*texts["asr"])["topic"] for n in (same, auto))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"preset": "ce_as"}, "ce_asr"),
        ({"preset": "roberta_asr"}, "renamed.*write ce_asr"),
        ({"preset": "roberta_manual"}, "renamed.*write ce_manual"),
        ({"alfa": 1}, "alpha"),
        ({"alpha": -1}, "0 or more"),
        ({"lambda_pt": 2}, "from 0 to 1"),
        ({"tau_c": 0}, "above 0"),
        ({"d_low": 0.6}, "d_low < d_high"),
        ({"mutual": "kl"}, "kl_clean_to_asr"),
        ({"preset": "pooled", "inference_model": "clean"}, "one classifier"),
        ({"train_text": "asr"}, "two classifiers"),
        ({"mask_ratio": 0}, "above 0"),
        ({"gamma_period": 1}, "2 updates or more"),
        ({"contrastive_layer": 7}, "the last"),
        ({"first_teacher": "label"}, "first_teacher"),
        ({"contrastive_reduction": "mean"}, "positives"),
        ({"reg_reduction": "none"}, "reg_reduction"),
    ],
)
def test_impossible_options_are_named(section, words):
    with pytest.raises(UsageError, match=f"(?s){words}"):
        resolve(section)


def test_a_model_trained_under_an_old_name_of_its_preset_is_read():
    assert resolve_trained({"preset": "roberta_asr"}) == resolve({"preset": "ce_asr"})
    with pytest.raises(UsageError, match="no preset"):
        resolve_trained({"preset": "roberta"})


def test_a_batch_of_unknown_labels_has_no_error_and_no_gradient(make):
    network, texts = make(2, preset="ce_asr")
    loss, _ = network.loss(network.views(texts), torch.full((3, 2), -1), 0.0)
    loss.backward()
    assert loss == 0 and all(not p.grad.any() for p in network.models["asr"].heads.parameters())


def test_processes_exchange_fresh_rows_only(monkeypatch):
    """Two processes: an utterance that the other one has put anew is not mixed with the old row."""
    stores = [TeacherStore(["a", "b"], {"0.x": 2}) for _ in range(2)]
    for s in stores:
        s.put(["a", "b"], {"0.x": torch.zeros(2, 2)})
        s.fresh.zero_()
    new = torch.tensor([[20.0, 4.0]])
    stores[0].put(["a"], {"0.x": new})
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    for s, other in ((stores[1], stores[0]), (stores[0], None)):
        summands = iter([stores[0].fresh.float(), torch.cat([new, torch.zeros(1, 2)])])

        def all_reduce(tensor, other=other, summands=summands):
            added = next(summands)
            tensor.add_(added if other is not None else 0.0)

        monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
        s.gather("cpu")
        assert s.logits["0.x"].tolist() == [[20.0, 4.0], [0.0, 0.0]] and not s.fresh.any()


@pytest.mark.parametrize("known", [False, True], ids=["labels teach", "logits teach"])
def test_spokencse_as_published_from_its_described_parts(make, known):
    """CE + 10 KL(softmax(p / 5) || softmax(z / 5)) 25 + 0.1 sum_ij w_ij l_ij / N, by loops."""
    network, texts = make(2, preset="spokencse_asis")
    network.classes = {"topic": 3}
    [(h, z)], labels = network.views(texts), LABELS[:, :1]
    teachers = store(network)
    p = torch.nn.functional.one_hot(labels[:, 0], 3).float()
    if known:
        logits = torch.tensor([[2.0, 0.0, 1.0], [0.5, 1.5, -1.0], [0.0, 3.0, 0.2]])
        teachers.put("abc", {"0.topic": logits})
        p = logits.softmax(-1)
    loss, _ = network.loss([(h, z)], labels, network.conf.gamma_weight, teachers, "abc")
    z, n = z["topic"], len(h)
    log_p = z.log_softmax(-1)
    expected = -sum(log_p[i, labels[i, 0]] for i in range(n)) / n
    soft, log_soft = (p / 5).softmax(-1), (z / 5).log_softmax(-1)
    expected += 10 * 25 / n * (soft * (soft.log() - log_soft)).sum()
    unit = h / h.norm(dim=1, keepdim=True)
    like = torch.exp(unit @ unit.T / 0.2)
    for i, j in itertools.product(range(n), repeat=2):
        weight = float(i != j and labels[i, 0] == labels[j, 0]) + 10 * (p[i] @ p[j])
        others = sum(like[i, k] for k in range(n) if k != i)
        expected = expected - 0.1 / n * weight * torch.log(like[i, j] / others)
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_names_that_yaml_reads_as_something_else():
    conf = resolve({"stage1": None, "distance": True, "first_teacher": None})
    assert (conf.stage1, conf.distance, conf.first_teacher) == ("none", "true", "none")
    assert resolve({"reg_reduction": None}).reg_reduction is None


def test_spokencse_as_published_keeps_its_first_teacher_and_its_sum():
    published, corrected = (resolve({"preset": p}) for p in ("spokencse_asis", "spokencse"))
    assert (published.first_teacher, published.contrastive_reduction) == ("one_hot", "sum")
    assert (corrected.first_teacher, corrected.contrastive_reduction) == ("none", "positives")
