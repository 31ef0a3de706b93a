# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext score --slu``: every rule in one table, files for sclite, bad input by its line."""

import json

import pytest

from espnet_ext import cli
from espnet_ext.scoring import metrics
from espnet_ext.scoring.significance import bootstrap_interval
from espnet_ext.scoring.slu.counts import RULES
from espnet_ext.scoring.slu.table import score_tagged

REF = "u1 oui <a> x > <b> y >\nu2 <a> un deux >\nu3 non\n"
HYP = "u3 non <a> hm >\nu1 oui <a> x <b> z\nu2 <a> un deux >\n"


@pytest.fixture
def run(tmp_path, capsys):
    def run(ref=REF, hyp=HYP, *options):
        (tmp_path / "ref").write_text(ref, encoding="utf-8")
        (tmp_path / "hyp").write_text(hyp, encoding="utf-8")
        paths = [str(tmp_path / name) for name in ("ref", "hyp")]
        code = cli.main(["score", "--slu", *paths, *options])
        out = capsys.readouterr()
        return code, out.out, out.err.replace(str(tmp_path), "")

    return run


def test_all_rules_stand_in_one_table(run, tmp_path):
    code, out, _ = run(REF, HYP, "--out", str(tmp_path / "out"))
    assert code == 0
    rows = [line.split() for line in out.splitlines() if "1/1/1" in line or "4/3/3" in line]
    expected = [
        ("keep", ["33.33", "66.67"]),
        ("speechbrain", ["25.00", "50.00"]),
        ("skip", ["0.00", "33.33"]),
    ]
    assert [(r[0], [x for x in r if "." in x][0::3]) for r in rows] == 2 * expected
    found = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert found["utterances_without_concept"] == 1
    assert found["rules"][1]["cer"]["value"] == 25.0
    assert found["wer"] == pytest.approx(100 * 2 / 6)
    assert found["concepts"]["a"] == {"ref": 2, "hyp": 3, "hits": 2, "aligned": 2, "values": 2}


def test_the_intervals_are_those_of_the_run_records():
    refs = {f"u{i}": "<a> x > <b> y >" if i % 3 else "oui" for i in range(30)}
    hyps = {u: t if i % 4 else "<a> z >" for i, (u, t) in enumerate(refs.items())}
    scores = score_tagged(refs, hyps, samples=500)
    scored = metrics.find("concept").score_set(refs, hyps)
    expected = bootstrap_interval(*scored.counts.T, samples=500)
    headline = scores.rates["cer"][0]
    assert (headline.low, headline.high) == pytest.approx(expected)
    assert headline.low < headline.value < headline.high
    values = {rule.title: r.value for rule, r in zip(RULES, scores.rates["cver"], strict=True)}
    totals = metrics.find("concept_value").score_set(refs, hyps).totals
    for title, value in values.items():
        if title != "keep":
            assert metrics.find("concept_value").column(title, totals) == pytest.approx(value)


def test_symbols_apart_as_speechbrain_writes_them(run):
    spelt = "u <city> _ l e _ m a n s _ > _ o u i\n"
    code, out, _ = run(spelt, "u <city> _ l e _ m a n s\n", "--space", "_")
    assert code == 0 and "WER 33.33 %" in out
    assert "keep *                1/1/1  0.00" in out


@pytest.mark.parametrize(
    ("ref", "hyp", "message", "where"),
    [
        ("u1 oui\nu2 <a> x\n", "u1\nu2\n", "<a> is not closed", "/ref:2 (u2), word 1 of 2"),
        (REF, "u1 oui\nu2 oui\n", "1 of 3 utterances have no hypothesis", "/hyp: u3"),
        (REF, HYP + "u4 oui\n", "1 utterances have a hypothesis, but", "/hyp: u4"),
        (REF, HYP + HYP, "stands twice", "/hyp:4"),
        ("", "", "there is no utterance to score", "/hyp"),
    ],
)
def test_bad_input_is_named_by_its_place(run, ref, hyp, message, where):
    code, _, err = run(ref, hyp)
    assert code == 3
    assert message in err and where in err


def test_folders_have_their_text_and_a_file_is_no_place_for_files(tmp_path, capsys):
    for name, text in (("data", REF), ("decoded", HYP)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text").write_text(text)
    both = ["score", "--slu", str(tmp_path / "data"), str(tmp_path / "decoded")]
    assert cli.main(both) == 0
    assert "reference concepts: 3" in capsys.readouterr().out
    assert cli.main([*both, "--out", str(tmp_path / "data/text")]) == 2
    assert capsys.readouterr().out == ""  # told before time is spent


def test_a_tag_may_have_a_name_that_only_training_cannot_use(run):
    code, out, _ = run("u <s> x >\n", "u <s> x >\n")
    assert code == 0 and "reference concepts: 1" in out


def test_files_without_tags_are_said(run):
    code, out, err = run("u oui\n", "u non\n")
    assert code == 0
    assert "no tag in either file" in err
    assert "F1 of concepts: - (micro), - (macro)" in out
