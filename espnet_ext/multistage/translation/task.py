# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ST task; its model is stock, and ``espnet2.bin.st_inference`` decodes it as it is.

``text`` is the translation. ESPnet's model cannot be built without a list of source tokens (it
copies None), so it gets that of the translation, which nothing reads: there is no ASR loss.
"""

import argparse
from typing import Any

from espnet2.tasks.st import STTask

from espnet_ext.espnet.task import ExtTask
from espnet_ext.multistage.starting import StartingFromEncoder

# Options of the source side that follow those of the translation.
SOURCE = {
    "src_token_list": "token_list",
    "src_token_type": "token_type",
    "src_bpemodel": "bpemodel",
}


class TranslationTask(StartingFromEncoder, ExtTask, STTask):
    """The phase midtrain; see the module's text."""

    stock_task = STTask

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        # ESPnet's BLEU of teacher-forced outputs needs nltk; translations are scored in stage 9.
        stock = parser.get_default("model_conf")
        parser.set_defaults(model_conf={**stock, "report_bleu": False})

    @classmethod
    def settle(cls, args: argparse.Namespace) -> None:
        """Give the source side what the translation's has, see the module's text."""
        for key, like in SOURCE.items():
            setattr(args, key, getattr(args, like))
        # A configuration's model_conf takes the place of the parser's default as a whole.
        args.model_conf = {"report_bleu": False, **(args.model_conf or {})}

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        cls.settle(args)
        return super().build_preprocess_fn(args, train)

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        cls.settle(args)
        model = super().build_model(args)
        cls.settle(args)  # ESPnet has put the tokens themselves in place of the file
        return model
