# SPDX-License-Identifier: Apache-2.0
"""BLEU of a corpus by sacrebleu: 13a tokens, mixed case, up to 4-grams, exponential smoothing.

An utterance counts by its lengths and n-grams, so that utterances and seeds can be resampled as
those of any other metric.
"""

from collections.abc import Sequence

import numpy as np

from espnet_ext.errors import SetupError
from espnet_ext.installation import install
from espnet_ext.scoring.metrics.base import Metric

ORDER = 4
COUNTS = (
    "hyp_len", "ref_len",
    *(f"match{n}" for n in range(1, ORDER + 1)), *(f"ngrams{n}" for n in range(1, ORDER + 1)),
)  # fmt: skip
SIGNATURE = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp"  # and the version of sacrebleu


def count(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return lengths, matching n-grams and all n-grams of the hypotheses, ``(U, 10)`` int64.

    Raises:
        SetupError: sacrebleu is not installed.
    """
    bleu = _sacrebleu()
    rows = []
    for ref, hyp in zip(refs, hyps, strict=True):
        found = bleu.corpus_score([hyp], [[ref]])
        rows.append([found.sys_len, found.ref_len, *found.counts, *found.totals])
    return np.array(rows, dtype=np.int64).reshape(-1, len(COUNTS))


def value(totals: np.ndarray) -> np.ndarray:
    """Return BLEU of summed counts ``(..., 10)`` in percent, ``(...)``; NaN without a reference.

    The geometric mean of the precisions, times exp(1 - ref_len / hyp_len) where the hypotheses are
    shorter; the k-th order without a match counts as 1 / 2^k matches.
    Source: Papineni et al. 2002, equation 1; smoothing as in mteval-v13a.
    """
    totals = np.asarray(totals, dtype=np.float64)
    hyp, ref = totals[..., 0], totals[..., 1]
    matches, ngrams = totals[..., 2 : 2 + ORDER], totals[..., 2 + ORDER :]
    none = (matches == 0) & (ngrams > 0)
    smoothed = np.where(none, 0.5 ** np.cumsum(none, axis=-1), matches)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(ngrams > 0, np.log(smoothed / ngrams), -np.inf)
        brevity = np.where(hyp < ref, 1 - ref / hyp, 0.0)
        bleu = 100 * np.exp(brevity + logs.mean(axis=-1))
    bleu = np.where(matches.any(axis=-1) & (hyp > 0), bleu, 0.0)
    return np.where(ref > 0, bleu, np.nan)


def signature() -> str:
    """Return sacrebleu's signature of these scores, its version included."""
    bleu = _sacrebleu()
    bleu.corpus_score(["a"], [["a"]])  # the signature tells the number of references only then
    return str(bleu.get_signature())


def _sacrebleu():
    try:
        from sacrebleu.metrics import BLEU
    except ModuleNotFoundError:
        how = install(extra="text")
        raise SetupError("BLEU needs sacrebleu", "score.metrics", how) from None
    return BLEU()


METRIC = Metric(
    name="bleu",
    title="BLEU",
    better="higher",
    counts=COUNTS,
    score=count,
    value=value,
    hyp_file="translation",
    optional=True,
    note=f"BLEU of the translations before fine-tuning, by sacrebleu ({SIGNATURE}).",
)
