# SPDX-License-Identifier: Apache-2.0
"""Pack a trained model as ESPnet does."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_ext.espnet import fastimport
from espnet_ext.files import atomic_path


def pack_asr(
    config: Path,
    model: Path,
    named: Iterable[Path],
    archive: Path,
    search: Mapping[str, Path] | None = None,
) -> None:
    """Write an archive that ``Speech2Text.from_pretrained`` takes; no network is used.

    Args:
        config: ``config.yaml`` of the training.
        model: Checkpoint, a ``.pth`` file of parameters.
        named: Further files that the configuration names, e.g. the BPE model.
        archive: The zip file to write, atomically.
        search: Further files by option of ``Speech2Text``: ``lm_train_config`` and ``lm_file``.
    """
    more = dict(search or {})
    yaml_files = {k: more.pop(k) for k in [*more] if k.endswith("_config")}
    fastimport.enable()
    from espnet2.main_funcs.pack_funcs import pack

    with atomic_path(archive) as tmp:
        # The packer goes by the ending; files.sweep knows this name after a kill.
        zipped = tmp.with_name(f"{tmp.name}.zip")
        try:
            pack(
                files={"asr_model_file": model, **more},
                yaml_files={"asr_train_config": config, **yaml_files},
                option=list(named),
                outpath=zipped,
            )
            zipped.rename(tmp)
        finally:
            zipped.unlink(missing_ok=True)
