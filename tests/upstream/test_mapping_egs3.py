# SPDX-License-Identifier: Apache-2.0
"""ESPnet2 options as an ESPnet3 recipe: nothing is lost, numbers keep their meaning."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.errors import UsageError
from espnet_ext.upstream.mapping import DROPPED, PARTS, SCHEDULERS, feature_scale, mapped
from espnet_ext.upstream.yamltext import dumped

BASE = {"optim": "adam", "optim_conf": {"lr": 0.001}}
CHOSEN = "valid.acc.ave.pth"
VALUES = st.one_of(st.integers(0, 10**7), st.floats(1e-9, 1e6), st.booleans(), st.none())
NESTED = st.dictionaries(st.sampled_from("abc"), VALUES | st.lists(VALUES, max_size=3), max_size=3)


@settings(max_examples=30)
@given(
    parts=st.dictionaries(st.sampled_from(PARTS), NESTED),
    unknown=st.dictionaries(st.sampled_from(["one", "two_conf"]), VALUES, max_size=2),
    dropped=st.sampled_from(sorted(DROPPED)),
)
def test_every_option_goes_somewhere(parts, unknown, dropped):
    config = dict(BASE, **unknown, **{dropped: 5})
    for part, conf in parts.items():
        config |= {part: "kind", f"{part}_conf": conf}
    config["frontend"] = "default"  # its frames are needed for the batches
    config["frontend_conf"] = {"n_mels": 8, "hop_length": 160}
    before = yaml.safe_dump(config)
    result = mapped(config, CHOSEN)
    assert yaml.safe_dump(config) == before
    for part, conf in parts.items():
        if part != "frontend":
            assert result.model[part] == "kind"
            assert result.model[f"{part}_conf"] == conf
    told = " ".join(note for notes in result.deviations.values() for note in notes)
    assert all(f"`{key}: " in told for key in unknown)
    assert f"`{dropped}" not in told


@settings(max_examples=30)
@given(
    bins=st.integers(10_000, 10**8),
    mels=st.integers(8, 128),
    hop=st.sampled_from([80, 128, 160, 256]),
    kind=st.sampled_from(["numel", "length"]),
)
def test_a_batch_holds_the_same_speech(bins, mels, hop, kind):
    frontend = {"frontend": "default", "frontend_conf": {"n_mels": mels, "hop_length": hop}}
    config = {**BASE, **frontend, "batch_type": kind, "batch_bins": bins}
    batches = mapped(config, CHOSEN).loader["batches"]
    frames = batches["batch_bins"] / (mels if kind == "numel" else 1)
    assert abs(frames * hop - bins) <= hop  # rounded to a value of a feature, or to a frame
    assert feature_scale(config)[0] == mels / hop


def test_batches_of_a_number_of_utterances_keep_it():
    batches = mapped({**BASE, "batch_type": "sorted", "batch_size": 7}, CHOSEN).loader["batches"]
    assert batches["batch_size"] == 7 and "batch_bins" not in batches


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_targets_exist(name, wheel):
    result = mapped({**BASE, "scheduler": name, "scheduler_conf": {}}, CHOSEN)
    module, _, cls = result.scheduler["_target_"].rpartition(".")
    file = wheel / f"{module.replace('.', '/')}.py"
    assert f"class {cls}(" in file.read_text(encoding="utf-8")


def test_the_chosen_model_is_that_of_inference():
    criteria = [["valid", "acc", "max"], ["valid", "cer_ctc", "min"]]
    config = {**BASE, "best_model_criterion": criteria, "keep_nbest_models": [3, 5]}
    result = mapped(config, "valid.cer_ctc.ave.pth")
    assert result.criterion[0] == ["valid/cer_ctc", 5, "min"]
    assert result.average == "valid.cer_ctc.ave_5best.pth"
    assert mapped(config, CHOSEN).average == "valid.acc.ave_5best.pth"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optim": "sgdd"}, "optim 'sgdd'"),
        ({"optim_conf": {}}, "learning rate"),
        ({"scheduler": "warmuplrr"}, "did you mean 'warmuplr'?"),
        ({"model": "maskctc"}, "model 'maskctc'"),
        ({"batch_type": "catbel"}, "batch_type 'catbel'"),
        ({"frontend": "s3prl", "batch_type": "numel"}, "frames of this frontend"),
    ],
)
def test_what_has_no_counterpart_is_refused(options, says):
    with pytest.raises(UsageError, match=None) as e:
        mapped({**BASE, **options}, CHOSEN)
    assert says in str(e.value)


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from("abcd"), NESTED | VALUES, max_size=4))
def test_yaml_is_read_back(values):
    def close(a, b):
        if isinstance(a, dict):
            return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
        if isinstance(a, list):
            return len(a) == len(b) and all(map(close, a, b))
        same = type(a) is type(b)
        return same and (a == b or (isinstance(a, float) and abs(a - b) <= 1e-6 * abs(a)))

    assert close(values, yaml.safe_load(dumped(values)) or {})
