# SPDX-License-Identifier: Apache-2.0
"""Score one decoded set with every metric asked for: the part of a run record on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_ext.data.transcripts import read_texts
from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file, sha256_json
from espnet_ext.scoring.metrics import Metric


def score_files(metrics: Mapping[str, Metric], refs: Path, hyps: Path) -> dict[str, Any]:
    """Score the tables of two folders.

    Args:
        metrics: At least one, by name; optional ones without their tables are left out.
        refs: Folder of the references, with each metric's ``ref_file``.
        hyps: Folder of the hypotheses, with each metric's ``hyp_file``.

    Returns:
        ``utterances``, the hashes of ids, references and hypotheses, and ``metrics``.

    Raises:
        DataError: An utterance stands on one side only, two metrics score different utterances, or
            a value is not defined.
    """
    metrics = {n: m for n, m in metrics.items() if not m.optional or _has(m, refs, hyps)}
    if not metrics:
        raise DataError("the set has nothing to score", hyps, "./run.sh --stage decode")
    sections: dict[str, Any] = {}
    ids: dict[tuple[str, ...], str] = {}
    for name, metric in metrics.items():
        out = hyps / metric.hyp_file
        try:
            scored = metric.score_set(read_texts(metric.references(refs)), read_texts(out))
            value = metric.of_totals(scored.totals)
        except DataError as e:
            how = e.how or "./run.sh --stage decode"
            raise DataError(e.what, f"{out}: {e.where}", how) from None
        ids[scored.utt_ids] = name
        sections[name] = {
            "title": metric.title,
            "better": metric.better,
            "value": value,
            "totals": scored.totals,
            "per_utt": dict(zip(metric.counts, scored.counts.T.tolist(), strict=True)),
        }
    if len(ids) > 1:
        names = " and ".join(ids.values())
        raise DataError(f"the metrics {names} score different utterances", refs)
    return {
        "utterances": len(scored.utt_ids),
        "ids_sha256": scored.ids_sha256,
        "ref_sha256": _sha256({m.references(refs) for m in metrics.values()}),
        "hyp_sha256": _sha256({hyps / m.hyp_file for m in metrics.values()}),
        "metrics": sections,
    }


def _has(metric: Metric, refs: Path, hyps: Path) -> bool:
    return metric.references(refs).is_file() and (hyps / metric.hyp_file).is_file()


def _sha256(paths: set[Path]) -> str:
    hashes = [sha256_file(path) for path in sorted(paths)]
    return hashes[0] if len(hashes) == 1 else sha256_json(hashes)
