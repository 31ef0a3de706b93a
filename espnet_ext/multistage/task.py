# SPDX-License-Identifier: Apache-2.0
"""ESPnet's task of stage 1: streams ``speech`` and ``video``, no text.

The configuration is the section ``multistage`` (:mod:`espnet_ext.multistage.options`); front end,
normalisation and encoder are configured as for ESPnet's ASR task.
"""

import argparse
import copy
from typing import Any

from espnet2.tasks.asr import ASRTask
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ext.errors import UsageError
from espnet_ext.espnet.task import ExtTask
from espnet_ext.multistage.model import AudioVisualModel
from espnet_ext.multistage.options import resolve
from espnet_ext.multistage.preprocess import STREAM, VideoCollate, VideoPreprocess

NO_TEXT = ["<blank>", "<unk>", "<sos/eos>"]  # ESPnet's task cannot do without a list


class PretrainTask(ExtTask, ASRTask):
    """See the module's text."""

    extra_data_names = (STREAM,)

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        required = [name for name in parser.get_default("required") if name != "token_list"]
        parser.set_defaults(required=required)
        group = parser.add_argument_group("Audio-visual pre-training (espnet_ext)")
        group.add_argument(
            "--multistage", action=NestedDictAction, default={}, help="objective=mae, ..."
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        return ("speech",)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Check options and streams, then train as ESPnet does."""
        if resolve(args.multistage).with_video and not args.collect_stats:
            _check_streams(args)
        super().main_worker(args)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> AudioVisualModel:
        conf = resolve(args.multistage)
        if getattr(args, "model", None) not in (None, "espnet"):
            raise UsageError("the method extends ESPnet's model", "model", "model: espnet")
        args.token_list, args.decoder = list(NO_TEXT), None
        args.model_conf = {**(args.model_conf or {}), "ctc_weight": 1.0}
        model = super().build_model(args)
        model.__class__ = AudioVisualModel
        model.init_extension(conf, args)
        return model

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        own = copy.copy(args)
        own.token_type = None  # no text is read
        stock, conf = super().build_preprocess_fn(own, train), resolve(args.multistage)
        return VideoPreprocess(
            stock,
            frames=conf.frames,
            stride=conf.stride,
            size=conf.size,
            sampling=conf.video_sampling,
            start=conf.video_start,
            train=train,
            decode=conf.with_video and not args.collect_stats,
        )

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        return VideoCollate(super().build_collate_fn(args, train))


def _check_streams(args: argparse.Namespace) -> None:
    for part in ("train", "valid"):
        if STREAM not in {s[1] for s in getattr(args, f"{part}_data_path_and_name_and_type")}:
            how = f"streams: {{name: {STREAM}, file: video.scp, type: video}}, or modalities: audio"
            raise UsageError(f"the {part} data lack the stream '{STREAM}'", "streams", how)
