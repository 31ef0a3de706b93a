# SPDX-License-Identifier: Apache-2.0
"""From a folder of transformers to a packed model: trained by ours, decoded by stock ESPnet."""

import shutil
from argparse import Namespace
from pathlib import Path

import dual_recipe as toy
import numpy as np
import pytest
import tiny_speech_encoder as tiny
import torch
import yaml
from warm import run_stock

from espnet_ext.dual_task import complete_config, needs, speech_encoder
from espnet_ext.dual_task.facts import gather
from espnet_ext.dual_task.load import load_model
from espnet_ext.dual_task.options import resolve
from espnet_ext.dual_task.stages import pack
from espnet_ext.dual_task.understand import SpeechUnderstander
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet import checkpoint, train
from espnet_ext.frames import encoder_of_config

TASK = "espnet_ext.dual_task.task:DualTask"
CNN = "encoder.hubert_pretrain_model.wav2vec2.feature_extractor"
BLOCK = "encoder.hubert_pretrain_model.wav2vec2.encoder.transformer.layers"


@pytest.fixture(scope="module")
def raw_argv(dual_argv, tmp_path_factory):
    """Options without an encoder of their own, as the recipes of large corpora have them."""
    return tiny.training(dual_argv, tmp_path_factory.mktemp("converted"))


@pytest.fixture(scope="module")
def converted(raw_argv):
    return Path(raw_argv[-1].removeprefix("speech_encoder="))


@pytest.fixture(scope="module")
def recipe(raw_argv, dual_data, tmp_path_factory):
    """A pretraining, and from it a model with a Bi-LSTM and one that stock ESPnet loads."""
    return toy.make(tmp_path_factory.mktemp("raw") / "recipe", dual_data, raw_argv)


def waves(scale=1.0):
    rng = np.random.default_rng(4)
    return [(scale * 0.1 * rng.standard_normal(n)).astype(np.float32) for n in (16000, 9000)]


def test_the_configuration_needs_nothing_else(recipe, converted, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((recipe / "exp/base/finetune/config.yaml").read_text())
    sections = yaml.safe_load((converted / "encoder.yaml").read_text())
    assert {k: config[k] for k in sections} == sections
    config["dual_task"]["speech_encoder"] = "gone"
    conf, facts = gather(Namespace(**config), "finetune")
    assert conf.speech_encoder == "gone" and facts.frames.shift_s == 0.02


def test_a_training_starts_from_the_converted_weights(recipe, converted):
    given = torch.load(converted / "encoder.pth", weights_only=True)
    phases = (recipe / "exp/base" / x / toy.MODEL for x in ("pretrain", "finetune"))
    first, last = map(checkpoint.load, phases)
    assert given.keys() <= first.keys() and f"{BLOCK}.0.layer_norm.weight" in given
    still = {k for k in given if k.startswith((CNN, "encoder.hubert_pretrain_model.mask_"))}
    for k, value in given.items():
        assert torch.equal(first[k], value) == torch.equal(last[k], value) == (k in still), k
        torch.testing.assert_close(last[k], value, rtol=0, atol=0.1)


def test_loudness_does_not_matter(recipe, monkeypatch, tmp_path):
    """The normalisation is part of the model, so it is the same in training and afterwards."""
    monkeypatch.chdir(recipe)
    ctx = toy.context("pack", "base")
    pack.run(ctx, pack.plan(ctx))
    shutil.copy(pack.plan(ctx).makes[0], tmp_path / "m.zip")
    monkeypatch.chdir(tmp_path)
    model = SpeechUnderstander.from_pretrained("m.zip")
    assert type(model.model.normalize).__name__ == "WaveMVN"  # else 10 s take tens of GB
    loud, quiet = model.embed(waves()), model.embed(waves(0.1))
    np.testing.assert_allclose(quiet, loud, rtol=0, atol=1e-5)
    for one, row in zip(waves(), loud, strict=True):
        np.testing.assert_allclose(model.embed([one])[0], row, rtol=0, atol=1e-5)
    training = model.model.train()
    for module in tiny.without_dropout(training).modules():
        if isinstance(module, torch.nn.LSTM):
            module.dropout = 0.0
    with torch.no_grad():
        for scale in (1.0, 0.1):
            speech = torch.from_numpy(waves(scale)[0])[None]
            vector = training.embed(*training.encode(speech, torch.tensor([16000])))
            np.testing.assert_allclose(vector[0], loud[0], rtol=0, atol=1e-5)


def test_stock_espnet_decodes_what_ours_decodes(recipe, monkeypatch, tmp_path):
    """In a process that has no espnet_ext, and without the folder of the encoder."""
    monkeypatch.chdir(recipe)
    ctx = toy.context("pack", "stock")
    pack.run(ctx, pack.plan(ctx))
    shutil.copy(pack.plan(ctx).makes[0], tmp_path / "m.zip")
    np.savez(tmp_path / "x.npz", *waves())
    code = (
        "import numpy as np\n"
        "from espnet2.bin.asr_inference import Speech2Text\n"
        "asr = Speech2Text.from_pretrained('m.zip', ctc_weight=1.0, beam_size=1)\n"
        "for x in np.load('x.npz').values(): print('said', asr(x)[0][0])\n"
    )
    said = [x for x in run_stock(code, tmp_path).splitlines() if x.startswith("said ")]
    stock = [" ".join(x.removeprefix("said ").split()) for x in said]
    ours = SpeechUnderstander.from_pretrained(tmp_path / "m.zip")
    assert stock == [ours([x])[0].tagged for x in waves()] and all(stock)


@pytest.mark.parametrize(
    ("options", "moves"),
    [
        (("train_cnn=true", "gradient_checkpointing=true", "bf16=true"), {CNN, f"{BLOCK}.0"}),
        (("freeze_layers=1",), set()),
    ],
)
def test_what_is_trained(options, moves, raw_argv, converted, tmp_path):
    more = ["--max_epoch", "2", "--keep_nbest_models", "2"]
    given = [x for o in options for x in ("--dual_task", o)]
    train.run(TASK, [*raw_argv, *given, *more, "--output_dir", str(tmp_path / "exp")])
    before = torch.load(converted / "encoder.pth", weights_only=True)
    after = checkpoint.load(tmp_path / "exp/2epoch.pth")
    for part in (CNN, f"{BLOCK}.0", f"{BLOCK}.1"):
        names = [k for k in before if k.startswith(f"{part}.")]
        changed = [k for k in names if not torch.equal(before[k], after[k])]
        assert changed == (names if part in moves or part.endswith("1") else []), part
    average = checkpoint.load(tmp_path / "exp/valid.loss.ave_2best.pth")
    assert average["encoder.global_step"].item() == 0


def test_what_the_recipe_sees(converted, monkeypatch, tmp_path):
    """Frames are known before and after stage 2; the training depends on the encoder."""
    monkeypatch.chdir(tmp_path)
    section = {"dual_task": {"speech_encoder": "dump/speech_encoder"}, "max_epoch": 3}
    assert encoder_of_config(complete_config(section)).frames(400) == 1
    sentences = Path("dump/sentences/about.json")
    assert needs("m:DualTask", section) == [Path("dump/speech_encoder/about.json"), sentences]
    assert needs("m:DualTask", {"dual_task": {}}) == [sentences]
    phones = {"dual_task": {"schedule": "slu", "pretrain": "phones"}}
    assert needs("m:DualTask", phones) == []
    assert needs("m:PretrainTask", phones) == [Path("data/phones.txt")]
    assert complete_config({"encoder": "rnn"}) == {"encoder": "rnn"}
    with pytest.raises(DataError, match=r"not been converted(.|\n)*SPEECH_ENCODER="):
        speech_encoder.apply(Namespace(), resolve(section["dual_task"]))
    shutil.copytree(converted, "dump/speech_encoder")
    own = {**section, "encoder_conf": {"encoder_dropout": 0.3, "mask_prob": 0.1}}
    whole = complete_config(own)
    assert whole["max_epoch"] == 3 and whole["encoder_conf"]["encoder_dropout"] == 0.3
    assert (
        whole["encoder_conf"]["encoder_embed_dim"] == 32 and whole["normalize"] == "utterance_mvn"
    )
    args = Namespace(**own, init_param=["other.pth:encoder:encoder"])
    speech_encoder.apply(args, resolve(section["dual_task"]))
    assert args.encoder_conf == whole["encoder_conf"] and args.frontend is None
    # An earlier phase's weights come last, and stay.
    assert args.init_param == ["dump/speech_encoder/encoder.pth:encoder:encoder",
                               "other.pth:encoder:encoder"]  # fmt: skip
    for key, value in (("encoder", "conformer"), ("specaug", "specaug"), ("frontend", "default")):
        with pytest.raises(UsageError, match=f"goes without this {key}"):
            complete_config({**section, key: value})
    with pytest.raises(UsageError, match="settled by the weights"):
        complete_config({**section, "encoder_conf": {"encoder_num_layers": 3}})


def test_an_utterance_without_a_frame_is_named(recipe):
    config = recipe / "exp/stock/finetune/config.yaml"
    model, _ = load_model(config, (recipe / "exp/stock/finetune" / toy.MODEL).resolve())
    first = next(n for n in range(1, 1000) if model.frames.frames(n))
    short = {"speech": torch.randn(2, 4000), "text": torch.tensor([[2, 6]] * 2)}
    two = torch.tensor([2, 2])
    lengths = {"speech_lengths": torch.tensor([4000, first - 1]), "text_lengths": two}
    model.train()
    with pytest.raises(DataError, match="utterance b"):
        model(**short, **lengths, sentence=torch.randn(2, 6), utt_id=["a", "b"])
    lengths["speech_lengths"][1] = first
    assert model(**short, **lengths, sentence=torch.randn(2, 6), utt_id=["a", "b"])[0].isfinite()


def test_a_resumed_training_has_the_same_bits(raw_argv, tmp_path):
    options = [x for o in ("train_cnn=true", "gradient_checkpointing=true") for x in
               ("--dual_task", o)]  # fmt: skip
    for name, epochs in (("whole", "2"), ("parts", "1"), ("parts", "2")):
        out = ["--max_epoch", epochs, "--output_dir", str(tmp_path / name)]
        train.run(TASK, [*raw_argv, *options, *out])
    whole, parts = (checkpoint.load(tmp_path / x / "2epoch.pth") for x in ("whole", "parts"))
    assert all(torch.equal(v, parts[k]) for k, v in whole.items())
