# SPDX-License-Identifier: Apache-2.0
"""Where the pre-trained text encoder comes from: $TEXT_ENCODER, or nowhere."""

import json
import os
from pathlib import Path

VARIABLE = "TEXT_ENCODER"
RECORD = Path(".stages/tokens.json")  # of the stage that made dump/text_encoder


def encoder_source() -> str:
    """Return the folder (absolute) or hub name of the pre-trained encoder; empty for none.

    A relative path is meant from where run.sh was called. Unset after a first run means the same as
    then; ``TEXT_ENCODER=none`` goes back to an encoder of the recipe's own.
    """
    given = os.environ.get(VARIABLE)
    if given is None:
        try:
            return json.loads(RECORD.read_text(encoding="utf-8"))["settings"]["source"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
    if given in ("", "none"):
        return ""
    called_from = os.environ.get("ESPNET_EXT_CALLED_FROM") or os.getcwd()
    folder = Path(called_from, os.path.expanduser(given))
    looks_like_path = given.startswith((".", "/", "~")) or folder.is_dir()
    return os.path.abspath(folder) if looks_like_path else given
