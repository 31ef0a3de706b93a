# SPDX-License-Identifier: Apache-2.0
"""Small encoders with random weights, in the files that a training of ESPnet leaves."""

import torch
import yaml

CONF = {"output_size": 8, "attention_heads": 2, "linear_units": 16, "num_blocks": 2}
KINDS = {
    "conformer": {**CONF, "cnn_module_kernel": 7, "rel_pos_type": "latest"},
    "e_branchformer": {**CONF, "cgmlp_linear_units": 16, "cgmlp_conv_kernel": 7,
                       "merge_conv_kernel": 3},
    "transformer": CONF,
}  # fmt: skip


def make_model(folder, kind="conformer"):
    """Write configuration and checkpoint as a training would; more tensors than the encoder's."""
    from espnet_ext.espnet.compat import prepare_espnet, quiet_import

    prepare_espnet()
    with quiet_import():
        from espnet2.tasks.asr import encoder_choices, frontend_choices

    torch.manual_seed(0)
    front = frontend_choices.get_class("default")(fs="16k", hop_length=160)
    parts = {"frontend": front, "encoder": encoder_choices.get_class(kind)(80, **KINDS[kind])}
    state = {f"{n}.{k}": v for n, m in parts.items() for k, v in m.state_dict().items()}
    state |= {"normalize.mean": torch.full((80,), -3.0), "normalize.std": torch.full((80,), 2.0)}
    state["decoder.weight"] = torch.zeros(2)
    config = {
        "frontend": "default", "frontend_conf": {"fs": "16k", "hop_length": 160},
        "normalize": "global_mvn", "normalize_conf": {"stats_file": "gone.npz"},
        "encoder": kind, "encoder_conf": KINDS[kind],
        "best_model_criterion": [["valid", "loss", "min"]],
    }  # fmt: skip
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(state, folder / "valid.loss.best.pth")
    return folder
