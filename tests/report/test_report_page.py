# SPDX-License-Identifier: Apache-2.0
"""The page of experiments: its numbers, what it holds, what it says where something is missing."""

import base64
import hashlib
import json
import re
import shutil
import statistics

import made_up
import pytest
from page_reader import read_page

from espnet_ext import cli
from espnet_ext.report.page import said_once
from espnet_ext.scoring.metrics import load
from espnet_ext.scoring.record import load_record
from espnet_ext.scoring.scored import Scores


@pytest.fixture(scope="module")
def page(page_path):
    return read_page(page_path)


@pytest.fixture
def fresh(tmp_path, recipe):
    """A copy of the recipe to damage, and a function that makes its page."""
    made = made_up.MadeUp.__new__(made_up.MadeUp)
    made.__dict__.update(recipe.__dict__ | {"path": tmp_path / "egs2/toy/asr1"})
    shutil.copytree(recipe.path, made.path)

    def report(*argv, exp=("base_s1", "weak_s1")):
        out = tmp_path / "page.html"
        paths = [str(made.path / "exp" / e) for e in exp]
        assert cli.main(["report", *paths, "--out", str(out), *argv]) == 0
        return read_page(out)

    return made, report


def test_numbers_are_those_of_the_records(page, recipe):
    records = [load_record(p) for p in sorted((recipe.path / "exp").glob("*/scores.json"))]
    metrics = load(recipe.metrics)
    scores = Scores(records, metrics)
    fields = scores.fields("test")
    assert [t.title for t in page.score_tables] == ["WER on test", "CER on test"]
    for table, runs, field in zip(page.score_tables, page.run_tables, fields, strict=True):
        assert {r[0]: float(r.keys[3]) for r in runs.rows} == {
            r.name: r.sets["test"]["greedy"].value(field.metric) for r in records
        }
        assert len(table.rows) == 2
        for row in table.rows:
            system = next(s for s in field.systems if s.group == row[0])
            values = scores.values(field, system)
            low, high = scores.interval(field, field.systems[system], "greedy")
            assert float(row.keys[2]) == values.mean() and row[1] == "1, 2"
            assert row[2] == f"{values.mean():.2f} ± {statistics.stdev(values):.2f}"
            assert row[3] == f"{low:.2f} to {high:.2f}"


def test_worst_utterances_come_first_with_what_each_system_made_of_them(page, recipe):
    # u2: 1 (an insertion too much) + 3 edits in weak; u1: 2 + 1 in base; u4: 1; u3 is right.
    assert [c["data-name"] for c in page.cards] == ["u2", "u1", "u4"]
    assert [float(c["data-errors"]) for c in page.cards] == [4, 3, 1]
    text = page.card_text("u1")
    assert "turn the lights on" in text and "2 of 4 (50 %)" in text
    assert page.dels["u1"] == ["the", "on", "lights"] and page.inss["u1"] == ["off", "light"]
    assert "confidence 0.25" in text


def test_curves_and_costs_are_those_of_the_runs(page):
    loss = [x for x in page.lines if "loss" in x["chart"].lower()]
    assert {x["data-label"] for x in loss} == {
        f"{g}_s{s}, {part}" for g in ("base", "weak") for s in (1, 2)
        for part in ("training", "development")
    }  # fmt: skip
    told = [p[2] for p in json.loads(loss[0]["data-points"])]
    assert told == [f"epoch {e}, {10 * e} updates: 2.5" for e in (1, 2, 3)]
    cost = next(r for r in page.tables["cost"][0].rows if r[0] == "base_s1")
    assert cost[1:6] == ["finetune", "asr", "1 min 00 s", "900 MB", "–"]
    assert cost[6:10] == ["1,234,567", "1,000,000", "3", "30"]


def test_the_page_asks_for_nothing_and_runs_only_its_own_script(page):
    assert page.addresses and all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "http://" not in page.text and "https://" not in page.text
    assert not re.search(r"url\(|@import", page.style)
    hashed = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    assert f"script-src 'sha256-{hashed}';" in page.policy
    assert page.policy.startswith("default-src 'none';") and "unsafe" not in page.policy
    assert page.text.count("<script") == 1 and "<img" not in page.text
    assert page.handlers == []  # neither onerror nor style attributes came out of a transcript
    assert made_up.EVIL in page.card_text("u2")


def test_the_picture_and_the_sound_of_an_utterance_are_in_the_page(page):
    kinds = {a.partition(";")[0] for a in page.addresses if a.startswith("data:")}
    assert kinds == {"data:audio/mpeg", "data:image/png", "data:,"}
    assert page.text.count("data:audio/mpeg") == 3 and len(page.text) < 400_000


def test_sound_is_left_out_where_the_page_would_be_too_large(fresh):
    made, report = fresh
    shutil.rmtree(made.path / "dump")
    made.add_audio(length_s=5.0)
    page = report("--max-mb", "0.2", "--worst", "2")
    assert len(page.text) < 200_000 and page.text.count("data:audio") == 1
    assert "1 utterances are without sound: --max-mb allows for no more" in page.notes


def no_audio(path):
    (path / "u1.flac").unlink()


def no_wav_scp(path):
    shutil.rmtree(path / "dump")


def no_references(path):
    shutil.rmtree(path / "data")


def other_text(path):
    table = path / "exp/base_s1/decode/greedy/test/text"
    table.write_text(table.read_text().replace("look", "cook a"))


def damaged_scores(path):
    (path / "exp/base_s1/scores.json").write_text("{")


def failed_run(path):
    exp = path / "exp/base_s1"
    (exp / "scores.json").unlink()
    (exp / "log").mkdir()
    (exp / "log/08_decode.log").write_text(f"line\nMemoryError: {made_up.EVIL}\n")


def no_curves(path):
    shutil.rmtree(path / "exp/base_s1/finetune")


def no_texts_at_all(path):
    for exp in (path / "exp").iterdir():
        shutil.rmtree(exp / "decode")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: None, "no phones: there is no alignment of test; for phones give --aligner"),
        (no_audio, "no audio of 1 utterances, e.g. u1"),
        (no_wav_scp, "no audio: neither dump/test nor data/test has a wav.scp"),
        (no_references, "base_s1: no utterances: text is missing"),
        (other_text, "base_s1: no utterances: the texts have changed since they were scored"),
        (damaged_scores, "base_s1: its scores cannot be read"),
        (failed_run, "base_s1: it has no scores; the newest log is 08_decode.log"),
        (no_curves, "base_s1: no losses: the release that trained it has not recorded them"),
        (no_texts_at_all, "weak_s1: no utterances: text is missing"),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_shown(damage, says, fresh):
    made, report = fresh
    damage(made.path)
    page = report()
    assert says in page.notes
    assert page.score_tables and page.lines and page.tables["cost"][0].rows
    if damage is failed_run:
        assert "MemoryError" in page.text and page.text.count("<script") == 1


def test_a_failed_run_alone_and_a_run_record_alone_give_a_page(fresh):
    made, report = fresh
    record = made.path / "results/weak_s1.json"
    record.parent.mkdir()
    shutil.move(made.path / "exp/weak_s1/scores.json", record)
    page = report(exp=("weak_s1",))
    assert "weak_s1: it has no scores" in page.notes and page.lines and not page.score_tables
    page = report(exp=("../results/weak_s1.json",))
    assert "weak_s1: no utterances: only the run record is left" in page.notes and page.score_tables


def test_doubtful_transcripts_of_the_alignment_are_shown(fresh):
    made, report = fresh
    folder = made.path / "dump/train/align"
    folder.mkdir(parents=True)
    rows = [("a", 0.03), ("b", 0.97), ("c", 1.0)]
    text = "".join(f"{utt}\t{value}\n" for utt, value in rows)
    (folder / "confidence.tsv").write_text(f"utt\tconfidence\n{text}")
    doubt = f"a\t0.03\t{made_up.EVIL} at 0.20 s (0.03)\n"
    (folder / "check.tsv").write_text(f"utt\tconfidence\twords\n{doubt}")
    page = report()
    assert page.tables["alignment"][0].rows == [["a", "0.03", f"{made_up.EVIL} at 0.20 s (0.03)"]]
    assert "1 utterances, confidence 0.00 to 0.05" in page.text
    assert "2 utterances, confidence 0.95 to 1.00" in page.text and "median 0.97" in page.text


def test_a_remark_on_many_runs_is_said_once():
    found = said_once([(name, "no audio") for name in "abcde"] + [("a", "no curves")])
    assert found == ["a, b, c and 2 more: no audio", "a: no curves"]


def test_settings_of_a_sweep_are_shown_and_not_compared(fresh):
    made, report = fresh
    made.add("sweep_lr_0.1", 1, {"u1": "on"}, spent=False)
    made.add("sweep_lr_0.2", 1, {}, spent=False)
    page = report(exp=("sweep_lr_0.1_s1", "sweep_lr_0.2_s1"))
    assert [r[0] for r in page.score_tables[0].rows] == ["lr_0.2 (sweep)", "lr_0.1 (sweep)"]
    assert "a setting of a sweep" in page.notes and "Verdict" not in page.text


def test_runs_of_two_folders_with_the_same_name_are_told_apart(fresh, recipe):
    page = fresh[1](exp=("base_s1", str(recipe.path / "exp/base_s1")))
    assert [r[0] for r in page.run_tables[0].rows] == ["base_s1", "base_s1 (2)"]
    assert len(page.score_tables[0].rows) == 2


@pytest.mark.parametrize(
    ("metric", "refs", "wrong", "score"),
    [
        ("accuracy", {"a": "play", "b": "stop"}, {"b": "play"}, "Accuracy 0.0 %"),
        ("concept", {"a": "a <room> b >", "b": "<city> x >"}, {"b": "<room> x >"}, "(concepts)"),
        ("bleu", {"a": "a b c d e", "b": "f g h i j"}, {"b": "f g k i j"}, "BLEU"),
    ],
)  # fmt: skip
def test_any_metric_gives_a_page(metric, refs, wrong, score, tmp_path):
    made = made_up.MadeUp(tmp_path, (metric,), refs)
    exp, out = made.add("base", 1, wrong), tmp_path / "page.html"
    assert cli.main(["report", str(exp), "--out", str(out)]) == 0
    page = read_page(out)
    assert page.cards[0]["data-name"] == "b" and score in page.text
    assert page.dels["b"] and page.inss["b"]


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        ([], 2, "which experiments?"),
        (["{r}"], 2, "this is a recipe, not an experiment"),
        (["{r}/data"], 2, "this is no experiment"),
        (["{r}/exp/nothing"], 3, "there is no such experiment"),
        (["{r}/recipe.yaml"], 2, "this is no run record"),
        (["{r}/exp/base_s1", "{r}/exp/../exp/base_s1"], 2, "is named twice"),
        (["{r}/exp/base_s1", "--set", "tset"], 3, "known: test"),
        (["{r}/exp/base_s1", "--out", "{r}"], 2, "a folder is no file"),
        (["{r}/exp/base_s1", "--wurst", "3"], 2, "did you mean '--worst'?"),
        (["{r}/exp/base_s1", "--worst", "0"], 2, "must be a whole number from 1"),
        (["{r}/exp/base_s1", "--max-mb", "0"], 2, "must be megabytes"),
        (["{r}/exp/base_s1", "--alignment", "{r}/nothing"], 3, "there is no such alignment"),
        (["{r}/exp/base_s1", "--aligner", "{r}/nothing"], 3, "there is no aligner"),
    ],
)
def test_misuse_is_told(argv, code, says, recipe, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", *(a.format(r=recipe.path) for a in argv)]) == code
    assert says in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists()
