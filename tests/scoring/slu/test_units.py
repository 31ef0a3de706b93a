# SPDX-License-Identifier: Apache-2.0
"""CER of concepts and CVER: all rules, against scorers that are written here from the facts."""

import re
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.scoring import metrics
from espnet_ext.scoring.slu.alignment import LEVENSHTEIN, SCLITE, align
from espnet_ext.scoring.slu.counts import RULES, edits, rate

CER, CVER = metrics.find("concept"), metrics.find("concept_value")
WORD = st.sampled_from(["<a>", "<b>", ">", "x", "y", "<c", "x>", ">y", "<a>x", "é"])
TEXT = st.lists(WORD, max_size=7).map(" ".join)
PAIRS = st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5)
LISTS = st.lists(st.sampled_from("abc"), max_size=6)


def scored(metric, pairs):
    refs, hyps = ({f"u{i}": p[side] for i, p in enumerate(pairs)} for side in (0, 1))
    return metric.score_set(refs, hyps).totals


def rates(metric, pairs):
    totals = scored(metric, pairs)
    return {r.title: metric.column(r.title, totals) for r in RULES[1:]} | {
        "keep": metric.of_totals(totals)
    }


def speechbrain_units(text, with_values):
    """Read units as SpeechBrain's MEDIA recipe does: a regular expression over '_'-joined words."""
    joined = "_".join(text.split())
    found = []
    for tag, rest in re.findall(r"(?:^|_)(<[^_]*)((?:_(?!<)[^_]*)*)", joined):
        value = re.split(r"_>[^_]*", rest, maxsplit=1)[0].replace("_", " ")
        found.append(tag + value if with_values else tag)
    return found or [""]


def distance(a, b):
    """Edit distance by its recursive definition."""

    @cache
    def d(i, j):
        if not i or not j:
            return i + j
        return min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return d(len(a), len(b))


@given(PAIRS)
def test_the_speechbrain_rule_is_that_of_an_independent_scorer(pairs):
    for metric, with_values in ((CER, False), (CVER, True)):
        read = [[speechbrain_units(side, with_values) for side in pair] for pair in pairs]
        errors = sum(distance(ref, hyp) for ref, hyp in read)
        units = sum(len(ref) for ref, _ in read)
        assert rates(metric, pairs)["SpeechBrain"] == pytest.approx(100 * errors / units)
        real = [(r, [u for u in h if u]) for r, h in read if r != [""]]  # others are skipped
        skipped, concepts = sum(distance(r, h) for r, h in real), sum(len(r) for r, _ in real)
        if concepts:
            found = rates(metric, pairs)
            assert found["skip"] == pytest.approx(100 * skipped / concepts)
            empty = len(pairs) - len(real)
            assert found["keep"] * concepts == pytest.approx(
                found["SpeechBrain"] * (concepts + empty)
            )


def test_the_example_of_speechbrain():
    text = "<reponse> no > <localisation-ville> Le Mans >"
    assert speechbrain_units(text, True) == ["<reponse> no", "<localisation-ville> Le Mans"]
    assert speechbrain_units("va bene", True) == [""]


@pytest.mark.parametrize(
    ("hyp", "cer", "cver"),
    [("<a> x > <b> z >", 0, 50), ("<a> x <b> y", 0, 0), ("", 100, 100), ("<c> x > <b> y", 50, 50)],
)
def test_units_of_one_utterance(hyp, cer, cver):
    pairs = [("<a> x > <b> y >", hyp)]
    assert set(rates(CER, pairs).values()) == {cer}
    assert set(rates(CVER, pairs).values()) == {cver}


def test_an_utterance_without_concepts_by_each_rule():
    pairs = [("<a> x > <b> y >", "<a> x > <b> y >"), ("oui", "<a> oui >")]
    found = rates(CER, pairs)
    for costs in ("", " 4/3/3"):
        assert found[f"keep{costs}"] == 50.0
        assert found[f"SpeechBrain{costs}"] == pytest.approx(100 / 3)
        assert found[f"skip{costs}"] == 0.0


@pytest.mark.parametrize(("hyp", "value"), [("oui", 0.0), ("<a> oui >", 100.0)])
def test_a_set_without_any_concept_has_a_score(hyp, value):
    for metric in (CER, CVER):
        totals = scored(metric, [("oui", hyp), ("", "")])
        assert metric.of_totals(totals) == value
    assert rate(np.zeros((2, 3, 2))).tolist() == [[0.0] * 3] * 2


def all_alignments(ref, hyp):
    """Yield (substitutions, deletions, insertions) of every way to align two lists."""
    if not ref or not hyp:
        yield 0, len(ref), len(hyp)
        return
    for (s, d, i), step in [
        *product(all_alignments(ref[1:], hyp[1:]), [(ref[0] != hyp[0], 0, 0)]),
        *product(all_alignments(ref[1:], hyp), [(0, 1, 0)]),
        *product(all_alignments(ref, hyp[1:]), [(0, 0, 1)]),
    ]:
        yield s + step[0], d + step[1], i + step[2]


@given(LISTS.filter(lambda x: len(x) < 5), LISTS.filter(lambda x: len(x) < 5))
def test_alignments_have_the_least_cost_of_all(ref, hyp):
    for costs in (LEVENSHTEIN, SCLITE):
        pairs = align(ref, hyp, costs)
        assert [r for r, _ in pairs if r is not None] == [*range(len(ref))]
        assert [h for _, h in pairs if h is not None] == [*range(len(hyp))]
        cost = sum(n * c for n, c in zip(edits(ref, hyp, pairs), costs, strict=True))
        least = min(
            sum(n * c for n, c in zip(e, costs, strict=True)) for e in all_alignments(ref, hyp)
        )
        assert cost == least


def test_ties_of_sclite():
    """Three substitutions cost as much as a match with two deletions and two insertions: 12."""
    ref, hyp = list("abc"), list("cde")
    assert sum(edits(ref, hyp, align(ref, hyp, LEVENSHTEIN))) == 3
    # From the end the diagonal comes first, as long as it is as good.
    assert edits(ref, hyp, align(ref, hyp, SCLITE)) == (3, 0, 0)
    # A match far off the diagonal: sclite takes it, with one edit more than the Levenshtein.
    ref, hyp = list("abcd"), list("cdxy")
    assert sum(edits(ref, hyp, align(ref, hyp, LEVENSHTEIN))) == 4
    assert edits(ref, hyp, align(ref, hyp, SCLITE)) == (0, 2, 2)


def test_sclite_may_count_more_errors():
    """Five substitutions cost 20, two matches with three deletions and insertions only 18."""
    ref, hyp = (" ".join(f"<{c}> >" for c in cs) for cs in ("abcde", "dexyz"))
    found = rates(CER, [(ref, hyp)])
    assert (found["keep"], found["keep 4/3/3"]) == (100.0, 120.0)
