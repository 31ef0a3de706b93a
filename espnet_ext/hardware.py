# SPDX-License-Identifier: Apache-2.0
"""Cores, memory, disk and GPUs this process may use, without importing torch."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import SetupError, UsageError

_CGROUP = Path("/sys/fs/cgroup")
_DRIVER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Gpu:
    """One GPU: its name and memory in MiB (0 when not known)."""

    name: str
    memory_mib: int = 0


def _read(path: Path | str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def cpu_cores() -> int:
    """Return the cores this process may use: its affinity, cut by a container's quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    quota = _read(_CGROUP / "cpu.max").split()
    if len(quota) == 2 and all(x.isdigit() for x in quota):
        cores = min(cores, max(1, int(quota[0]) // int(quota[1])))
    return cores


def cpu_model() -> str:
    """Return the processor's name, or the machine's type where it has none."""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def memory_bytes() -> tuple[int, int]:
    """Return total and available memory in bytes, within a container's limit."""
    rows = dict(x.split(":", 1) for x in _read("/proc/meminfo").splitlines() if ":" in x)
    if "MemTotal" in rows:
        kib = {k: int(v.split()[0]) for k, v in rows.items() if k in ("MemTotal", "MemAvailable")}
        total = kib["MemTotal"] * 1024
        free = kib.get("MemAvailable", kib["MemTotal"]) * 1024
    else:  # macOS tells the total only
        total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _read(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        used = _read(_CGROUP / "memory.current").strip()
        total = min(total, int(limit))
        free = min(free, max(0, int(limit) - int(used or 0)))
    return total, free


def free_disk_bytes(path: Path | str) -> int:
    """Return the free bytes where ``path`` is or, if it does not exist yet, would be made."""
    path = Path(path).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs that CUDA_VISIBLE_DEVICES leaves to this process."""
    return _visible(_from_nvidia_smi() or _from_driver(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _visible(found: list[Gpu], setting: str | None) -> list[Gpu]:
    if setting is None:
        return found
    left = []
    for item in filter(None, (x.strip() for x in setting.split(","))):
        if item.startswith(("GPU-", "MIG-")):
            left.append(found[0] if len(set(found)) == 1 else Gpu(item))
        elif item.isdigit() and int(item) < len(found):
            left.append(found[int(item)])
        else:
            break  # CUDA ignores all that follows a number it does not know
    return left if found else []


def _from_nvidia_smi() -> list[Gpu]:
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    if answer.returncode:
        return []
    rows = [x.rsplit(",", 1) for x in answer.stdout.splitlines() if "," in x]
    return [Gpu(n.strip(), int(m) if m.strip().isdigit() else 0) for n, m in rows]


def _from_driver() -> list[Gpu]:
    found = []
    for info in sorted(_DRIVER.glob("*/information")):
        rows = dict(x.split(":", 1) for x in _read(info).splitlines() if ":" in x)
        found.append(Gpu(rows.get("Model", "NVIDIA GPU").strip()))
    return found


def describe(devices: list[Gpu]) -> str:
    """Return one line on what is computed on, such as ``1 x NVIDIA A100 (80 GiB)``.

    Args:
        devices: The GPUs; without any it is the CPU.
    """
    if not devices:
        return f"CPU {cpu_model()}, {cpu_cores()} cores, {memory_bytes()[0] / 2**30:.0f} GiB"
    names = [
        x.name + (f" ({x.memory_mib / 1024:.0f} GiB)" if x.memory_mib else "") for x in devices
    ]
    return ", ".join(f"{names.count(x)} x {x}" for x in dict.fromkeys(names))


def training_device(ngpu: int, processes: int = 1) -> str:
    """Return one line on what this training runs on.

    Args:
        ngpu: GPUs of each process; 0: the CPU.
        processes: Processes of a distributed training, on machines that are alike.
    """
    found = gpus()[:1] or [Gpu("GPU")]
    return describe(found * ngpu * processes if ngpu else [])


def check_device(device: str) -> None:
    """Refuse a device that is not there, before anything is loaded.

    Only where a GPU is asked for, torch is imported.

    Raises:
        UsageError: It is not of the form cpu, cuda or cuda:N.
        SetupError: The machine has no such GPU.
    """
    kind, _, number = str(device).partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()):
        raise UsageError(f"there is no device '{device}'", "device", "cpu, cuda or cuda:N")
    if kind == "cuda":
        import torch

        if int(number or 0) >= torch.cuda.device_count():
            raise SetupError(f"there is no GPU for '{device}'", "device", "use --device cpu")
