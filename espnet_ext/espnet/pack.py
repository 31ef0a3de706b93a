# SPDX-License-Identifier: Apache-2.0
"""Pack a trained model as ESPnet does."""

from collections.abc import Iterable
from pathlib import Path

from espnet_ext.espnet import fastimport


def pack_asr(config: Path, model: Path, named: Iterable[Path], archive: Path) -> None:
    """Write an archive that ``Speech2Text.from_pretrained`` takes; no network is used.

    Args:
        config: ``config.yaml`` of the training.
        model: Checkpoint, a ``.pth`` file of parameters.
        named: Further files that the configuration names, e.g. the BPE model.
        archive: The file to write; ESPnet chooses the format by its ending.
    """
    fastimport.enable()
    from espnet2.main_funcs.pack_funcs import pack

    pack(
        files={"asr_model_file": model},
        yaml_files={"asr_train_config": config},
        option=list(named),
        outpath=archive,
    )
