# SPDX-License-Identifier: Apache-2.0
"""A sweep runs every experiment of its grid by the runner, and draws what their records say."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import sweep_toy
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sweep_toy import EVIDENCE, LR, RECIPE, record, write

from espnet_ext.cli import main as cli
from espnet_ext.errors import DataError
from espnet_ext.recipe import config, experiment, experiments, sweep, sweep_grid

fake = sweep_toy.fake


def test_a_sweep_in_the_set_up_of_an_evidence_file(fake):
    Path("set-up").mkdir()
    Path("set-up/evidence.yaml").write_text(yaml.safe_dump(EVIDENCE))
    of = {"evidence": "set-up/evidence.yaml", "seeds": [1]}
    for more, epochs, blocks in (
        ({}, 5, 3),
        ({"system": "method"}, 8, 3),
        ({"system": "method", "base": {"finetune.args.max_epoch": 2}}, 2, 3),
        ({"curves": {"key": "finetune.args.blocks", "values": [4]}}, 5, 4),
    ):
        fake.seen.clear()
        assert cli(["sweep", str(write(**of, **more))]) == 0
        for (recipe, _), rate in zip(fake.seen, LR["values"], strict=True):
            args = recipe.finetune.args
            assert (args["max_epoch"], args["blocks"]) == (epochs, blocks)
            assert args["optim_conf"]["lr"] == rate


def test_every_value_and_seed_is_run_with_its_own_name_and_the_group_of_its_value(fake):
    assert cli(["sweep", str(write(base={"finetune.args.max_epoch": 5})), "--nj", "2"]) == 0
    assert [(r.name, r.group, r.seed) for r, _ in fake.seen] == [
        ("sweep_lr_0.001_s1", "sweep_lr_0.001", 1),
        ("sweep_lr_0.001_s2", "sweep_lr_0.001", 2),
        ("sweep_lr_0.002_s1", "sweep_lr_0.002", 1),
        ("sweep_lr_0.002_s2", "sweep_lr_0.002", 2),
    ]
    assert [r.finetune.args["optim_conf"]["lr"] for r, _ in fake.seen] == [
        0.001,
        0.001,
        0.002,
        0.002,
    ]
    assert {r.finetune.args["max_epoch"] for r, _ in fake.seen} == {5}
    assert {(o.stage, o.stop_stage, o.nj) for _, o in fake.seen} == {("", "score", 2)}


def test_the_table_and_the_picture_are_of_the_records(fake, capsys, monkeypatch):
    lines = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.say", lines.append)
    drawn = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.plot_sweep", lambda *a: drawn.append(a))
    assert sweep.main([str(write())]) == 0
    points, x_label, y_label, path = drawn[0]
    # errors of the three utterances: 1, seed, 0 and 2, seed, 0 in 12 words
    assert [p.mean for p in points] == pytest.approx([100 * 2.5 / 12, 100 * 3.5 / 12])
    assert all(p.low < p.mean < p.high for p in points)
    assert (x_label, path) == (LR["key"], Path("results/sweep_lr.png"))
    assert "WER (%) on dev" in " ".join(y_label.split())
    assert re.search(r"\| 0\.001 \| 20\.83 ± 5\.89 \| .* \| 1, 2 \|", "\n".join(lines))


def test_a_real_picture_is_drawn_with_a_curve_for_each_value_of_the_second_dimension(fake):
    pytest.importorskip("matplotlib")
    curves = {"key": "finetune.args.blocks", "values": [2, 4]}
    assert sweep.main([str(write(curves=curves, x_label="learning rate"))]) == 0
    assert Path("results/sweep_lr.png").read_bytes().startswith(b"\x89PNG")
    assert [r.finetune.args["blocks"] for r, _ in fake.seen] == [2, 2, 4, 4] * 2
    assert fake.seen[-1][0].name == "sweep_lr_4_0.002_s2"


def test_names_are_run_and_shown_in_the_order_of_the_file(fake, monkeypatch):
    drawn = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.plot_sweep", lambda *a: drawn.append(a))
    names = ["tri", "mono"]
    assert sweep.main([str(write(key="finetune.args.aux.source", values=names, seeds=[1]))]) == 0
    assert [r.finetune.args["aux"]["source"] for r, _ in fake.seen] == names
    assert [p.x for p in drawn[0][0]] == names
    assert fake.seen[0][0].name == "sweep_lr_tri_s1"


def test_sizes_of_training_sets_make_a_curve_for_each_named_system(fake, monkeypatch):
    """A learning curve: the swept values are sets, the systems start from different models.

    All runs of a set stand together, or stages 2 to 4 would make its tokens and alignment twice.
    """
    drawn = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.plot_sweep", lambda *a: drawn.append(a))
    systems = {"AR": {}, "FR+IT": {"finetune.args.start": "exp/fr_it_s{seed}/model.pth"}}
    file = write(
        key="finetune.train", values=["ar_5", "ar"], x=[5, 100], curves={"systems": systems}
    )
    assert sweep.main([str(file)]) == 0
    assert [r.finetune.train for r, _ in fake.seen] == ["ar_5"] * 4 + ["ar"] * 4
    starts = [f"exp/fr_it_s{seed}/model.pth" for seed in (1, 2)]
    assert [r.finetune.args.get("start") for r, _ in fake.seen] == [None, None, *starts] * 2
    assert fake.seen[-1][0].name == "sweep_lr_FR-IT_ar_s2"
    assert [(p.x, p.group) for p in drawn[0][0]] == [
        (5, "AR"), (100, "AR"), (5, "FR+IT"), (100, "FR+IT"),
    ]  # fmt: skip


def test_a_run_of_a_sweep_waits_for_what_any_of_its_values_names(fake):
    systems = {"AR": {}, "FR": {"finetune.args.start": "exp/sweep_lr_AR_7_s{seed}/model.pth"}}
    file = write(key="finetune.args.blocks", values=[7], curves={"systems": systems}, seeds=[1])
    first, second = sweep_grid.expand(sweep_grid.load(file), file)
    assert experiment.needs(first, []) == set() and experiment.needs(second, []) == {first.name}


def test_without_a_metric_a_sweep_shows_the_first_of_the_recipe(fake, monkeypatch):
    drawn = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.plot_sweep", lambda *a: drawn.append(a))
    Path("recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "score": {"metrics": ["cer", "wer"]}}))
    assert sweep.main([str(write())]) == 0
    assert " ".join(drawn[0][2].split()).startswith("CER (%) on dev")


def test_further_metrics_have_a_picture_each(fake, monkeypatch):
    drawn = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.plot_sweep", lambda *a: drawn.append(a))
    assert sweep.main([str(write(also=["cer"]))]) == 0
    assert [(a[2][:3], a[3].name) for a in drawn] == [
        ("WER", "sweep_lr.png"),
        ("CER", "sweep_lr_cer.png"),
    ]


def test_a_number_that_yaml_takes_for_text_is_a_number(fake):
    write().write_text(Path("grid.yaml").read_text().replace("- 0.001", "- 1e-3"))
    assert sweep_grid.load(Path("grid.yaml")).values == [0.001, 0.002]


def test_cer_shows_the_range_over_seeds(fake, monkeypatch):
    drawn = []
    monkeypatch.setattr("espnet_ext.recipe.sweep_results.plot_sweep", lambda *a: drawn.append(a))
    assert sweep.main([str(write(metric="cer"))]) == 0
    assert [p[1:4] for p in drawn[0][0]] == [(15.0, 10.0, 20.0)] * 2
    assert "range over seeds" in drawn[0][2]


def test_a_failing_run_ends_the_sweep_with_its_code_and_the_sweep_can_be_started_again(
    fake, capsys
):
    path = str(write())
    fake.codes["sweep_lr_0.001_s2"] = 3
    assert sweep.main([path]) == 3
    err = capsys.readouterr().err
    assert "run 2 of 4" in err and "--name sweep_lr_0.001_s2" in err
    assert len(fake.seen) == 2 and not list(Path("results").glob("*.png"))
    fake.codes.clear()
    assert sweep.main([path]) == 0
    assert len(fake.seen) == 2 + 4


def test_a_dry_run_lists_the_runs_and_starts_none(fake, monkeypatch):
    lines = []
    monkeypatch.setattr(sweep, "say", lines.append)
    path = write()
    fake(["--name", "sweep_lr_0.001_s1", "--group", "sweep_lr_0.001"])
    assert sweep.main([str(path), "--dry-run", "--ngpu=1"]) == 0
    assert len(fake.seen) == 1
    assert lines[0].startswith("recorded") and lines[1].startswith("to run")
    assert "--seed 2 --finetune.args.optim_conf.lr 0.001 --stop-stage score --ngpu=1" in lines[1]
    assert lines[-1] == "4 runs, 3 without a record yet, 4 to run here, 4 of unknown time"


def test_runs_scored_on_different_references_are_not_drawn(fake):
    fake.changes["sweep_lr_0.002_s1"] = {"ref": "00" * 32}
    with pytest.raises(DataError, match="different references"):
        sweep.main([str(write())])


def test_a_record_without_the_set_is_named(fake):
    fake.changes["sweep_lr_0.002_s1"] = {"set_name": "test"}
    with pytest.raises(DataError, match=r"sweep_lr_0\.002_s1\.json"):
        sweep.main([str(write())])


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)


@given(value=scalars | st.lists(scalars | st.text("ab c-:", max_size=5), max_size=3))
def test_a_value_of_the_file_reaches_the_recipe_unchanged(tmp_path_factory, value):
    path = tmp_path_factory.getbasetemp() / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    recipe = config.load(path, [("finetune.args.x", experiments.as_text(value))])
    assert recipe.finetune.args["x"] == value


def test_accuracy_of_the_inference_model_is_swept(folder):
    from espnet_ext.recipe import sweep_results
    from espnet_ext.scoring.intent import score_intents
    from espnet_ext.scoring.metrics import find, percent
    from espnet_ext.scoring.significance import interval, resample

    utts = ["a", "b", "c", "d"]
    found = {"a": ("y",), **dict.fromkeys(utts[1:], ("x",))}
    errors = dict.fromkeys(utts, (1, 4))
    intent = score_intents(dict.fromkeys(utts, ("x",)), found, ["intent"], errors)
    scored = {"metrics": ["accuracy"]}
    decode = {"args": {"inference_model": "clean"}}
    folder.recipe(**{**RECIPE, "decode": decode, "score": scored})
    file = folder.write("lr.yaml", yaml.safe_dump({**LR, "metric": "accuracy"}))
    made = sweep_grid.load(file)
    runs = sweep_grid.expand(made, file)
    made = sweep_grid.check(made, runs, file)
    assert made.method == "clean"
    for run in runs:
        decoded = {"utterances": 4, "ref_sha256": "ab" * 32, "hyp_sha256": "cd" * 32}
        decoded |= {"decode_wall_s": 1.5, "intent": intent}
        recipe = config.load(Path("recipe.yaml"), list(run.overrides))
        run.record.parent.mkdir(exist_ok=True)
        own = {"name": run.name, "group": run.group, "seed": run.seed}
        content = record(recipe) | own | {"sets": {"dev": {"clean": decoded}}}
        run.record.write_text(json.dumps(content))
    (picture,) = sweep_results.report(made, runs)
    assert picture.exists() and f"({picture})" in Path("RESULTS.md").read_text()
    scored = sweep_results._scored(made, runs[0], find("accuracy"))
    expected = interval(resample(np.array([[[0, 1], [1, 1], [1, 1], [1, 1]]]), percent))
    assert sweep_results.interval(find("accuracy"), [scored]) == expected
