# SPDX-License-Identifier: Apache-2.0
"""Converted speech encoders compute what transformers computes; what is not possible is told."""

import json
import re

import numpy as np
import pytest
import tiny_speech_encoder as tiny
import torch
import yaml

from espnet_ext.dual_task import hf_encoder
from espnet_ext.errors import DataError, SetupError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.frames import encoder_of_config

fastimport.enable()
with quiet_import():
    from espnet2.layers.utterance_mvn import UtteranceMVN

LENGTHS = (16000, 12000)


@pytest.fixture
def waves():
    rng = np.random.default_rng(1)
    return [(0.1 * rng.standard_normal(n) + 0.02).astype(np.float32) for n in LENGTHS]


def padded(waves, scale=1.0):
    rows = [scale * torch.from_numpy(w) for w in waves]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def encode(encoder, waves, scale=1.0):
    """Audio to frames as the ASR model does it: normalised, then encoded."""
    lengths = torch.tensor([len(w) for w in waves])
    mvn = UtteranceMVN(norm_means=True, norm_vars=True)
    with torch.no_grad():
        return encoder(*mvn(padded(waves, scale), lengths))[:2]


@pytest.mark.parametrize(
    ("kind", "norm", "stable"),
    [
        ("wav2vec2", "layer", True),  # XLS-R, wav2vec 2.0 large
        ("wav2vec2", "group", False),  # wav2vec 2.0 base
        ("hubert", "layer", True),  # HuBERT large
        ("hubert", "group", False),  # HuBERT base
    ],
)
def test_a_padded_batch_gives_what_transformers_gives(kind, norm, stable, waves, tmp_path):
    from transformers import Wav2Vec2FeatureExtractor

    bias = norm == "layer"
    folder = tmp_path / "encoder"
    theirs = tiny.write(
        folder, kind, feat_extract_norm=norm, do_stable_layer_norm=stable, conv_bias=bias
    )
    sections, state = hf_encoder.describe(folder), hf_encoder.convert(folder)
    assert sections["normalize_conf"] == {"norm_means": True, "norm_vars": True}
    encoder = tiny.espnet_encoder(sections, state)
    processor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True)
    given = processor(waves, sampling_rate=16000, padding=True, return_tensors="pt")
    with torch.no_grad():
        wanted = theirs(given.input_values, attention_mask=given.attention_mask)[0]
        same_audio, lengths, _ = encoder(given.input_values, torch.tensor(LENGTHS))
    ours, _ = encode(encoder, waves)
    frames = encoder_of_config(sections)
    assert lengths.tolist() == [frames.frames(n) for n in LENGTHS] == [50, 37]
    for i, n in enumerate(lengths):
        assert torch.equal(same_audio[i, :n], wanted[i, :n])
        torch.testing.assert_close(ours[i, :n], wanted[i, :n], rtol=0, atol=1e-5)
    # Training without dropout gives the same: nothing is masked, no block is left out.
    trained, _ = encode(tiny.without_dropout(encoder).train(), waves)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(trained[i, :n], ours[i, :n], rtol=0, atol=1e-6)


def test_loudness_does_not_matter_and_padding_neither(waves, tmp_path):
    tiny.write(tmp_path / "encoder")
    sections, state = (f(tmp_path / "encoder") for f in (hf_encoder.describe, hf_encoder.convert))
    encoder = tiny.espnet_encoder(sections, state)
    batch, lengths = encode(encoder, waves)
    quiet, _ = encode(encoder, waves, scale=0.1)
    for i, n in enumerate(lengths):
        alone, _ = encode(encoder, waves[i : i + 1])
        torch.testing.assert_close(alone[0], batch[i, :n], rtol=0, atol=2e-5)
        torch.testing.assert_close(quiet[i, :n], batch[i, :n], rtol=0, atol=2e-5)
    # Silence has no variance.
    silent, _ = encode(encoder, [np.zeros(16000, np.float32)])
    assert silent.isfinite().all()


def test_a_folder_is_converted_once_and_again_when_it_changes(tmp_path, caplog):
    source, out = tmp_path / "encoder", tmp_path / "dump/speech_encoder"
    model = tiny.write(source, preprocessor={"do_normalize": False})
    about = hf_encoder.prepare(str(source), out)
    assert not caplog.records  # nothing about heads that nobody asked for
    sections = yaml.safe_load((out / "encoder.yaml").read_text())
    assert sections["normalize"] is None and sections["encoder"] == "torchaudiohubert"
    state = torch.load(out / "encoder.pth", weights_only=True)
    # Every parameter of the folder, and no other: 315,438,720 for XLS-R-300M.
    assert about["parameters"] == sum(p.numel() for p in model.parameters())
    assert about["parameters"] == sum(v.numel() for v in state.values())
    written = (out / "encoder.pth").stat().st_mtime_ns
    assert hf_encoder.prepare(str(source), out) == about
    assert (out / "encoder.pth").stat().st_mtime_ns == written
    tiny.write(source, hidden_size=48)
    other = hf_encoder.prepare(str(source), out)
    assert other["fingerprint"] != about["fingerprint"] and other["width"] == 48


def test_sizes_of_xls_r_300m(tmp_path):
    """ESPnet's encoder of its configuration, on the meta device, has the published size."""
    from torchaudio.models import wav2vec2_model
    from transformers import Wav2Vec2Config

    from espnet_ext.dual_task.counts import XLSR_300M

    Wav2Vec2Config(**XLSR_300M).save_pretrained(tmp_path)
    conf = hf_encoder.describe(tmp_path)["encoder_conf"]
    own = {k: v for k, v in conf.items() if k.startswith(("extractor_", "encoder_"))}
    with torch.device("meta"):
        model = wav2vec2_model(**own, aux_num_out=None)
    mask_embedding = conf["encoder_embed_dim"]  # of the class around it
    assert sum(p.numel() for p in model.parameters()) + mask_embedding == 315_438_720
    assert conf["mask_prob"] == conf["encoder_layer_drop"] == 0 and conf["finetuning"]


def _broken(folder, change):
    tiny.write(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, **change}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "wavlm"}, "'wavlm', is not known.*known are wav2vec2, hubert"),
        ({"model_type": "w2v-bert"}, "is not known"),
        ({"hidden_act": "relu"}, "hidden_act is relu"),
        ({"add_adapter": True}, "add_adapter is True"),
        ({"intermediate_size": 64}, "of another size|cannot load"),
        ({"num_hidden_layers": 1}, "of layers that config.json does not have"),
        ({"num_hidden_layers": 3}, "weights are missing"),
        ({"conv_stride": [5]}, "are not lists of one length.*copy the folder"),
        ({"conv_dim": "8"}, "are not lists of one length"),
    ],
)
def test_what_cannot_be_converted_is_told(change, said, tmp_path):
    _broken(tmp_path / "encoder", change)
    with pytest.raises(DataError) as e:
        hf_encoder.convert(tmp_path / "encoder")
    assert re.search(said, str(e.value).replace("\n", " ")), str(e.value)


def test_what_is_missing_is_told(tmp_path):
    folder = tmp_path / "encoder"
    with pytest.raises(DataError, match="no such folder"):
        hf_encoder.locate(str(folder))
    folder.mkdir()
    with pytest.raises(DataError, match="no configuration"):
        hf_encoder.locate(str(folder))
    tiny.write(folder, preprocessor={"sampling_rate": 8000})
    with pytest.raises(DataError, match="audio of 8000 Hz"):
        hf_encoder.describe(folder)
    tiny.write(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match="there are no weights"):
        hf_encoder.locate(str(folder))
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(DataError, match=r"pickle \(pytorch_model.bin\)(.|\n)*save_pretrained"):
        hf_encoder.locate(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        hf_encoder.locate(str(folder))


def test_a_name_that_is_not_available_is_told(monkeypatch, tmp_path):
    import huggingface_hub

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(SetupError, match="cannot be downloaded"):
        hf_encoder.locate("someone/some-encoder")
    # Only configurations and safetensors are downloaded, so a pickle is not even here.
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: str(tmp_path))
    with pytest.raises(SetupError, match=r"no safetensors of(.|\n)*save_pretrained"):
        hf_encoder.locate("someone/some-encoder")
