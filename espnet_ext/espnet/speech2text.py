# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ``Speech2Text`` of a packed model, also of one that stock ESPnet cannot build."""

from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.archive import asr_files
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.espnet.loading import loading
from espnet_ext.espnet.search_options import check_lm, named_files
from espnet_ext.yamlfile import read_section


def build(config: Path | str, model_file: Path | str, **options: Any) -> Any:
    """Return ``espnet2.bin.asr_inference.Speech2Text``.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        options: Further arguments of ``Speech2Text``.

    Raises:
        DataError: The files do not fit together, or hold more than tensors.
        UsageError: The language model that the options name has other tokens.
    """
    from espnet_ext.espnet.checkpoint import check_tensors

    if named_files(options):
        known = read_section(config, "a training's configuration", DataError).get("token_list")
        check_lm(options, known if isinstance(known, list) else None, "Speech2Text")
    check_tensors(model_file, *(v for v in options.values() if str(v).endswith(".pth")))
    fastimport.enable()
    with quiet_import():  # in a process of its own, nobody keeps it from the terminal
        import espnet2.bin.asr_inference as asr_inference
    with loading(asr_inference, "ASRTask", config):
        return asr_inference.Speech2Text(str(config), str(model_file), **options)


class Speech2Text:
    """Stands where ESPnet's class would: ``Speech2Text.from_pretrained(archive)``."""

    @staticmethod
    def from_pretrained(archive: Path | str, **options: Any) -> Any:
        """Return ESPnet's ``Speech2Text`` of a packed model; the network is used for the hub only.

        Args:
            archive: Any packed ESPnet ASR model: archive, its folder, or a name on the hub.
            options: Arguments of ``Speech2Text``: ``beam_size``, ``ctc_weight``, ``device``, ...

        Raises:
            DataError: The archive is not usable.
            SetupError: The hub does not have it.
        """
        with asr_files(archive) as (config, model_file, rest):
            return build(config, model_file, **{**rest, **options})
