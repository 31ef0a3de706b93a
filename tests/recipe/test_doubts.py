# SPDX-License-Identifier: Apache-2.0
"""A model that recognises nothing is said loudly and packed with --force only."""

import json
import os
import time

import pytest

from espnet_ext.errors import EspnetExtError
from espnet_ext.espnet.decode import Result
from espnet_ext.recipe import doubts
from espnet_ext.recipe.steps import decode, pack, score

TRAIN = {"config": "conf/train.yaml", "model": "m.pth"}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["a", "b", "", " "], ""),
        (["a", "", " "], "2 of 3 hypotheses are empty"),
        ([""], "1 of 1 hypotheses are empty"),
        ([], ""),
    ],
)
def test_more_than_half_empty(texts, said):
    assert doubts.of_texts(texts) == said


def test_one_class_for_all():
    assert doubts.of_classes(["x"] * 10, "intent", 3) == (
        "all 10 utterances have the same intent, x"
    )
    assert doubts.of_classes(["x"] * 9 + ["y"], "intent", 3) == ""
    assert doubts.of_classes(["x"] * 9, "intent", 3) == ""  # may be chance
    assert doubts.of_classes(["x"] * 10, "intent", 1) == ""


def context(folder, stage, **options):
    folder.recipe(data={"test": ["test"]}, decode={"sets": ["test"]}, finetune=TRAIN, pack={})
    return folder.context(stage, **options)


def scores(value):
    return json.dumps({"sets": {"test": {"greedy_ctc": {
        "utterances": 4, "metrics": {"wer": {"title": "WER", "value": value}}}}}})  # fmt: skip


def test_a_decoding_without_words_warns_and_its_note_stays(folder, monkeypatch):
    folder.write("dump/test/wav.scp", "".join(f"{u} {u}.wav\n" for u in "abc"))
    ctx = context(folder, "decode")
    said: list[str] = []
    monkeypatch.setattr(decode, "say", said.append)
    found = Result({"a": "", "b": " ", "c": "yes"}, 1.0, 0.1, too_short=["a"], long=["c"])
    monkeypatch.setattr(decode, "_recognise", lambda *args: found)
    folder.write("exp/base/finetune/m.pth", "")
    decode.run(ctx, None)
    told = "\n".join(said)
    assert "WARNING: test: 2 of 3 hypotheses are empty" in told
    assert "1 utterances too short for the model: their hypotheses are empty (a)" in told
    assert "1 utterances longer than decode.longest_s: cut at pauses (c)" in told
    note = json.loads((decode.out_dir(ctx, "test") / "decode.json").read_text())
    assert (note["empty"], note["too_short"], note["long"]) == (2, 1, 1)
    assert doubts.lines(ctx) == ["test (greedy_ctc): 2 of 3 hypotheses are empty"]


@pytest.mark.parametrize(("value", "refused"), [(94.9, False), (95.0, True), (180.0, True)])
def test_a_word_error_rate_of_95_is_not_packed(folder, value, refused):
    folder.write("exp/base/scores.json", scores(value))
    ctx = context(folder, "pack")
    assert any("WARNING: test (greedy_ctc)" in x for x in score.summary(ctx)) == refused
    if not refused:
        return doubts.refuse(ctx)
    with pytest.raises(EspnetExtError, match=r"not packed(.|\n)*word error rate(.|\n)*--force"):
        doubts.refuse(ctx)
    return doubts.refuse(context(folder, "pack", force=True))


def test_concepts_that_are_all_wrong_are_a_sign(folder):
    metrics = {"wer_plain": {"value": 20.0}, "concept": {"value": 95.0}}
    sets = {"sets": {"test": {"greedy_ctc": {"metrics": metrics}}}}
    folder.write("exp/base/scores.json", json.dumps(sets))
    said = "test (greedy_ctc): the concept error rate is 95.00 %"
    assert doubts.lines(context(folder, "pack")) == [said]


def test_scores_of_an_older_decoding_do_not_count(folder):
    old = folder.write("exp/base/scores.json", scores(100.0))
    new = folder.write("exp/base/decode/greedy_ctc/test/decode.json", "{}")
    ctx = context(folder, "pack")
    before = time.time() - 100
    os.utime(new, (before - 100, before - 100))
    os.utime(old, (before, before))
    assert len(doubts.lines(ctx)) == 1
    os.utime(new, None)
    assert doubts.lines(ctx) == []


def test_the_stage_packs_nothing_in_doubt(folder, monkeypatch):
    folder.write("exp/base/decode/greedy_ctc/test/decode.json", '{"doubt": "all is empty"}')
    for name in ("config.yaml", "m.pth"):
        folder.write(f"exp/base/finetune/{name}", "{}")
    packed = []
    monkeypatch.setattr("espnet_ext.espnet.pack.pack_asr", lambda *args: (
        packed.append(args), args[3].write_text("archive")))  # fmt: skip
    for force in (False, True):
        ctx = context(folder, "pack", force=force)
        plan = pack.plan(ctx)
        if not force:
            with pytest.raises(EspnetExtError, match="all is empty"):
                pack.run(ctx, plan)
            assert packed == [] and not plan.makes[0].exists()
        else:
            pack.run(ctx, plan)
            assert plan.makes[0].exists()
