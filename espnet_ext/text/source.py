# SPDX-License-Identifier: Apache-2.0
"""Where a pre-trained encoder comes from: $TEXT_ENCODER, $SENTENCE_ENCODER, $SPEECH_ENCODER."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.files import write_json
from espnet_ext.paths import absolute

REMEMBERED = Path(".stages/encoders.json")  # {variable: value}, written before the first stage runs


@dataclass(frozen=True)
class Source:
    """A variable that names a folder or a model of the hub, and the stage that depends on it.

    Attributes:
        variable: Of the environment.
        record: Of the stage; trees of before :data:`REMEMBERED` have the value only there.
        key: Of the stage's settings, in its plan and in its record.
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
    folder = absolute(given)
    looks_like_path = given.startswith((".", "/", "~")) or folder.is_dir()
    return str(folder) if looks_like_path else given


def remember(settings: Mapping[str, Mapping[str, object]]) -> None:
    """Write down which encoders a run was told, before its first stage can be killed.

    A stage that runs again removes its record first: without this a run that was killed then, or in
    an earlier stage, would be followed by one with the recipe's own encoder.

    Args:
        settings: Of the plans of the stages that the run has, by the stage's name.
    """
    known = _known()
    now = dict(known)
    for kind in (TEXT, SENTENCE, SPEECH):
        value = settings.get(kind.record.stem, {}).get(kind.key)
        if isinstance(value, str):
            now[kind.variable] = value
    if now != known:
        write_json(REMEMBERED, now)


def _known() -> dict[str, str]:
    try:
        known = json.loads(REMEMBERED.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _remembered(kind: Source) -> str:
    known = _known().get(kind.variable)
    if known is None:
        try:
            known = json.loads(kind.record.read_text(encoding="utf-8"))["settings"][kind.key]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
    return known if isinstance(known, str) else ""


def model_name(source: str) -> str:
    """Return what people call an encoder: by its model card, else by its folder or hub name.

    Args:
        source: As :func:`encoder_source` returns it.
    """
    if not source:
        return ""
    parts = Path(source).parts
    if not Path(source).is_absolute():
        return parts[-1]
    try:
        card = (Path(source) / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        card = ""
    title = re.search(r"^# +(?:[\w.-]+/)?([\w.-]+) *$", card, re.MULTILINE)
    if title:
        return title[1]
    for part in reversed(parts[1:]):
        if part.startswith("models--"):  # a cache of the hub: models--OWNER--NAME/snapshots/HASH
            return part.split("--")[-1]
    named = [p for p in parts[1:] if p not in ("model", "snapshots", "pytorch", "hf")]
    return named[-1] if named else parts[-1]
