# SPDX-License-Identifier: Apache-2.0
"""Folders of random wav2vec2-type encoders, as transformers writes them, of some kilobytes."""

import json

import torch

# Fewer channels in a group of the positional convolution, and oneDNN 3 is wrong in bfloat16.
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
    "conv_dim": (16, 16, 16), "conv_kernel": (10, 8, 4), "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip
OF_ENCODER = ("--frontend", "--specaug", "--normalize", "--encoder")
XLSR = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def write(folder, kind="wav2vec2", preprocessor=None, **changes):
    """Write config.json, model.safetensors and preprocessor_config.json; return the model."""
    from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    config, model = {
        "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model), "hubert": (HubertConfig, HubertModel)
    }[kind]  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model(config(**{**SMALL, **XLSR, **changes})).eval()
        made.save_pretrained(folder)
    about = {"do_normalize": True, "sampling_rate": 16000, **(preprocessor or {})}
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return made


def training(argv, folder):
    """Return options of a training on a new speech encoder, converted below ``folder``.

    Args:
        argv: Of a training with an encoder of its own.
        folder: To write to.
    """
    from espnet_ext.dual_task import hf_encoder

    write(folder / "encoder")
    hf_encoder.prepare(str(folder / "encoder"), folder / "dump/speech_encoder")
    pairs = [p for p in zip(argv[::2], argv[1::2], strict=True) if not p[0].startswith(OF_ENCODER)]
    own = ["--dual_task", f"speech_encoder={folder / 'dump/speech_encoder'}"]
    return [*(x for p in pairs for x in p), *own]


def espnet_encoder(sections, state):
    """Return ESPnet's encoder with converted weights, in evaluation."""
    from espnet2.asr.encoder.hubert_encoder import TorchAudioHuBERTPretrainEncoder

    encoder = TorchAudioHuBERTPretrainEncoder(input_size=1, **sections["encoder_conf"]).eval()
    own = {k.removeprefix("encoder."): v for k, v in state.items()}
    told = encoder.load_state_dict(own, strict=False)
    assert not told.unexpected_keys
    # Of pre-training, which no loss reaches, and a counter; nothing else keeps random numbers.
    rest = ("global_step", "hubert_pretrain_model.logit_generator.")
    assert all(k.startswith(rest) for k in told.missing_keys)
    return encoder


def without_dropout(encoder):
    """Switch off dropout, that of the attention included."""
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "head_dim"):
            module.dropout = 0.0
    return encoder
