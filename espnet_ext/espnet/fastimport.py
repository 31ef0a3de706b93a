# SPDX-License-Identifier: Apache-2.0
"""Import espnet2 in a third of the time: nothing is removed, only delayed until it is used.

Three means, all switched on by :func:`enable` before the first espnet2 import:

1. ``typeguard.typechecked`` returns functions of espnet2 and inflect unchanged. Typeguard parses
   and compiles a whole module again for each function it decorates; espnet2 has hundreds. Other
   packages keep their checks. ``ESPNET_EXT_TYPECHECK=1`` keeps them for espnet2 too.
2. The modules in :data:`LAZY` run their code at the first use of any of their names instead of at
   import. The module object is the real one from the start. Only the names that importing or
   plain eager code touches have a stand-in, always a function that acts as the real one does
   then; classes have none, so ``isinstance`` and subclassing never see a stand-in.
3. Hugging Face transformers, where it is installed, is imported when espnet2 uses a class of it;
   see :mod:`espnet_ext.espnet.deferred`, which stands in for classes, inside espnet2 only.

``ESPNET_EXT_FAST_IMPORT=0`` makes :func:`enable` do nothing at all. An error inside a lazy module
is raised where the module is first used; a module that is not installed fails at import, as ever.
"""

import functools
import importlib.abc
import importlib.machinery
import logging
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any

from espnet_ext.espnet.deferred import DeferringFinder

logger = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 60.0
# Asked of any module by the import system and by warnings; answering costs nothing, loading would.
_PROBES = frozenset({"__path__", "__warningregistry__"})
_UNCHECKED = frozenset({"espnet2", "inflect"})

StandIn = Callable[["LazyLoader"], Callable[..., Any]]


class LazyLoader(importlib.abc.Loader):
    """Give a module its spec at import, and run its code at the first use of one of its names.

    Unlike :class:`importlib.util.LazyLoader`, importing the module a second time does not count
    as a use, and names that have a stand-in can be imported and called without loading.

    Args:
        loader: The loader which really runs the module's code.
        stand_ins: What to put under a name until then; each is called with this object.
    """

    def __init__(self, loader: importlib.abc.Loader, stand_ins: Mapping[str, StandIn]):
        self._loader, self._stand_ins = loader, stand_ins
        self._lock, self._loading = threading.RLock(), False
        self.loaded = False
        self.module: ModuleType | None = None
        self.on_load: list[Callable[[], object]] = []

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Let the real loader make the module object."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Prepare ``module`` so that its first use loads it."""
        self.module, self.loaded = module, False
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        namespace = vars(module)
        namespace.update({name: make(self) for name, make in self._stand_ins.items()})
        namespace["__getattr__"] = self._getattr
        namespace["__dir__"] = self._dir

    def load(self) -> ModuleType:
        """Run the module's code if that has not been done; return the module.

        Raises:
            Exception: Whatever the module's code raises, at every use until it succeeds.
        """
        # The import system holds locks of its own here; where two threads import in opposite
        # orders it gives up waiting and shows a partly loaded module, and so does this.
        held = self._lock.acquire(timeout=_LOCK_TIMEOUT_S)
        try:
            if not self.loaded and not self._loading and self.module is not None:
                self._run(self.module)
        finally:
            if held:
                self._lock.release()
        return self.module

    def _run(self, module: ModuleType) -> None:
        namespace = vars(module)
        before = dict(namespace)
        for name in self._stand_ins:
            # The module's own code must meet what it would meet in a plain import.
            namespace.pop(name, None)
        self._loading = True
        try:
            self._loader.exec_module(module)
            self.loaded = True
        except BaseException:
            namespace.clear()
            namespace.update(before)
            raise
        finally:
            self._loading = False
        for name, own in (("__getattr__", self._getattr), ("__dir__", self._dir)):
            if namespace.get(name) == own:
                del namespace[name]
        for act in self.on_load:
            act()

    def _getattr(self, name: str) -> Any:
        if name not in _PROBES:
            namespace = vars(self.load())
            if name in namespace:
                return namespace[name]
            if namespace.get("__getattr__", self._getattr) != self._getattr:
                return namespace["__getattr__"](name)
        raise AttributeError(f"module {self.module.__name__!r} has no attribute {name!r}")

    def _dir(self) -> list[str]:
        return dir(self.load())


class LazyFinder(importlib.abc.MetaPathFinder):
    """Serve the named modules by :class:`LazyLoader`, found by the other finders.

    Args:
        lazy: For each module, its names that have a stand-in and what makes it.
    """

    def __init__(self, lazy: Mapping[str, Mapping[str, StandIn]]):
        self._lazy = lazy
        self._loaders: dict[str, LazyLoader] = {}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find ``fullname`` if it is to be lazy; load a lazy package of which it is a part.

        ``target`` is given by :func:`importlib.reload` only, which must not be delayed.
        """
        parent = self._loaders.get(fullname.rpartition(".")[0])
        if parent is not None:
            parent.load()
        if fullname not in self._lazy or target is not None:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find(fullname, path, target) if find and finder is not self else None
            if spec is not None:
                break
        else:
            return None
        if spec.loader is None or not hasattr(spec.loader, "exec_module"):
            return spec
        spec.loader = self._loaders[fullname] = LazyLoader(spec.loader, self._lazy[fullname])
        return spec


def _calls(name: str) -> StandIn:
    """Make a function that loads the module and calls the real function."""

    def make(lazy: LazyLoader) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            return getattr(lazy.load(), name)(*args, **kwargs)

        stand_in.__name__ = stand_in.__qualname__ = name
        stand_in.__module__ = lazy.module.__name__
        return stand_in

    return make


def _dynamo_graph_break(lazy: LazyLoader) -> Callable[..., None]:
    def graph_break(*args: Any, **kwargs: Any) -> None:
        # Outside a compiled region, the only place without dynamo, the real one does nothing.
        if lazy.loaded:
            lazy.module.graph_break(*args, **kwargs)

    return graph_break


def _dynamo_disable(lazy: LazyLoader) -> Callable[..., Any]:
    def disable(fn: Any = None, recursive: bool = True, **options: Any) -> Any:
        if lazy.loaded or not isinstance(fn, FunctionType):
            return lazy.load().disable(fn, recursive, **options)
        return _disabled_later(lazy, fn, recursive, options)

    return disable


def _disabled_later(
    lazy: LazyLoader, fn: FunctionType, recursive: bool, options: Mapping[str, Any]
) -> Callable[..., Any]:
    """Wrap ``fn`` so that it is plain until dynamo is loaded, and then disabled by dynamo."""
    disabled: list[Callable[..., Any]] = []

    def call(*args: Any, **kwargs: Any) -> Any:
        if not lazy.loaded:
            return fn(*args, **kwargs)
        if not disabled:
            disabled.append(lazy.module.disable(fn, recursive, **options))
        return disabled[0](*args, **kwargs)

    if options.get("wrapping", True):
        functools.update_wrapper(call, fn)
    # What dynamo looks for before it traces into a function.
    call._torchdynamo_disable = True
    call._torchdynamo_disable_msg = options.get("reason")
    call._torchdynamo_disable_recursive = recursive
    # Once dynamo is there it shall not compile the wrapper itself.
    lazy.on_load.append(lambda: lazy.module.eval_frame.skip_code(call.__code__))
    return call


#: Modules that run at first use, with the stand-ins of their names.
LAZY: dict[str, dict[str, StandIn]] = {
    # 3.5 s. espnet2 marks one function `torch.compiler.disable`; torch's optimizers and
    # checkpointing mark theirs and call graph_break at each step. All of it is for torch.compile.
    "torch._dynamo": {"disable": _dynamo_disable, "graph_break": _dynamo_graph_break},
    # 2.5 s. To recognise one class it imports all of GAN-TTS with numba and scipy.stats; the
    # trainer calls it only where attention is plotted (num_att_plot > 0).
    "espnet2.main_funcs.calculate_all_attentions": {
        "calculate_all_attentions": _calls("calculate_all_attentions")
    },
    # 1.5 s. Used by the preprocessor for reverberation and noise only.
    "scipy.signal": {},
    # Its import tries to download nltk data; phoneme_tokenizer needs it for English G2P only.
    "g2p_en": {},
}


def _on(variable: str, default: str) -> bool:
    return os.environ.get(variable, default).strip().lower() not in {"", "0", "false", "no"}


def _skip_typechecks() -> None:
    import typeguard

    real = typeguard.typechecked
    if getattr(real, "_espnet_ext", False):
        return

    @functools.wraps(real)
    def typechecked(target: Any = None, **options: Any) -> Any:
        if target is None:
            return functools.partial(typechecked, **options)
        package = (getattr(target, "__module__", None) or "").partition(".")[0]
        return target if package in _UNCHECKED else real(target, **options)

    typechecked._espnet_ext = True
    typeguard.typechecked = typechecked


def enable() -> bool:
    """Make the espnet2 imports that follow fast; see the head of this module.

    Call it before the first ``import espnet2...``; calling it again is harmless. It imports
    typeguard and nothing heavier.

    Returns:
        Whether the fast import is on: False if ``ESPNET_EXT_FAST_IMPORT=0`` or if
        ``espnet2.tasks.abs_task`` was imported without it, when there is nothing left to save.
    """
    if not _on("ESPNET_EXT_FAST_IMPORT", "1"):
        return False
    if any(isinstance(finder, LazyFinder) for finder in sys.meta_path):
        return True
    if "espnet2.tasks.abs_task" in sys.modules:
        logger.debug("espnet2 is imported already: the fast import comes too late, left off")
        return False
    if not _on("ESPNET_EXT_TYPECHECK", "0"):
        _skip_typechecks()
    sys.meta_path[:0] = [LazyFinder(LAZY), DeferringFinder()]
    return True
