# SPDX-License-Identifier: Apache-2.0
"""espnet-ext probe on ESPnet's own encoders: loading, freezing, the whole command, its misuse."""

import json

import numpy as np
import pytest
import torch
import yaml
from superb_sets import FS, tone, write
from tiny_encoder import KINDS, make_model

from espnet_ext.cli import main
from espnet_ext.data.utterances import utterances
from espnet_ext.errors import DataError
from espnet_ext.espnet.frozen import load_frozen, model_files
from espnet_ext.multistage.superb.classification import Keywords
from espnet_ext.multistage.superb.features import Encoder, Features, keep


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("superb") / "exp" / "pretrain")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("superb_data")
    for seed, name in enumerate(("train", "dev", "test")):
        words = {f"{name}{i}": "ab"[(i + seed) % 2] for i in range(6)}
        write(root / name, {u: tone(f"{w} {w} {w}") for u, w in words.items()}, words)
    return root


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_those_of_the_encoder(tmp_path, kind):
    with model_files(make_model(tmp_path / "m", kind)) as (config, checkpoint):
        frozen = load_frozen(config, checkpoint)
        state = torch.load(checkpoint, weights_only=True)
    own = frozen.state_dict()
    assert {k: v.tolist() for k, v in own.items()} == {
        k: v.tolist() for k, v in state.items() if not k.startswith("decoder.")
    }
    assert not any(p.requires_grad for p in frozen.parameters())
    assert not any(m.training for m in frozen.modules())
    encoder = Encoder(frozen)
    assert (encoder.count, encoder.width, encoder.frame_s) == (3, 8, 0.04)
    speech = tone("a b c")
    layers = encoder.layers(speech)
    with torch.no_grad():
        feats, lengths = frozen.frontend(torch.tensor(speech)[None], torch.tensor([len(speech)]))
        out, _, _ = frozen.encoder(*frozen.normalize(feats, lengths))
    assert np.allclose(layers[:, -1], out[0].numpy(), atol=2e-3)
    after = frozen.state_dict()
    assert all(torch.equal(after[k], own[k]) for k in own)
    encoder.layers(np.zeros(10, np.float32))
    assert encoder.padded == 1


def test_the_command_learns_and_writes_json(tmp_path, model, data, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = [
        "--updates",
        "60",
        "--rate",
        "0.05",
        "--batch",
        "6",
        "--evaluations",
        "2",
        "--width",
        "8",
    ]
    command = ["probe", "--model", str(model), "--task", "ks", "--data", str(data), *options]
    assert main(command) == 0
    assert "ks: accuracy 100.00 % -> probe_ks.json" in capsys.readouterr().out
    found = json.loads((tmp_path / "probe_ks.json").read_text())
    assert found["score"] == 100
    assert found["frame_shift_samples"] == 640
    assert len(found["layer_weights"]) == 3
    assert not found["protocol"]
    kept = sorted((tmp_path / "probe_cache").iterdir())
    before = [p.stat().st_mtime_ns for p in kept]
    assert main([*command, "--out", "again.json"]) == 0
    assert [p.stat().st_mtime_ns for p in kept] == before
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["curve"] == found["curve"] and again["padded"] == found["padded"]


def test_what_is_not_finite_gets_no_score(tmp_path, data, capsys, monkeypatch):
    model = make_model(tmp_path / "m")
    argv = ["--model", model, "--task", "ks", "--data", data, "--cache", tmp_path / "c"]
    argv += ["--out", tmp_path / "o.json", "--updates", "4", "--evaluations", "2"]
    with monkeypatch.context() as m:
        loss = Keywords.loss
        m.setattr(Keywords, "loss", lambda *args: loss(*args) * torch.nan)
        code, err = told(capsys, *argv)
    assert code == 3 and "training diverged: loss nan" in err
    state = torch.load(model / "valid.loss.best.pth", weights_only=True)
    state["encoder.after_norm.weight"][0] = torch.nan
    torch.save(state, model / "valid.loss.best.pth")
    code, err = told(capsys, *argv)
    assert code == 3 and "output is not finite for 'train0'" in err
    assert not (tmp_path / "o.json").exists()


def test_short_utterances_are_counted_once_kept_or_not(tmp_path, model):
    folder = write(tmp_path / "s", {u: tone("a") for u in "ab"}, dict.fromkeys("ab", "x"))
    with model_files(model) as (config, checkpoint):
        encoder = Encoder(load_frozen(config, checkpoint))
    rows = utterances(folder)
    kept = keep(rows, encoder, tmp_path / "kept", "m")
    for found in (Features(rows, encoder), Features(rows, encoder, kept)):
        found.get(0)
        assert found.padded == 2


def told(capsys, *argv):
    code = main(["probe", *map(str, argv)])
    return code, capsys.readouterr().err


def test_misuse(tmp_path, model, data, capsys):
    code, err = told(capsys, "--model", model, "--task", "kss", "--data", data)
    assert (code, "did you mean 'ks'?" in err) == (2, True)
    code, err = told(capsys, "--model", tmp_path / "no", "--task", "ks", "--data", data)
    assert (code, "there is no such model" in err) == (3, True)
    code, err = told(capsys, "--model", model, "--task", "sd", "--data", data)
    assert (code, "rttm is missing" in err) == (3, True)
    code, err = told(capsys, "--model", model, "--task", "ks", "--data", tmp_path)
    assert (code, "there is no such set" in err) == (3, True)


@pytest.mark.parametrize("wrong", ["no encoder", "no tensors", "other width", "missing tensor"])
def test_models_that_cannot_be_probed(tmp_path, wrong):
    folder = make_model(tmp_path / "m")
    config, checkpoint = folder / "config.yaml", folder / "valid.loss.best.pth"
    values, state = yaml.safe_load(config.read_text()), torch.load(checkpoint, weights_only=True)
    if wrong == "no encoder":
        del values["encoder"]
    if wrong == "no tensors":
        state = {k: v for k, v in state.items() if not k.startswith("encoder.")}
    if wrong == "other width":
        values["encoder_conf"]["linear_units"] = 32
    if wrong == "missing tensor":
        del state["encoder.after_norm.weight"]
    config.write_text(yaml.safe_dump(values))
    torch.save(state, checkpoint)
    with pytest.raises(DataError, match=r"no encoder|no tensor encoder|does not fit"):
        load_frozen(config, checkpoint)


def test_sampling_rate_is_that_of_the_configuration(model):
    with model_files(model.parent) as (config, checkpoint):
        assert load_frozen(config, checkpoint).fs == FS
