# SPDX-License-Identifier: Apache-2.0
"""A system that was still learning at its end: told on the page, and no base for a claim."""

import pytest
from record_pages import PLANNED, comparisons, section, tables

from espnet_ext.scoring.curve import Curve, late_gain_percent
from espnet_ext.scoring.record import load_record
from espnet_ext.scoring.results import render_results
from espnet_ext.scoring.results_plot import draw_curves

BASE = [(2, 1, 3), (2, 2, 3), (3, 1, 3)]
BETTER = [(1, 0, 1), (1, 1, 1), (1, 0, 2)]
FLAT = [0.5, 0.79, 0.8, 0.8, 0.8, 0.8, 0.803, 0.8]
RISING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


@pytest.fixture
def page(recipe_dir, record_dict):
    """A builder of the page of ``base`` and ``new`` (planned) by what their last phase tells."""

    def build(base, new, passes=False):
        for seed in range(3):
            for group, errors, told in (("base", BASE, base), ("new", BETTER, new)):
                record = record_dict(group, seed, errors[seed])
                record["phases"]["finetune"] |= told
                recipe_dir.add(record)
        (recipe_dir.path / "recipe.yaml").write_text(PLANNED)
        return render_results(recipe_dir.path)

    return build


def acc(values):
    return {"valid_acc": values}


def cer(values, **more):
    return {"valid_cer_ctc": values, "valid_acc": FLAT, "chosen_by": "cer_ctc", **more}


@pytest.mark.parametrize(
    ("base", "new", "verdict", "told"),
    [
        (FLAT, FLAT, "better †", ["yes (-1.5 %)", "yes (-1.5 %)"]),
        (RISING, FLAT, "half-trained †", ["yes (-1.5 %)", "no (-50.0 %)"]),
        (FLAT, RISING, "better †", ["no (-50.0 %)", "yes (-1.5 %)"]),  # it wins although it rises
        ([], FLAT, "better †", ["yes (-1.5 %)", "–"]),  # an old record
        (RISING[:3], FLAT, "better †", ["yes (-1.5 %)", "–"]),  # no last quarter
    ],
)
def test_a_gain_over_a_system_that_still_learns_is_none(page, base, new, verdict, told):
    text = page(acc(base), acc(new))
    (row,) = comparisons(text)
    assert row["Verdict"] == verdict
    assert [(r["System"], r["Trained out"]) for r in tables(text)[0]] == [
        ("new", told[0]),
        ("base", told[1]),
    ]
    assert "Trained out: by how much the best error" in text


def test_without_any_curve_it_is_said_that_nobody_knows(page):
    text = page({}, {})
    assert "trained out is not known" in text and "Trained out" not in text
    assert comparisons(text)[0]["Verdict"] == "better †"


def test_what_models_are_chosen_by_decides(page):
    """The accuracy of the attention decoder is flat, the errors of CTC still fall."""
    errors = [1 - v for v in RISING]
    text = page(cer(errors), cer(errors))
    assert comparisons(text)[0]["Verdict"] == "half-trained †"
    assert "Character error rate of greedy CTC on the development set" in text
    rows = section(text, "Learning speed")[0]
    assert [(r["System"], r["Best error rate"]) for r in rows] == [
        ("new", "0.2000"),
        ("base", "0.2000"),
    ]


def test_the_last_quarter_is_one_of_the_labelled_data(recipe_dir, record_dict):
    """Pre-training in the same phase: its many updates come first, and teach no tokens."""
    told = {
        "valid_updates": [1000, 2000, 3000, 3100, 3200, 3300, 3400],
        "valid_passes": [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0],
    }
    record = record_dict("new", 1)
    record["phases"]["finetune"] |= acc([0.0, 0.0, 0.0, 0.4, 0.5, 0.6, 0.8]) | told
    made = load_record(recipe_dir.add(record))
    assert late_gain_percent(made) == pytest.approx(50.0)


def test_a_gain_of_less_than_a_token_in_a_thousand_is_noise(recipe_dir, record_dict):
    record = record_dict("new", 1)
    record["phases"]["finetune"] |= acc([0.9, 0.998, 0.998, 0.9985])
    assert late_gain_percent(load_record(recipe_dir.add(record))) == 0.0


def test_errors_of_ctc_are_drawn(page, recipe_dir, drawn):
    from espnet_ext.scoring.results import write_results

    values = [1.5, 0.8, 0.5, 0.4]
    page(cer(values, valid_acc=[]), cer(values, valid_acc=[]))
    write_results(recipe_dir.path)
    (axes,) = drawn[1].axes
    assert axes.get_ylabel().startswith("Character error rate of greedy CTC (%)")
    assert axes.get_ylim() == (0, 100)
    thick = next(line for line in axes.lines if line.get_linewidth() > 1)
    assert list(thick.get_ydata()) == pytest.approx([150, 80, 50, 40])


def test_epochs_of_old_records_do_not_stand_among_counted_passes(page, recipe_dir, drawn):
    """An epoch need not be a pass: with runs that tell how many, a guess would be misread."""
    from espnet_ext.scoring.results import write_results

    counted = {"valid_updates": [100, 200, 300, 400], "valid_passes": [4.0, 8.0, 12.0, 16.0]}
    page(acc([0.1, 0.2, 0.3, 0.4]), acc([0.2, 0.3, 0.4, 0.5]) | counted)
    write_results(recipe_dir.path)
    assert drawn[1].axes[0].get_xlabel().startswith("Updates")


def test_a_legend_of_many_systems_fits(tmp_path, drawn):
    curves = {f"system_{i}": [Curve([0.1, 0.2], [1, 2], [1, 2])] for i in range(24)}
    draw_curves(curves, tmp_path / "curves.png")
    (figure,) = drawn
    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0 and box.height <= figure.bbox.height
