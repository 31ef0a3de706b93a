# SPDX-License-Identifier: Apache-2.0
"""Concept error rate of tagged text: edits of concepts in percent of the reference's concepts.

Papers on spoken language understanding call it CER; the character error rate is ``cer``.
"""

from collections.abc import Mapping
from pathlib import Path

from espnet_ext.scoring.slu.counts import concept
from espnet_ext.scoring.slu.metric import unit_metric


def _files(refs: Mapping[str, str], hyps: Mapping[str, str], out: Path) -> None:
    from espnet_ext.scoring.slu.files import write_files

    write_files(refs, hyps, out / "slu")


METRIC = unit_metric(
    "concept", "CER (concepts)", concept, "Edits of concepts, whatever their words.", _files
)
