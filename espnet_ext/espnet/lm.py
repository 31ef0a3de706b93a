# SPDX-License-Identifier: Apache-2.0
"""ESPnet's task of language models, ``task: lm``: what a beam search can add to CTC and attention.

Its only stream is ``text``; stock ESPnet takes the result (``lm_train_config``, ``lm_file`` of
``espnet2.bin.asr_inference``).
"""

from espnet2.tasks.lm import LMTask as StockLMTask

from espnet_ext.espnet.task import ExtTask


class LMTask(ExtTask, StockLMTask):
    """ESPnet's LM task with this adapter's trainer and data loading; the model is stock."""

    stock_task = StockLMTask
