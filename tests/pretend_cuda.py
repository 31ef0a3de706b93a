# SPDX-License-Identifier: Apache-2.0
"""A GPU that is none: tensors that say they are on ``cuda`` and have their values on the CPU.

As under ``torch._subclasses.FakeTensorMode`` operations on tensors of different devices raise, and
autocast of ``cuda`` casts, without a driver. Unlike there values are computed, so that code may
depend on them, and every time that the host would have to wait for the device is noted with the
file that asked. There is no backward pass.
"""

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

CUDA = torch.device("cuda", 0)
_aten = torch.ops.aten
# The host learns a value, or the size of a result.
_WAITS = {
    _aten._local_scalar_dense, _aten.nonzero, _aten.masked_select, _aten.equal, _aten._unique2,
    _aten.unique_consecutive, _aten.repeat_interleave, _aten.is_nonzero,
}  # fmt: skip
_BY_INDEX = {_aten.index, _aten.index_put_, _aten.index_put, _aten._index_put_impl_}
_OTHER_CTC = {_aten._use_cudnn_ctc_loss, _aten._use_miopen_ctc_loss}
# Lengths of CTC may be with the host.
_MAY_MIX = {_aten.copy_, _aten._to_copy, _aten._ctc_loss, *_BY_INDEX}


class OnCuda(torch.Tensor):
    """See the module's text; ``inner`` has the values."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "OnCuda":
        made = torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, device=CUDA,
        )  # fmt: skip
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func}: outside of PretendCuda")

    def tolist(self) -> Any:  # torch has none for subclasses
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:
        return f"OnCuda({tuple(self.shape)}, {self.dtype})"


class PretendCuda(TorchDispatchMode):
    """Inside, ``device="cuda"`` works.

    Attributes:
        waits: How often the host would have waited, by the file that asked.
    """

    def __init__(self) -> None:
        super().__init__()
        # Torch then does not look for a driver, as in the mode that this one is modelled on.
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE
        torch._C._ensureCUDADeviceGuardSet()
        self.waits: Counter[str] = Counter()

    def __enter__(self) -> "PretendCuda":
        self._lift = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(x, device=...): made, then moved
        self._cudnn = torch.backends.cudnn.flags(enabled=False)
        self._cudnn.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        torch._C._set_only_lift_cpu_tensors(self._lift)
        super().__exit__(*exception)
        self._cudnn.__exit__(None, None, None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        flat, spec = tree_flatten((args, kwargs))
        ours = {id(a.inner): a for a in flat if isinstance(a, OnCuda)}
        strangers = [a for a in flat if isinstance(a, torch.Tensor) and not isinstance(a, OnCuda)]
        kind = func.overloadpacket
        if kind in _OTHER_CTC:
            return False
        if ours and kind not in _MAY_MIX and any(a.dim() for a in strangers):
            shapes = [tuple(a.shape) for a in strangers]
            raise RuntimeError(f"{func}: tensors on cuda and on cpu, the latter {shapes}")
        device = kwargs.get("device")
        target = "cuda" if ours else "cpu"
        if device is not None:
            target = torch.device(device).type
            kwargs["device"] = torch.device("cpu")
        if kind is _aten.copy_:
            target = args[0].device.type
        self._note(kind, ours, target, args)
        (args, kwargs) = tree_unflatten(
            [torch.device("cpu") if a == CUDA else a for a in map(_inner, flat)], spec
        )
        if device is not None:
            kwargs["device"] = torch.device("cpu")
        out = _on_cpu(func, kind, args, kwargs)
        return tree_map(lambda x: _wrapped(x, ours, target), out)

    def _note(self, kind: Any, ours: dict, target: str, args: Any) -> None:
        copied = kind in (_aten._to_copy, _aten.copy_) and ours and target == "cpu"
        masks = kind in _BY_INDEX and any(
            isinstance(i, torch.Tensor) and i.dtype == torch.bool for i in args[1]
        )
        if ours and (kind in _WAITS or copied or masks):
            self.waits[_asker()] += 1


def _on_cpu(func: Any, kind: Any, args: Any, kwargs: Any) -> Any:
    """Call an operation; some are of CUDA alone."""
    if kind in (_aten._softmax, _aten._log_softmax) and args[2]:  # half to float
        args = (args[0].float(), args[1], False)
    return func(*args, **kwargs)


def _asker() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        # fastimport.py wraps functions of torch once espnet2 was imported by it.
        passed = path.name in (Path(__file__).name, "fastimport.py")
        if not passed and "torch" not in path.parts:
            return f"{path.parent.name}/{path.name}"
        frame = frame.f_back
    return "?"


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnCuda) else value


def _wrapped(value: Any, ours: dict, target: str) -> Any:
    if not isinstance(value, torch.Tensor) or isinstance(value, OnCuda):
        return value
    if id(value) in ours:  # an operation in place
        return ours[id(value)]
    return OnCuda(value) if target == "cuda" else value


def to_cuda(value: Any) -> Any:
    """Return a tensor, a module or containers of them on the GPU that is none."""
    if isinstance(value, torch.nn.Module):
        value = copy.deepcopy(value)
        for module in value.modules():
            for name, p in module._parameters.items():
                if p is not None:
                    module._parameters[name] = torch.nn.Parameter(
                        OnCuda(p.detach()), requires_grad=p.requires_grad
                    )
            for name, b in module._buffers.items():
                module._buffers[name] = None if b is None else OnCuda(b.detach())
        return value
    return tree_map(lambda x: OnCuda(x) if isinstance(x, torch.Tensor) else x, value)


@contextlib.contextmanager
def cuda_autocast(dtype: torch.dtype | None) -> Iterator[None]:
    """What ``torch.autocast("cuda", dtype)`` does where there is a GPU; None: nothing."""
    if dtype is None:
        yield
        return
    before = torch.is_autocast_enabled("cuda"), torch.get_autocast_dtype("cuda")
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", before[0])
        torch.set_autocast_dtype("cuda", before[1])
