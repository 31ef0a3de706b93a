# SPDX-License-Identifier: Apache-2.0
"""Whether a network is trained in bfloat16: where the processor multiplies such numbers itself."""

import torch

from espnet_ext.align.options import Hybrid

PRECISIONS = ("float32", "bfloat16")


def has_bfloat16(device: str) -> bool:
    """Return whether this machine's processor or GPU computes in bfloat16 faster than in float32.

    Others emulate it: with the same result to rounding, and slower.
    """
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public ones
    return any(getattr(torch.cpu, name, bool)() for name in tests)


def pick_precision(o: Hybrid, device: str) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` is bfloat16 for a TDNN where it is faster."""
    if o.precision != "auto":
        return o.precision
    return PRECISIONS[o.network == "tdnn" and has_bfloat16(device)]
