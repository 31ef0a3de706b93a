# SPDX-License-Identifier: Apache-2.0
"""The kinds of networks by name, and reading saved ones."""

from pathlib import Path

import numpy as np
import torch

from espnet_ext.align.hybrid.blstm import Blstm
from espnet_ext.align.hybrid.network import Network
from espnet_ext.align.hybrid.tdnn import Tdnn
from espnet_ext.align.options import Hybrid
from espnet_ext.errors import DataError

NETWORKS: dict[str, type[Network]] = {cls.kind: cls for cls in (Tdnn, Blstm)}
ABOUT = ("network", "precision", "shape")
FIRST_KIND = "blstm"  # of files that do not say: there was no other


def make_network(o: Hybrid, num_states: int) -> Network:
    """Return a network of the options, with random weights."""
    o = o.filled()
    return NETWORKS[o.network](o.num_mel, o.layers, o.units, num_states, o.dropout)


def load_network(path: Path | str) -> Network:
    """Read what :meth:`Network.save` wrote, ready for inference.

    Raises:
        DataError: The file is missing or is not such a model.
    """
    try:
        with np.load(path, allow_pickle=False) as z:
            kind = str(z["network"]) if "network" in z.files else FIRST_KIND
            model = NETWORKS[kind](*(int(n) for n in z["shape"]))
            model.precision = str(z["precision"]) if "precision" in z.files else "float32"
            model.load_state_dict({k: torch.from_numpy(z[k]) for k in z.files if k not in ABOUT})
    except Exception as e:  # a damaged zip fails in many ways
        raise DataError(f"not a network of the aligner: {e}", path, "train it again") from None
    if not all(bool(t.isfinite().all()) for t in model.state_dict().values()):
        raise DataError("the network has weights that are not finite", path, "train it again")
    return model.eval()
