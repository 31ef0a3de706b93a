# SPDX-License-Identifier: Apache-2.0
"""What is known about the labels: ``header.json`` of an alignment directory, and its files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, UsageError
from espnet_ext.weak_align.presets import AuxConf, as_plain

ALIGNED, SHUFFLED = "aligned", "shuffled"
LABELS_FILE, SHUFFLED_FILE, HEADER_FILE = "targets.scp", "shuffled.scp", "header.json"
TARGETS_FILE = "targets.json"
SILENCE = "SIL"
Stream = Sequence[str]  # path, name, type


def read_header(path: Path) -> dict[str, Any]:
    """Return the content of a header.

    Raises:
        DataError: It is missing, no JSON, or lacks a key.
    """
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            "there is no header of the labels", path,
            "run the alignment stage, or give its file as aux.header",
        ) from None  # fmt: skip
    except ValueError as e:
        raise DataError(f"not valid JSON: {e}", path) from None
    for key in ("num_classes", "frame_shift_s", "first_frame_centre_s"):
        if not isinstance(header, dict) or not isinstance(header.get(key), int | float):
            raise DataError(f"the header lacks the number '{key}'", path)
    return header


# Before the alignment stage, for a check of the configuration.
STAND_IN = {
    "num_classes": 100, "frame_shift_s": 0.01, "first_frame_centre_s": 0.005,
    "phones": [SILENCE, "A"], "silence_ids": [0],
}  # fmt: skip


def facts_of(
    conf: AuxConf,
    streams: Sequence[Stream],
    sample_rate: int,
    vocab: int,
    stand_in: bool = False,
) -> dict:
    """Return what the model needs to know, for config.yaml.

    Args:
        conf: The configuration.
        streams: ``(path, name, type)`` of the training data.
        sample_rate: In Hz.
        vocab: V, number of tokens.
        stand_in: Labels that are not there yet have a stand-in.
    """
    facts: dict[str, Any] = {
        **as_plain(conf), "sample_rate": sample_rate, "frame_shift_s": 0.01,
        "first_frame_centre_s": 0.005, "classes": {}, "silence": {},
    }  # fmt: skip
    if not conf.losses:
        return facts
    path = header_path(conf, streams, stand_in)
    header = STAND_IN if stand_in and not path.exists() else read_header(path)
    facts["frame_shift_s"] = float(header["frame_shift_s"])
    facts["first_frame_centre_s"] = float(header["first_frame_centre_s"])
    facts |= {k: str(header.get(k, "")) for k in ("source", "source_train_data")}
    facts["labels"] = str(path)
    phones = list(header.get("phones") or [])
    if any(x.bpe_split == "hybrid_bpe_lexicon" for x in conf.losses if x.type == "bpe_ce"):
        facts["phones"] = phones
    for loss in conf.losses:
        silence = [int(i) for i in header.get("silence_ids") or []]
        classes = int(header["num_classes"])
        if conf.unit == "phone":
            if not phones:
                raise DataError("the header lacks the list 'phones'", path, "aux.unit: triphone")
            classes, silence = len(phones), [i for i, p in enumerate(phones) if p == SILENCE]
        if loss.type == "bpe_ce":
            classes, silence = vocab + 1, [vocab]
        # A blank besides the classes.
        facts["classes"][loss.name] = classes + (loss.type == "frame_ctc")
        facts["silence"][loss.name] = silence
    return facts


def header_beside(folder: Path) -> Path:
    """Return the header of the labels in a folder: the one of their own frames, if it is there."""
    own = folder / TARGETS_FILE
    return own if own.is_file() else folder / HEADER_FILE


def header_path(conf: AuxConf, streams: Sequence[Stream], may_lack: bool = False) -> Path:
    """Return the header that belongs to the labels; with ``may_lack`` it need not exist.

    Raises:
        UsageError: Neither the header nor a stream of labels is given.
        DataError: There is no sub-folder of that label source.
    """
    if conf.header:
        path = Path(conf.header)
    else:
        paths = [Path(p) for p, name, _ in streams if name.startswith("align")]
        if not paths:
            raise UsageError(
                "where the labels are is not known", "aux.header",
                "add the stream '<alignment>/targets.scp,align,kaldi_ark', or set aux.header",
            )  # fmt: skip
        path = header_beside(paths[0].parent)
    if conf.label_source in (ALIGNED, SHUFFLED) or path.parent.name == conf.label_source:
        return path
    other = path.parent / conf.label_source / path.name
    return other if may_lack else _existing(other)


def source_streams(
    streams: Sequence[Stream], source: str, train: bool
) -> list[tuple[str, str, str]]:
    """Return the streams with the labels of another source in place of the aligned ones.

    Args:
        streams: ``(path, name, type)``.
        source: ``aux.label_source``.
        train: Shuffled labels are for training only; validation is against the aligned ones.

    Raises:
        DataError: The other labels are missing.
    """
    out = []
    for path, name, kind in streams:
        if source == SHUFFLED and name == "align" and train:
            path = str(_existing(Path(path).with_name(SHUFFLED_FILE)))
        elif source not in (ALIGNED, SHUFFLED) and name.startswith("align"):
            own = Path(path)
            if own.parent.name != source:
                other = own.parent / source / own.name
                path = str(_existing(other) if name == "align" or other.exists() else own)
        out.append((path, name, kind))
    return out


def _existing(path: Path) -> Path:
    if path.exists():
        return path
    folder = path.parent if path.parent.is_dir() else path.parent.parent
    have = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    raise DataError(
        f"there is no {path.name} for aux.label_source", path, "there are: " + ", ".join(have)
    )
