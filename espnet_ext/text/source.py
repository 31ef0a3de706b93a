# SPDX-License-Identifier: Apache-2.0
"""Where a pre-trained encoder comes from: $TEXT_ENCODER, $SENTENCE_ENCODER, $SPEECH_ENCODER."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A variable that names a folder or a model of the hub, and where a run writes down its value.

    Attributes:
        variable: Of the environment.
        record: Of the stage that used it: unset after a first run means the same as then.
        key: Of the record's settings.
    """

    variable: str
    record: Path
    key: str


TEXT = Source("TEXT_ENCODER", Path(".stages/tokens.json"), "source")
SENTENCE = Source("SENTENCE_ENCODER", Path(".stages/format.json"), "sentence_encoder")
SPEECH = Source("SPEECH_ENCODER", Path(".stages/format.json"), "speech_encoder")
VARIABLE, RECORD = TEXT.variable, TEXT.record


def encoder_source(kind: Source = TEXT) -> str:
    """Return the folder (absolute) or hub name of the pre-trained encoder; empty for none.

    A relative path is meant from where run.sh was called. Unset after a first run means the same as
    then; ``TEXT_ENCODER=none`` goes back to the recipe's own encoder.
    """
    given = os.environ.get(kind.variable)
    if given is None:
        return _remembered(kind)
    if given in ("", "none"):
        return ""
    called_from = os.environ.get("ESPNET_EXT_CALLED_FROM") or os.getcwd()
    folder = Path(called_from, os.path.expanduser(given))
    looks_like_path = given.startswith((".", "/", "~")) or folder.is_dir()
    return os.path.abspath(folder) if looks_like_path else given


_read: dict[tuple[Path, str], str] = {}


def _remembered(kind: Source) -> str:
    """Return what the record says; a stage that runs again has removed it, but read it before."""
    path = kind.record.absolute()
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["settings"][kind.key]
    except FileNotFoundError:
        return _read.get((path, kind.key), "")
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    _read[path, kind.key] = known if isinstance(known, str) else ""
    return _read[path, kind.key]
