# SPDX-License-Identifier: Apache-2.0
"""Peak memory of the process that trains."""

import contextlib
import resource
from pathlib import Path

import torch


def reset_peaks() -> None:
    """Forget the peaks of what this process did before."""
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, int]:
    """Return ``peak_rss_mb`` and ``peak_gpu_mb`` (0 without a GPU), in MiB."""
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"peak_rss_mb": round(_rss_mb()), "peak_gpu_mb": round(gpu / 2**20)}


def _rss_mb() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
