# SPDX-License-Identifier: Apache-2.0
"""kaldi-hmm-gmm, a C++ version of Kaldi's GMM-HMMs, on models and graphs of the aligner.

For ``align_throughput.py`` and for ``tests/align/test_oracle.py``; the aligner itself never needs
it. Only these versions work together (a newer kaldifst hangs on import or refuses every graph)::

    pip install --no-deps kaldi-hmm-gmm==1.1.4 kaldifst==1.7.17

Import this module only where :func:`problem` finds none.
"""

import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np

from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import GmmStats
from espnet_ext.align.search.graph import Graph

NAME = "kaldi-hmm-gmm"
INSTALL = "pip install --no-deps kaldi-hmm-gmm==1.1.4 kaldifst==1.7.17"
PROBE_S = 60.0
ALL_FLAGS = 15  # means, variances, weights, transitions
# One arc through the decoder: a wrong kaldifst imports well and refuses graphs only later.
_PROBE = """
import kaldi_hmm_gmm as khg, kaldifst
import numpy as np
fst = kaldifst.StdVectorFst()
fst.add_state(); fst.start = 0; fst.add_state()
fst.add_arc(0, kaldifst.StdArc(1, 1, 0.0, 1)); fst.set_final(1, 0.0)
g = khg.DiagGmm(1, 1)
g.set_weights(np.ones(1, np.float32))
g.set_invvars_and_means(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))
g.compute_gconsts()
am = khg.AmDiagGmm(); am.add_pdf(g)
d = khg.DecodableAmDiagGmmUnmapped(am, np.ones((1, 1), np.float32))
out = khg.align_utterance_wrapper(khg.AlignConfig(), "u", 1.0, fst, d, 0, 0, 0, 0.0, 0)
assert out[5] == [1], out
"""


def problem() -> str | None:
    """Return why kaldi-hmm-gmm cannot be used, None if it can; asks another process."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_S
        )
    except subprocess.TimeoutExpired:
        return f"importing {NAME} takes more than {PROBE_S:.0f} s: wrong kaldifst; {INSTALL}"
    if done.returncode == 0:
        return None
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"{NAME} is not usable ({last}); {INSTALL}"


def diag_gmm(khg: Any, weights: np.ndarray, means: np.ndarray, variances: np.ndarray) -> Any:
    """Return a mixture of kaldi-hmm-gmm: weights ``(M,)``, means and variances ``(M, D)``."""
    gmm = khg.DiagGmm(*means.shape)
    gmm.set_weights(weights.astype(np.float32))
    gmm.set_invvars_and_means((1 / variances).astype(np.float32), means.astype(np.float32))
    gmm.compute_gconsts()
    return gmm


class Khg:
    """A mixture model of the aligner, its search and its statistics in kaldi-hmm-gmm.

    Args:
        gmm: The model; K pdfs, D dimensions.
    """

    def __init__(self, gmm: Gmm):
        import kaldi_hmm_gmm  # before kaldifst, which it shares libraries with
        import kaldifst

        self.khg, self.kaldifst = kaldi_hmm_gmm, kaldifst
        self.model = kaldi_hmm_gmm.AmDiagGmm()
        offsets = gmm.offsets.tolist()
        weights, means, variances = (
            t.cpu().numpy() for t in (gmm.weights, gmm.means, gmm.variances)
        )
        for first, end in pairwise(offsets):
            parts = (x[first:end] for x in (weights, means, variances))
            self.model.add_pdf(diag_gmm(kaldi_hmm_gmm, *parts))

    def decodable(self, x: np.ndarray) -> Any:
        """Return frames ``(T, D)`` float32 as the search takes them."""
        return self.khg.DecodableAmDiagGmmUnmapped(self.model, np.ascontiguousarray(x))

    def loglik(self, x: np.ndarray, pdfs: np.ndarray) -> np.ndarray:
        """Return the log-likelihoods ``(T, U)`` of frames ``(T, D)`` under ``pdfs (U,)``."""
        scores = self.decodable(x)
        rows = [[scores.log_likelihood(t, int(k) + 1) for k in pdfs] for t in range(len(x))]
        return np.array(rows, np.float64)

    def fst(self, graph: Graph) -> Any:
        """Return a graph with tied states + 1 as input and states + 1 as output."""
        arc, fst = self.kaldifst.StdArc, self.kaldifst.StdVectorFst()
        fst.reserve_states(len(graph.pdf) + 1)
        for _ in range(len(graph.pdf) + 1):
            fst.add_state()
        fst.start = 0
        pdfs, own = (graph.pdf + 1).tolist(), -graph.self_logp
        preds, logps = graph.preds.tolist(), (-graph.pred_logp).tolist()
        for s, (start, final) in enumerate(
            zip((-graph.start_logp).tolist(), (-graph.final_logp).tolist(), strict=True)
        ):
            if start < np.inf:
                fst.add_arc(0, arc(pdfs[s], s + 1, start, s + 1))
            fst.add_arc(s + 1, arc(pdfs[s], s + 1, own, s + 1))
            for p, cost in zip(preds[s], logps[s], strict=True):
                if p >= 0:
                    fst.add_arc(p + 1, arc(pdfs[s], s + 1, cost, s + 1))
            if final < np.inf:
                fst.set_final(s + 1, final)
        return fst

    def align(
        self, x: np.ndarray, fst: Any, beam: float = 200.0, retry_beam: float = 0.0
    ) -> tuple[np.ndarray | None, float]:
        """Return the best path ``(T,)`` int32 and its log-likelihood, as ``viterbi`` does."""
        config = self.khg.AlignConfig(beam=beam, retry_beam=retry_beam)
        scores = self.decodable(x)
        done, _, _, score, _, _, states = self.khg.align_utterance_wrapper(
            config, "utt", 1.0, fst, scores, 0, 0, 0, 0.0, 0
        )
        if not done:
            return None, -np.inf
        return np.array(states, np.int32) - 1, score

    def accumulate(self, x: np.ndarray, pdfs: np.ndarray) -> Any:
        """Collect the statistics of frames ``(N, D)`` in tied states ``(N,)``."""
        stats = self.khg.AccumAmDiagGmm()
        stats.init(self.model, ALL_FLAGS)
        add, model = stats.accumulate_for_gmm, self.model
        for frame, pdf in zip(x, pdfs.tolist(), strict=True):
            add(model, frame, pdf, 1.0)
        return stats

    def stats(self, x: np.ndarray, pdfs: np.ndarray) -> GmmStats:
        """Return what :meth:`accumulate` collects, as ``stats.accumulate`` does."""
        import torch

        found = self.accumulate(x, pdfs)
        parts = [found.get_acc(k) for k in range(self.model.num_pdfs)]
        occ, sx, sxx = (
            torch.from_numpy(np.concatenate([np.asarray(getattr(p, name)) for p in parts]))
            for name in ("occupancy", "mean_accumulator", "variance_accumulator")
        )
        return GmmStats(occ, sx, sxx, float(found.tot_log_like), len(x))
