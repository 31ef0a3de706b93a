# SPDX-License-Identifier: Apache-2.0
"""A trained classifier from its files, without ESPnet."""

from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.espnet.archive import read_yaml
from espnet_ext.espnet.checkpoint import load
from espnet_ext.ml_lmcl.model_files import is_intent_config
from espnet_ext.ml_lmcl.network import ClassifyNetwork
from espnet_ext.ml_lmcl.options import resolve_trained
from espnet_ext.ml_lmcl.preprocess import read_label_lists
from espnet_ext.text.tokenizer import TextTokenizer


def load_classifier(
    config: Path | str, model_file: Path | str, device: str = "cpu", base: Path | str = "."
) -> tuple[ClassifyNetwork, TextTokenizer, dict[str, list[str]]]:
    """Load a network in evaluation mode, its tokenizer and the labels of each head.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        device: ``cpu`` or ``cuda``.
        base: Folder that relative paths in the configuration are meant from.

    Raises:
        DataError: The files are not those of a classifier of transcripts.
    """
    args = read_yaml(Path(config), "the configuration")
    if not is_intent_config(args):
        raise DataError(
            "it is not the configuration of a classifier of transcripts", config,
            "train one with a recipe egs2/<corpus>/ml_lmcl1",
        )  # fmt: skip
    conf = resolve_trained(args["ml_lmcl"])
    folder, lists = Path(base, args["text_encoder"]), read_label_lists(Path(base, args["labels"]))
    tokenizer = TextTokenizer(folder, conf.max_tokens)
    classes = {head: len(names) for head, names in lists.items()}
    network = ClassifyNetwork(conf, str(folder), classes, tokenizer.about.pad_id, weights=False)
    state = load(model_file)
    try:
        network.load_state_dict(state)
    except RuntimeError as e:
        how = "take configuration and checkpoint of the same training"
        raise DataError(f"the checkpoint does not fit: {e}", model_file, how) from None
    return network.to(device).eval(), tokenizer, lists
