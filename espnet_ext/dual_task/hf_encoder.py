# SPDX-License-Identifier: Apache-2.0
"""Speech encoders of the wav2vec 2.0 family, from a folder of transformers to ESPnet's own encoder.

ESPnet's ``encoder: torchaudiohubert`` computes what transformers computes, so that stock inference
needs neither the folder nor this package. Its defaults are those of pre-training: they mask frames
and drop blocks, so :func:`describe` writes every option down. transformers, torch and torchaudio
are imported where weights are read; a configuration is read without them.

``dump/speech_encoder/`` has ``encoder.pth`` (weights under the names of an ESPnet ASR model),
``encoder.yaml`` (what a training configuration says about them) and ``about.json``.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.dual_task.speech_encoder import ABOUT, SECTIONS, WEIGHTS
from espnet_ext.errors import DataError, SetupError
from espnet_ext.files import atomic_dir, sha256_file, sha256_json, write_json

VARIABLE = "SPEECH_ENCODER"
TYPES = ("wav2vec2", "hubert")  # XLS-R is a wav2vec2
RATE_HZ = 16000
PREFIX = "encoder.hubert_pretrain_model."
# The only values that torchaudio's Transformer computes.
ONLY: dict[str, Any] = {
    "hidden_act": "gelu", "feat_extract_activation": "gelu", "layer_norm_eps": 1e-5,
    "add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False,
    "feat_proj_layer_norm": True,
}  # fmt: skip
_SAFE = (
    'save them as safetensors: python -c "from transformers import AutoModel; '
    "AutoModel.from_pretrained('NAME').save_pretrained('FOLDER')\""
)
_CONV = ("conv_dim", "conv_kernel", "conv_stride")  # a number for each convolution
_FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")


def locate(source: str) -> Path:
    """Return the folder of a speech encoder; a name of the hub is downloaded.

    Args:
        source: An absolute path, or a name such as ``facebook/hubert-large-ll60k``.

    Raises:
        SetupError: The name is not available, or not as safetensors.
        DataError: There is no such folder, or a file in it is missing.
    """
    if Path(source).is_absolute():
        folder = Path(source)
    else:
        from huggingface_hub import snapshot_download

        try:
            folder = Path(snapshot_download(source, allow_patterns=list(_FILES)))
        except Exception as e:  # of the hub, the network, a file: each has classes of its own
            what = f"'{source}' is not available and cannot be downloaded ({type(e).__name__})"
            how = (
                f"give a local folder: {VARIABLE}=/path/to/folder (config.json, model.safetensors)"
            )
            raise SetupError(what, VARIABLE, how) from None
        if not list(folder.glob("*.safetensors")):
            raise SetupError(f"the hub has no safetensors of '{source}'", VARIABLE, _SAFE)
    check_folder(folder)
    return folder


def check_folder(folder: Path) -> None:
    """Check that a folder has a configuration of a known type and weights; read neither weights.

    Raises:
        DataError: A file is missing, the weights are a pickle, or the type is not known.
    """
    if not folder.is_dir():
        how = f"{VARIABLE}=/path/to/folder ./run.sh: XLS-R, wav2vec 2.0 or HuBERT"
        raise DataError("there is no such folder of a speech encoder", folder, how)
    _given(folder)
    _normalised(folder)
    if not list(folder.glob("*.safetensors")):
        pickled = sorted(p.name for p in (*folder.glob("*.bin"), *folder.glob("*.pt")))
        how = _SAFE if pickled else f"{VARIABLE} names a folder with model.safetensors"
        what = f"the weights are a pickle ({pickled[0]})" if pickled else "there are no weights"
        raise DataError(f"{what}; model.safetensors is needed", folder, how)


def describe(folder: Path) -> dict[str, Any]:
    """Return what a training configuration of ESPnet says about an encoder.

    Args:
        folder: Of the encoder, with ``config.json`` and perhaps ``preprocessor_config.json``.

    Returns:
        ``{"encoder": ..., "encoder_conf": ..., "frontend": ..., "normalize": ..., ...}``. Audio is
        normalised to mean 0 and variance 1 of each utterance where the folder asks for it, by the
        model itself: training and stock inference do the same.

    Raises:
        DataError: The encoder is of an unknown type, or has what ESPnet's cannot compute.
    """
    config = _config(folder)
    layers = zip(*(config[key] for key in _CONV), strict=True)
    sections: dict[str, Any] = {
        "frontend": None, "frontend_conf": {}, "input_size": 1, "specaug": None,
        "specaug_conf": {}, "preencoder": None, "preencoder_conf": {}, "postencoder": None,
        "postencoder_conf": {}, "normalize": None, "normalize_conf": {},
    }  # fmt: skip
    if _normalised(folder):
        sections["normalize"] = "utterance_mvn"
        sections["normalize_conf"] = {"norm_means": True, "norm_vars": True}
    sections["encoder"] = "torchaudiohubert"
    sections["encoder_conf"] = {
        "extractor_mode": f"{config['feat_extract_norm']}_norm",
        "extractor_conv_layer_config": [list(map(int, x)) for x in layers],
        "extractor_conv_bias": config["conv_bias"],
        "encoder_embed_dim": config["hidden_size"],
        "encoder_projection_dropout": float(config["feat_proj_dropout"]),
        "encoder_pos_conv_kernel": config["num_conv_pos_embeddings"],
        "encoder_pos_conv_groups": config["num_conv_pos_embedding_groups"],
        "encoder_num_layers": config["num_hidden_layers"],
        "encoder_num_heads": config["num_attention_heads"],
        "encoder_attention_dropout": float(config["attention_dropout"]),
        "encoder_ff_interm_features": config["intermediate_size"],
        "encoder_ff_interm_dropout": float(config["activation_dropout"]),
        "encoder_dropout": float(config["hidden_dropout"]),
        "encoder_layer_norm_first": config["do_stable_layer_norm"],
        # Of pre-training, where ESPnet has other defaults: off.
        "encoder_layer_drop": 0.0, "mask_prob": 0.0, "mask_channel_prob": 0.0,
        "freeze_encoder_updates": 0, "finetuning": True,
        # Parts of pre-training that no loss reaches: as small as they can be.
        "num_classes": 1, "final_dim": 1,
    }  # fmt: skip
    return sections


def convert(folder: Path) -> dict[str, Any]:
    """Return the weights under the names of an ESPnet ASR model, every one of the folder's.

    Args:
        folder: Of the encoder.

    Raises:
        DataError: Weights are missing, of another size than the configuration says, or of layers
            that it does not have.
    """
    import torch
    from torchaudio.models.wav2vec2.utils import import_huggingface_model
    from transformers import AutoModel
    from transformers.utils import logging as hf_logging

    check_folder(folder)
    describe(folder)
    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()  # the error below says the same in short
    hf_logging.disable_progress_bar()
    try:
        model, told = AutoModel.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False,
            dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    except Exception as e:  # of transformers, safetensors, a file: each has classes of its own
        first = next(iter(str(e).strip().splitlines()), type(e).__name__)
        what = f"transformers cannot load the speech encoder: {first}"
        raise DataError(what, folder, "copy the folder again") from None
    finally:
        hf_logging.set_verbosity(before)
    masked = "masked_spec_embed"  # only pre-training needs it
    lost = sorted({str(k) for k in told["missing_keys"]} - {masked})
    lost += sorted(str(k[0] if isinstance(k, tuple) else k) for k in told["mismatched_keys"])
    if lost:
        what = f"{len(lost)} weights are missing or of another size than config.json says"
        raise DataError(f"{what}: {', '.join(lost[:3])}", folder, "copy the folder again")
    # Heads of pre-training (quantizer, lm_head, ...) are not wanted; layers of the encoder are.
    left = sorted(str(k) for k in told["unexpected_keys"] if "layers." in str(k))
    if left:
        what = f"{len(left)} weights are of layers that config.json does not have: {left[0]}"
        raise DataError(what, folder, "config.json and weights of one model")
    with _quiet("torchaudio.models.wav2vec2.utils.import_huggingface"):
        converted = import_huggingface_model(model).state_dict()
    state = {f"{PREFIX}wav2vec2.{k}": v for k, v in converted.items()}
    own = getattr(model, masked, None)
    if own is not None and masked not in told["missing_keys"]:
        state[f"{PREFIX}mask_generator.mask_embedding"] = own
    return {k: v.detach().clone() for k, v in state.items()}


def fingerprint(folder: Path) -> str:
    """Return what tells this encoder from others: of its configuration and its weights."""
    return sha256_json({p.name: sha256_file(p) for p in files(folder)})


def files(folder: Path) -> list[Path]:
    """Return the files of an encoder's folder that count."""
    return sorted(p for pattern in _FILES for p in folder.glob(pattern))


def prepare(source: str, out: Path) -> dict[str, Any]:
    """Write the folder of a converted encoder, unless it is there already.

    Args:
        source: Folder (an absolute path) or name on the hub.
        out: E.g. ``dump/speech_encoder``.

    Returns:
        What ``about.json`` says.

    Raises:
        SetupError, DataError: See :func:`locate`, :func:`describe`, :func:`convert`.
    """
    import torch

    folder = locate(source)
    config, mark = _config(folder), fingerprint(folder)
    try:
        known = json.loads((out / ABOUT).read_text(encoding="utf-8"))
        if known["fingerprint"] == mark and (out / WEIGHTS).is_file():
            return known
    except (OSError, ValueError, KeyError, TypeError):
        pass
    sections, state = describe(folder), convert(folder)
    about = {
        "source": source if not Path(source).is_absolute() else folder.name,
        "fingerprint": mark,
        "type": config["model_type"],
        "width": config["hidden_size"],
        "blocks": config["num_hidden_layers"],
        "parameters": sum(v.numel() for v in state.values()),
        "normalised": sections["normalize"] is not None,
        # Group normalisation is over all frames of a padded batch: padding changes them slightly.
        "padding_matters": config["feat_extract_norm"] == "group",
    }
    with atomic_dir(out) as tmp:
        torch.save(state, tmp / WEIGHTS)
        (tmp / SECTIONS).write_text(yaml.safe_dump(sections, sort_keys=True), encoding="utf-8")
        write_json(tmp / ABOUT, about)
    return about


def _config(folder: Path) -> dict[str, Any]:
    """Return the configuration with the defaults of its type, checked.

    Raises:
        DataError: It is missing, of an unknown type, or of a kind that ESPnet's cannot compute.
    """
    path, given = folder / "config.json", _given(folder)
    config = {**_defaults(given["model_type"]), **given}
    for key, value in ONLY.items():
        if key in config and config[key] != value:
            what = f"{key} is {config[key]}, and ESPnet's encoder can only compute {value}"
            raise DataError(what, path, "another speech encoder")
    if config["feat_extract_norm"] not in ("group", "layer"):
        raise DataError(f"feat_extract_norm is {config['feat_extract_norm']}", path, "group, layer")
    lists = [config[key] for key in _CONV]
    if not all(isinstance(x, list | tuple) for x in lists) or len({*map(len, lists)}) > 1:
        what = f"{', '.join(_CONV)} are not lists of one length"
        raise DataError(what, path, "copy the folder again")
    return config


def _given(folder: Path) -> dict[str, Any]:
    """Return the configuration as it is written, of a known type.

    Raises:
        DataError: It is missing, or of another type.
    """
    path = folder / "config.json"
    given = _read(path)
    if given is None:
        raise DataError("there is no configuration of a speech encoder", path, f"{VARIABLE}=FOLDER")
    if given.get("model_type") not in TYPES:
        what = f"the type of the speech encoder, '{given.get('model_type')}', is not known"
        raise DataError(what, path, f"known are {', '.join(TYPES)} (XLS-R is a wav2vec2)")
    return given


def _defaults(kind: str) -> dict[str, Any]:
    from transformers import HubertConfig, Wav2Vec2Config

    return {"wav2vec2": Wav2Vec2Config, "hubert": HubertConfig}[kind]().to_dict()


def _normalised(folder: Path) -> bool:
    """Whether the encoder wants audio of mean 0 and variance 1.

    Raises:
        DataError: It is for another sampling rate.
    """
    path = folder / "preprocessor_config.json"
    given = _read(path) or {}
    rate = given.get("sampling_rate", RATE_HZ)
    if rate != RATE_HZ:
        what = f"the speech encoder is for audio of {rate} Hz, and recipes make {RATE_HZ} Hz"
        raise DataError(what, path, f"an encoder for {RATE_HZ} Hz")
    return bool(given.get("do_normalize", True))  # transformers' default


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as e:
        raise DataError(f"cannot be read: {e}", path, "copy the folder again") from None
    if not isinstance(found, dict):
        raise DataError("no section of settings", path, "copy the folder again")
    return found
