# SPDX-License-Identifier: Apache-2.0
"""The confusion model: alignment by sound, target error rates, determinism, its file."""

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.errors import DataError, UsageError
from espnet_ext.ml_lmcl.simulate.alignment import GAP, align
from espnet_ext.ml_lmcl.simulate.clustering import fit
from espnet_ext.ml_lmcl.simulate.confusion import ConfusionModel
from espnet_ext.ml_lmcl.simulate.estimate import estimate
from espnet_ext.ml_lmcl.simulate.fluency import START, Bigrams, count_bigrams
from espnet_ext.ml_lmcl.simulate.generate import Simulator, make_degraded, measure
from espnet_ext.ml_lmcl.simulate.phones import Inventory, PhoneTable, converter, same_converter

LETTERS = ("letters", lambda words: {})
CITIES = ("boston", "denver", "dallas", "atlanta", "oakland", "phoenix")
WRONG = {"boston": "austin", "denver": "den fer", "flights": "lights", "to": "", "a": "the"}


def corpus(n, seed=0, rate=0.4):
    """Return n pairs; the words of WRONG are misheard in bad utterances."""
    rng, manual, asr = random.Random(seed), {}, {}
    for i in range(n):
        words = (
            f"show me a list of flights from {rng.choice(CITIES)} to {rng.choice(CITIES)}".split()
        )
        level = rng.choice((0.2, 1.8)) * rate
        heard = [WRONG.get(w, w) if rng.random() < level else w for w in words]
        heard += ["now"] * (rng.random() < 0.1)
        manual[f"u{i:04d}"] = " ".join(words)
        asr[f"u{i:04d}"] = " ".join(" ".join(heard).split())
    return manual, asr


@pytest.fixture(scope="module")
def model():
    return estimate(*corpus(300), LETTERS)


@pytest.fixture(scope="module")
def text():
    return corpus(80, seed=5)[0]


SPOKEN = {
    "francisco": "F R AE N S IH S K OW",
    "fran": "F R AE N",
    "sis": "S IH S",
    "go": "K OW",
    "salt": "S AO L T",
    "lake": "L EY K",
    "saltlick": "S AO L T L IH K",
}
PHONES = PhoneTable("lexicon", {w: p.split() for w, p in SPOKEN.items()})


def blocks(ref, hyp, table=PHONES):
    found = align(ref.split(), hyp.split(), table)
    return [(" ".join(ref.split()[b.start : b.end]), " ".join(b.hyp)) for b in found]


def test_splits_and_merges_by_sound_are_one_block():
    assert blocks("in francisco now", "in fran sis go now") == [
        ("in", "in"), ("francisco", "fran sis go"), ("now", "now"),
    ]  # fmt: skip
    assert blocks("salt lake", "saltlick") == [("salt lake", "saltlick")]
    # Sounds nothing like it: not a split but words of their own.
    assert ("francisco", "xx yy zz") not in blocks("in francisco", "in xx yy zz")


@given(st.lists(st.sampled_from("abcd"), max_size=6), st.lists(st.sampled_from("abcd"), max_size=6))
def test_an_alignment_covers_both_sides_once(ref, hyp):
    found = align(ref, hyp, PhoneTable("letters", {}))
    assert [i for b in found for i in range(b.start, b.end)] == list(range(len(ref)))
    assert [w for b in found for w in b.hyp] == hyp
    assert all(b.equal == (ref[b.start : b.end] == list(b.hyp)) for b in found)
    # One letter each: a substitution costs 1, a gap 0.7, so this bounds the gaps.
    gaps = sum(b.start == b.end or not b.hyp for b in found)
    assert gaps * GAP <= max(len(ref), len(hyp)) + 1e-9


def test_distances_of_many_are_those_of_one():
    words = ["francisco", "fran", "salt lake", "saltlick", "unknown", "salt unknown", "7"]
    many = Inventory(PHONES, words).distances(words)
    one = [[PHONES.distance(a, b) for b in words] for a in words]
    np.testing.assert_allclose(many, one, atol=1e-6)
    assert PHONES.distance("salt lake", "saltlick") == pytest.approx(1 / 7)


def test_counts(model):
    manual, asr = corpus(300)
    wrong = sum("to" not in t.split() for t in asr.values())
    # Where "to boston" or "from to" was replaced as one, the second word is not met.
    behind = sum(row.total() for source, row in model.events.items() if source.endswith(" to"))
    assert model.words["to"][0] == len(manual) - behind
    assert model.words["to"][1] == wrong - behind > 50
    assert model.events["to"].keys() == {""}
    assert set(model.events["boston"]) == {"austin"}
    assert model.events["denver"]["den fer"] > 10
    assert "show" not in model.events
    assert model.insertions.keys() == {"now"}
    assert model.clustering.shape < 8  # errors come together in bad utterances


@pytest.mark.parametrize("wer", [0.0, 5.0, 10.0, 30.0])
def test_target_is_reached_and_measured(model, text, wer):
    found = Simulator(model, text).reach(wer)
    assert found.score.rate == pytest.approx(wer, abs=0.5)
    assert found.score.rate == measure(text, found.texts).rate
    assert found.texts.keys() == text.keys()


def test_errors_are_those_of_the_pairs(model, text):
    found = Simulator(model, text).reach(15.0).texts
    said = " ".join(found.values()).split()
    assert said.count("austin") > 5 and said.count("fer") > 5 and "now" in said
    assert said.count("show") > 0.8 * len(text)  # never wrong in the pairs
    assert said.count("to") < 0.8 * len(text)


def test_equal_seeds_give_equal_text_in_any_order(model, text):
    first = Simulator(model, text, 3).reach(20.0).texts
    turned = dict(reversed(text.items()))
    assert Simulator(model, turned, 3).reach(20.0).texts == first
    assert Simulator(model, text, 4).reach(20.0).texts != first
    # At an equal scale an utterance's text does not depend on the others.
    some = dict(list(text.items())[:7])
    whole = Simulator(model, text, 3).at(1.0)
    assert Simulator(model, some, 3).at(1.0) == {u: whole[u] for u in some}


def test_degraded_sets_add_errors_and_touch_no_input(model, text):
    before, plain = dict(text), model.table.phones.copy()
    sets = make_degraded(model, text, [10.0, 30.0], seed=2)
    assert text == before and model.table.phones == plain
    rates = {wer: measure(text, texts) for wer, texts in sets.items()}
    assert [s.rate for s in rates.values()] == pytest.approx([10.0, 30.0], abs=0.5)
    assert (rates[10.0].errors <= rates[30.0].errors).mean() > 0.9


def test_unseen_words_become_words_of_similar_sound(model):
    table = dict.fromkeys((f"x{i}" for i in range(60)), "bostan dallus oaklend phenix atlunta")
    said = " ".join(Simulator(model, table).reach(40.0).texts.values()).split()
    other = [w for w in said if w not in table["x0"]]
    assert set(other) & {"boston", "dallas", "oakland", "phoenix", "atlanta"}
    assert set(other) <= {w for v in model.vocabulary for w in v.split()}


def test_empty_text_stays_empty_and_blank_output_is_modelled(text):
    manual, asr = corpus(200)
    for utt in list(asr)[:60]:
        asr[utt] = ""
    model = estimate(manual, asr, LETTERS)
    assert model.blank == [200, 60]
    found = Simulator(model, text | {"void": ""}).at(1.0)
    assert found["void"] == ""
    assert 5 <= sum(not t for t in found.values()) <= 50


def test_out_of_reach_names_the_range(text):
    manual, _ = corpus(50)
    perfect = estimate(manual, manual, LETTERS)
    assert Simulator(perfect, text).reach(0.0).texts == text
    for wer in (10.0, -1.0, float("nan")):
        with pytest.raises(UsageError, match=r"reach 0 to 0\.0 %"):
            Simulator(perfect, text).reach(wer)


def test_pairs_that_cannot_be_used():
    with pytest.raises(DataError, match="b, c"):
        estimate({"a": "x", "b": "y", "c": "z"}, {"a": "x"}, LETTERS)
    with pytest.raises(DataError, match="no manual transcript"):
        estimate({"a": "x"}, {"a": "x", "d": "y"}, LETTERS)
    with pytest.raises(DataError, match="no pair"):
        estimate({"a": "x"}, {"a": ""}, LETTERS)
    with pytest.raises(DataError, match="no words"):
        Simulator(estimate({"a": "x"}, {"a": "y"}, LETTERS), {"a": " "})


@settings(max_examples=15)
@given(
    st.lists(st.tuples(*[st.text(alphabet="abßé'7 \n", max_size=12)] * 2), min_size=1, max_size=6)
)
def test_a_saved_model_makes_the_same_text(tmp_path_factory, pairs):
    manual = {f"u{i}": m for i, (m, _) in enumerate(pairs)} | {"v": "ab a b"}
    asr = {f"u{i}": a for i, (_, a) in enumerate(pairs)} | {"v": "ab b"}
    model = estimate(manual, asr, LETTERS)
    path = tmp_path_factory.mktemp("model") / "m.json"
    model.save(path)
    loaded = ConfusionModel.load(path)
    for scale in (0.3, 1.0, 5.0):
        assert Simulator(loaded, manual).at(scale) == Simulator(model, manual).at(scale)
    loaded.save(path.with_name("n.json"))
    assert path.with_name("n.json").read_bytes() == path.read_bytes()


def test_a_saved_model_keeps_the_order_of_equal_counts(tmp_path):
    manual = {f"u{i}": f"{99 - i}a b c" for i in range(90)}  # its words in another order than
    asr = {f"u{i}": f"{99 - i}a b x{i}x c" for i in range(90)}  # the words inserted, each once
    model = estimate(manual, asr, LETTERS)
    assert set(model.insertions.values()) == {1} and len(model.insertions) == 90
    model.save(tmp_path / "m.json")
    loaded = ConfusionModel.load(tmp_path / "m.json")
    assert Simulator(loaded, manual).at(1.0) == Simulator(model, manual).at(1.0)


def change(**parts):
    return lambda got: got | parts


@pytest.mark.parametrize(
    "spoil",
    [
        change(version=2),
        change(format="other"),
        change(words={"a": [1, 2]}),
        change(words={"a": [1.5, 0]}),
        change(events={"a": {"b": 0}}),
        change(blank=[1]),
        change(sound={"word": [0.5, 1.0, 0.0]}),
        change(clustering={"shape": 0.0, "mean": 1.0, "burst": 1.0}),
        change(table={"source": "guess", "phones": {}}),
        change(fluency=-1.0),
        change(normalize="upper"),
        lambda got: {k: v for k, v in got.items() if k != "after"},
        lambda got: [got],
    ],
)
def test_a_spoilt_file_is_refused(model, tmp_path, spoil):
    path = tmp_path / "m.json"
    model.save(path)
    path.write_text(json.dumps(spoil(json.loads(path.read_text()))))
    with pytest.raises(DataError) as e:
        ConfusionModel.load(path)
    assert e.value.where == path


def test_a_missing_or_cut_file_is_refused(model, tmp_path):
    path = tmp_path / "m.json"
    with pytest.raises(DataError):
        ConfusionModel.load(path)
    model.save(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError):
        ConfusionModel.load(path)


def test_clustering_is_found_again():
    rng = np.random.default_rng(0)
    utterance = np.repeat(np.arange(1500), 10)
    hazard = rng.uniform(0.1, 0.5, len(utterance))
    level = rng.gamma(0.7, 1 / 0.7, 1500)
    after, error = np.zeros((2, len(utterance)), bool)
    for i in range(len(utterance)):
        after[i] = i % 10 > 0 and error[i - 1]
        rate = level[utterance[i]] * hazard[i] * (2.0 if after[i] else 1.0)
        error[i] = rng.random() < 1 - np.exp(-rate)
    found = fit(utterance, hazard, after, error)
    assert 0.5 <= found.shape <= 1.0 and 1.5 <= found.burst <= 2.5 and 0.8 <= found.mean <= 1.2


def test_bigrams_prefer_what_was_written_together():
    bigrams = Bigrams(count_bigrams([["new", "york"]] * 20 + [["old", "yard"]] * 20))
    assert bigrams.pmi("new", "york") > 0 > bigrams.pmi("new", "yard")
    assert bigrams.pmi("never", "york") == bigrams.pmi("new", "never") == 0.0
    assert bigrams.fit(START, "new york", "</s>") > bigrams.fit(START, "york new", "</s>")
    assert bigrams.pmi("new", "york", seen=20) == 0.0


def test_espeak_gives_each_word_its_own_phones():
    pytest.importorskip("espeakng_loader")
    from espnet_ext.data.synth.espeak import Espeak

    source, convert = converter()
    words = ["francisco", "7", "o'clock", "a", "the", "--", "st."]
    found = convert(words)
    assert source == "espeak en-us" and found.keys() == set(words) - {"--"}
    alone = [p.label for p in Espeak().synthesize("the", rate_wpm=400).phones if p.label != "SIL"]
    assert list(found["the"]) == alone
    assert same_converter(source)(["7"]) == {"7": found["7"]}


def test_lexicon(tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text("SAN S AE N\nfran F R AE1 N\n")
    source, convert = converter(path)
    assert (source, convert(["san", "fran"])["fran"]) == ("lexicon", ("F", "R", "AE", "N"))
    assert same_converter("lexicon") is None and same_converter("letters") is None
    with pytest.raises(UsageError, match="estimate with --lexicon"):
        same_converter("letters", path)
