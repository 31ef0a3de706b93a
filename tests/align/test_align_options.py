# SPDX-License-Identifier: Apache-2.0
from dataclasses import asdict

import pytest
import yaml

from espnet_ext.align.options import RANGES, AlignOptions, from_dict
from espnet_ext.errors import UsageError


def test_options_survive_the_way_to_a_model_file_and_back():
    o = from_dict({"passes": ["mono", "lda_mllt", "sat"], "sat": {"dim": 20}, "keep": ["mono"]})
    assert from_dict(asdict(o)) == o
    assert o.sat.dim == 20 and o.lda_mllt == AlignOptions().lda_mllt


def test_numbers_as_yaml_reads_them():
    given = yaml.safe_load("{tolerance: 1e-3, power: 0, hybrid: {lr: 3e-4, dropout: 0}}")
    o = from_dict(given)
    assert (o.tolerance, o.power, o.hybrid.lr, o.hybrid.dropout) == (1e-3, 0.0, 3e-4, 0.0)


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"passess": []}, ("'passess'", "did you mean 'passes'?")),
        ({"hybrid": {"epoch": 3}}, ("align.hybrid", "did you mean 'epochs'?")),
        ({"tri": None}, ("align.tri", "section")),
        ({"seed": 1.5}, ("1.5 is not a whole number", "align.seed")),
        ({"seed": True}, ("True is not a whole number",)),
        ({"stress": "yes"}, ("'yes' is not true or false",)),
        ({"power": True}, ("True is not a number",)),
        ({"hybrid": {"lr": "fast"}}, ("'fast' is not a number", "align.hybrid.lr")),
        ({"passes": "mono"}, ("'mono' is not a list",)),
        ({"sets": [1]}, ("1 in it is not text",)),
        ({"lexicon": None}, ("None is not text",)),
        ({"alignments": ["a"]}, ("is not a section", "align.alignments")),
        ({"alignments": {"train": 3}}, ("3 in it is not text",)),
        ({"passes": []}, ("not in order",)),
        ({"passes": ["mono", "mono"]}, ("not in order",)),
        ({"keep": ["tra"]}, ("no pass 'tra'", "align.keep")),
        ({"hybrid": {"held_out": 1.0}}, ("align.hybrid.held_out", "use 1e-09 to 0.999")),
        ({"hybrid": {"layers": -1}}, ("-1 is out of range",)),
        ({"hybrid": {"network": "tdn"}}, ("did you mean 'tdnn'?", "align.hybrid.network")),
        ({"power": float("nan")}, ("nan is out of range",)),
        ({"times": "tri", "passes": ["mono"]}, ("no pass 'tri'", "align.times")),
        ({"times": "sat"}, ("no pass 'sat'",)),
        ({"jitter_ms": [20, 0]}, ("0 is out of range", "align.jitter_ms")),
        ({"adapt": True}, ("no aligner to adapt", "align.adapt")),
        ({"lexicon_kind": "kaldy"}, ("did you mean 'kaldi'?",)),
    ],
)
def test_what_does_not_fit_is_named(given, parts):
    with pytest.raises(UsageError) as e:
        from_dict(given)
    for part in parts:
        assert part in str(e.value)


@pytest.mark.parametrize("more", [{"frame_shift_ms": 7}, {"frame_shift_ms": 5, "model": "en_us"}])
def test_the_frame_shift_is_one_of_two_and_that_of_the_model(more):
    with pytest.raises(UsageError, match="frame_shift_ms"):
        from_dict(more)


def test_defaults_lie_within_the_ranges_and_every_number_has_one():
    flat = {k: v for k, v in asdict(AlignOptions()).items() if not isinstance(v, dict)}
    for name, section in asdict(AlignOptions()).items():
        if isinstance(section, dict):
            flat |= {f"{name}.{k}": v for k, v in section.items()}
    numbers = {k for k, v in flat.items() if type(v) in (int, float)}
    assert numbers == set(RANGES)
