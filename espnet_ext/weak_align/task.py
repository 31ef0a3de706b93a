# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR task with auxiliary losses on an alignment.

The data gain optional streams, ESPnet type ``kaldi_ark``, integers at the shift of the aligner:
``align``, the class of each frame, -1 without; ``align_word``, the index of its word in the
transcript, -1 outside words; ``align_phone``, its phone. The configuration is the section ``aux``
(:mod:`espnet_ext.weak_align.presets`).
"""

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from espnet2.tasks.asr import ASRTask
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ext.errors import UsageError
from espnet_ext.espnet.task import ExtTask, is_first_process
from espnet_ext.files import sha256_json, write_json
from espnet_ext.frames import rate_hz
from espnet_ext.progress import progress_log
from espnet_ext.weak_align import checks, header
from espnet_ext.weak_align.bpe_labels import BpeLabeller
from espnet_ext.weak_align.labels import FrameGrid
from espnet_ext.weak_align.model import WeakAlignModel, stream_of
from espnet_ext.weak_align.presets import AuxConf, LossConf, resolve, stored

PARTS = ("train", "valid")


class Preprocess:
    """ESPnet's preprocessor, then the BPE labels; made in the loader's workers."""

    def __init__(self, stock: Any, labeller: BpeLabeller):
        self.stock, self.labeller = stock, labeller

    def __call__(self, utt: str, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        data = self.stock(utt, data)
        return self.labeller(utt, data) if "align_word" in data else data


class WeakAlignTask(ExtTask, ASRTask):
    """See the module's text."""

    extra_data_names = ("align", "align_word", "align_phone")
    model_class = WeakAlignModel

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Weak alignment supervision (espnet_ext)")
        group.add_argument(
            "--aux", action=NestedDictAction, default={}, help="preset=weak_tri, layer=3, ..."
        )

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check configuration and labels, then train as ESPnet does."""
        conf = prepare(args)
        if not args.collect_stats:
            for part in PARTS:
                key = f"{part}_data_path_and_name_and_type"
                streams = header.source_streams(
                    getattr(args, key), conf.label_source, train=part == "train"
                )
                setattr(args, key, streams)
            args.check_labels = conf.losses and is_first_process(args)
        super().main_worker(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> WeakAlignModel:
        prepare(args)
        if getattr(args, "model", "espnet") not in (None, "espnet"):
            raise UsageError("the method extends ESPnet's model", "model", "model: espnet")
        check = vars(args).pop("check_labels", False)  # does not go to config.yaml
        model = super().build_model(args)
        if check:
            check_data(args, model)
        return model

    @classmethod
    def stand_in(cls, args: argparse.Namespace) -> None:
        """See :mod:`espnet_ext.espnet.trial`: labels that are not there yet are made up."""
        prepare(args, stand_in=True)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        stock = super().build_preprocess_fn(args, train)
        conf = prepare(args)
        splits = {x.bpe_split for x in conf.losses if x.type == "bpe_ce"}
        if not splits:
            return stock
        if len(splits) > 1 or stock is None:
            raise UsageError(
                "BPE labels need ESPnet's preprocessor and one rule for all losses",
                "aux.bpe_split",
            )
        phones = args.aux["resolved"].get("phones", ())
        tokens = _tokens(args)
        return Preprocess(stock, BpeLabeller(tokens, args.token_type, splits.pop(), phones))


def prepare(args: argparse.Namespace, stand_in: bool = False) -> AuxConf:
    """Return the configuration, with everything it refers to stored in ``args.aux``.

    A config.yaml that has been through this is complete: the header need not exist any more.
    """
    conf = stored(getattr(args, "aux", None))
    if conf is not None:
        return conf
    conf = resolve(getattr(args, "aux", None))
    if conf.losses:
        checks.check_augmentation(vars(args))
        _check_source(conf)
    if conf.no_ctc:
        args.model_conf = {**args.model_conf, "ctc_weight": 0.0}
    facts = header.facts_of(
        conf,
        getattr(args, "train_data_path_and_name_and_type", None) or [],
        int(rate_hz(args.frontend_conf)),
        len(_tokens(args)),
        stand_in,
    )
    args.aux = {**copy.deepcopy(conf.given), "resolved": facts}
    return conf


def _check_source(conf: AuxConf) -> None:
    others = [x for x in conf.losses if stream_of(x, conf.unit) != "align"]
    if conf.label_source == header.SHUFFLED and others:
        raise UsageError(
            "only the classes of stream 'align' can be shuffled", "aux.label_source",
            "frame_ce or frame_ctc with unit: triphone",
        )  # fmt: skip


def check_data(args: argparse.Namespace, model: WeakAlignModel) -> None:
    """Check all labels against the audio and the model; remembers what it has checked.

    Raises:
        UsageError: A stream is missing.
        DataError: Labels do not fit; the message names the utterance.
    """
    facts, conf = args.aux["resolved"], stored(args.aux)
    grid = FrameGrid(facts["frame_shift_s"], facts["first_frame_centre_s"])
    record = Path(args.output_dir) / "aux_labels_checked.json"
    done = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    for part in PARTS:
        given = {s[1]: s for s in getattr(args, f"{part}_data_path_and_name_and_type")}
        samples = checks.read_samples(getattr(args, f"{part}_shape_file"))
        for loss in conf.losses:
            for name in needed_streams(loss, conf):
                if name not in given:
                    raise UsageError(
                        f"the {part} data lack the stream '{name}'", f"aux, loss {loss.name}",
                        f"add the stream '<alignment>/<file>.scp,{name},kaldi_ark'",
                    )  # fmt: skip
                classes = _classes(name, facts, loss)
                times = checks.Times(grid, model.features, model.taps[loss.name].geometry)
                shuffled = conf.label_source == header.SHUFFLED and part == "train"
                key = f"{part}/{loss.name}/{name}"
                now = [checks.stamp(given[name]), classes, grid, len(samples), times.layer.stride]
                if done.get(key) == sha256_json(now):
                    continue
                known = checks.check_labels(given[name], classes, samples, times, shuffled)
                if name == "align_word" and given["text"][2] == "text":
                    checks.check_words(given[name], Path(given["text"][0]))
                done[key] = sha256_json(now)
                progress_log.info(f"{part} {name}: {known[0]} of {known[1]} utterances have labels")
    write_json(record, done)


def needed_streams(loss: LossConf, conf: AuxConf) -> tuple[str, ...]:
    """Return the streams of the data that a loss reads."""
    if loss.type != "bpe_ce":
        return (stream_of(loss, conf.unit),)
    return ("align_word",) if loss.bpe_split == "equal" else ("align_word", "align_phone")


def _classes(stream: str, facts: dict, loss: LossConf) -> int:
    if stream == "align_word" or loss.type == "bpe_ce":
        return 2**31 - 1  # checked against the text, or by the labeller
    return facts["classes"][loss.name] - (loss.type == "frame_ctc")


def _tokens(args: argparse.Namespace) -> list[str]:
    if isinstance(args.token_list, str):
        return Path(args.token_list).read_text(encoding="utf-8").splitlines()
    return list(args.token_list or ())
