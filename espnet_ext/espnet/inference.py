# SPDX-License-Identifier: Apache-2.0
"""ESPnet's own inference, on models that it cannot build by itself.

``python -m espnet_ext.espnet.inference asr|st [options of espnet2.bin.{asr,st}_inference]``
"""

import importlib
import sys

from espnet_ext.errors import EspnetExtError, UsageError, nearest
from espnet_ext.espnet.compat import prepare_espnet

TASKS = {"asr": "ASRTask", "st": "STTask"}


def main(argv: list[str]) -> None:
    """Run it.

    Args:
        argv: ``asr`` or ``st``, then options of ESPnet's program.

    Raises:
        UsageError: There is no such program, or the model is not given by its files.
        DataError: Configuration and checkpoint do not fit together.
    """
    kind, options = (argv or [""])[0], argv[1:]
    if kind not in TASKS:
        raise UsageError(f"there is no inference '{kind}'", None, nearest(kind, [*TASKS]))
    prepare_espnet()
    from espnet_ext.espnet.loading import loading

    module = importlib.import_module(f"espnet2.bin.{kind}_inference")
    config = getattr(module.get_parser().parse_args(options), f"{kind}_train_config")
    if not config:
        how = f"--{kind}_train_config config.yaml --{kind}_model_file model.pth"
        raise UsageError("the model is not given", f"--{kind}_train_config", how)
    with loading(module, TASKS[kind], config):
        module.main(options)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except EspnetExtError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
