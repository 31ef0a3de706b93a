# SPDX-License-Identifier: Apache-2.0
"""What the options refer to, read once and kept in config.yaml: then it needs no other file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_ext.dual_task import speech_encoder
from espnet_ext.dual_task.options import PHONES, SAMU, DualTaskConf, check, resolve
from espnet_ext.errors import DataError, UsageError
from espnet_ext.frames import Encoder, encoder_of_config

RESOLVED = "resolved"  # key of the section that holds the facts
HEADER, ALIGNED = "header.json", "align/target_phones.scp"  # of stage 3
TRAINING_DATA = "train_data_path_and_name_and_type"
STAND_IN_WIDTH, STAND_IN_PHONES = 16, 40


@dataclass(frozen=True)
class Facts:
    """Facts of one training.

    Attributes:
        role: Of the phase.
        embedding_dim: E; 0 for a model without utterance embeddings.
        phones: The list; empty where they are not learnt.
        frames: Of the encoder; None if its lengths are not known.
    """

    role: str
    embedding_dim: int
    phones: tuple[str, ...]
    frames: Encoder | None


def gather(args: Any, role: str, stand_in: bool = False) -> tuple[DualTaskConf, Facts]:
    """Return options and facts; what is read is put into ``args.dual_task``.

    Args:
        args: ESPnet's options, those of a training or those of its config.yaml.
        role: Of the phase; that of a config.yaml stands there.
        stand_in: Make up what earlier stages have not written yet.

    Raises:
        UsageError: Options are missing or do not fit.
        DataError: A file that they name is missing or not usable.
    """
    section = dict(getattr(args, "dual_task", None) or {})
    known = section.pop(RESOLVED, None)
    conf = resolve(section)
    if known is None:
        check(conf, role)
        if stand_in and speech_encoder.waits(conf):  # building the model will tell
            return conf, Facts(role, 0, (), None)
        speech_encoder.apply(args, conf)
        losses = conf.losses(role)
        known = {
            "role": role,
            "embedding_dim": _embedding_dim(conf, SAMU in losses, stand_in),
            "phones": _phones(args, conf, stand_in) if PHONES in losses else [],
        }
        args.dual_task = {**section, RESOLVED: known}
    frames = encoder_of_config(vars(args))
    if known["phones"] and frames is None:
        raise UsageError(
            "the times of this encoder's frames are not known, so it cannot learn phones",
            "encoder", "another encoder, or dual_task.pretrain: samu",
        )  # fmt: skip
    return conf, Facts(known["role"], known["embedding_dim"], tuple(known["phones"]), frames)


def _embedding_dim(conf: DualTaskConf, needed: bool, stand_in: bool) -> int:
    if conf.embedding_dim is not None:
        return conf.embedding_dim
    about = Path(conf.sentences) / "about.json"
    if stand_in and not about.exists():
        return STAND_IN_WIDTH
    try:
        return int(json.loads(about.read_text(encoding="utf-8"))["width"])
    except (OSError, ValueError, KeyError, TypeError):
        if not needed:
            return 0
        how = "./run.sh --stage format makes them"
        raise DataError("there are no sentence embeddings", about, how) from None


def _phones_file(args: Any, conf: DualTaskConf) -> Path:
    """Return the list of phones: the given one, else that of the alignment that is trained on."""
    if conf.phones:
        return Path(conf.phones)
    streams = getattr(args, TRAINING_DATA, None) or []
    for path in (path for path, name, *_ in streams if name == "phones"):
        return Path(path).parent / HEADER
    how = f"streams: {{name: phones, file: {ALIGNED}, type: kaldi_ark, batch: false}}"
    raise UsageError("there are no labels to take the phones from", "dual_task.phones", how)


def _phones(args: Any, conf: DualTaskConf, stand_in: bool) -> list[str]:
    made_up = [f"phone{i}" for i in range(STAND_IN_PHONES)]
    if stand_in and not conf.phones and not getattr(args, TRAINING_DATA, None):
        return made_up  # a configuration that is looked at without any data
    path = _phones_file(args, conf)
    if stand_in and not path.exists():
        return made_up
    aligned = path.name == HEADER  # phone ids are places in its list
    try:
        text = path.read_text(encoding="utf-8")
        phones = list(json.loads(text)["phones"]) if aligned else text.split()
    except (OSError, ValueError, KeyError, TypeError):
        phones = []
    if len(set(phones)) < max(2, len(phones)):
        if aligned:
            what, how = "no header of an alignment with phones", "./run.sh --stage align makes it"
        else:
            what, how = "no list of different phones, one on each line", "local/data.sh makes it"
        raise DataError(what, path, f"{how}, or dual_task.pretrain: samu")
    return phones
