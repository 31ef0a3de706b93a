# SPDX-License-Identifier: Apache-2.0
"""In which numbers a network is trained: bfloat16 pays where the processor multiplies such."""

from functools import cache

PRECISIONS = ("auto", "float32", "bfloat16")
EMULATED = "bfloat16 is emulated here: slower than float32, with the same result to rounding"


@cache
def has_bfloat16(device: str) -> bool:
    """Return whether this machine's processor or GPU computes in bfloat16 faster than in float32.

    Others emulate it: with the same result to rounding, and slower.
    """
    import torch  # options, which are read for --help as well, need the names above only

    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    tests = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # torch has no public ones
    return any(getattr(torch.cpu, name, bool)() for name in tests)


def resolve(precision: str, device: str) -> str:
    """Return ``float32`` or ``bfloat16``; ``auto`` is bfloat16 where it is faster."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_bfloat16(device) else "float32"
