# SPDX-License-Identifier: Apache-2.0
"""Let modules of espnet2 take classes from Hugging Face transformers without importing it.

Neither transformers nor ``sys.modules`` is touched. The source of each module in :data:`TAKERS`
is compiled without its top-level ``from transformers... import ...`` lines, and each name they
bind is put into that module as a :class:`Deferred`. So no other module can meet a stand-in by
importing transformers, and none is left in espnet2 either once it has been used: it puts the
real object in its own place.

A line is kept as it stands, and so works or fails as ever, if transformers is not installed or is
imported already, or if its files do not hold the name. What cannot be foreseen without importing
is an error inside transformers: it is raised where a name is first used, while
``is_transformers_available`` of the espnet2 module says True.
"""

import ast
import copy
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGE = "transformers"
# The package makes these names available itself; all others stand in the module they come from.
_AUTO = ("modeling_auto.py", "tokenization_auto.py", "processing_auto.py")

#: Modules of espnet2 that take names from transformers at import and use them in functions only.
TAKERS = frozenset(
    {
        "espnet2.asr.decoder.hugging_face_transformers_decoder",
        "espnet2.asr.encoder.hugging_face_transformers_encoder",
        "espnet2.asr.postencoder.hugging_face_transformers_postencoder",
        "espnet2.beats.encoder",
        "espnet2.bin.asr_inference",
        "espnet2.layers.create_adapter_fn",
        "espnet2.text.hugging_face_token_id_converter",
        "espnet2.text.hugging_face_tokenizer",
        "espnet2.text.qwen2audio_tokenizer",
    }
)


class Deferred:
    """Stand for ``name`` of ``source`` in the module ``taker``, and import it at the first use.

    It can be called, subclassed, pickled, and stand in ``isinstance`` and in annotations, each
    with the outcome of the real object. It is no type, so it cannot be the first argument of
    ``issubclass`` nor stand in ``except`` or in a ``case`` pattern; espnet2 has no such use.
    """

    __slots__ = ("_origin",)

    def __init__(self, taker: ModuleType, alias: str, source: str, name: str):
        object.__setattr__(self, "_origin", (taker, alias, source, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(_real(self), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(_real(self), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_real(self), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _real(self)(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, _real(self))

    def __subclasscheck__(self, cls: type) -> bool:
        return issubclass(cls, _real(self))

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (_real(self),)

    def __or__(self, other: Any) -> Any:
        return _real(self) | other

    def __ror__(self, other: Any) -> Any:
        return other | _real(self)

    def __eq__(self, other: object) -> bool:
        return _real(self) == (_real(other) if isinstance(other, Deferred) else other)

    def __hash__(self) -> int:
        return hash(_real(self))

    def __repr__(self) -> str:
        return repr(_real(self))

    def __reduce__(self) -> tuple[Any, ...]:
        # A class copied is the class itself: reading the pickle needs nothing of this package.
        return copy.copy, (_real(self),)


def _real(deferred: Deferred) -> Any:
    """Import what ``deferred`` stands for, and put it in the place of ``deferred``.

    Raises:
        ImportError: The package cannot be imported or has no such name after all.
    """
    taker, alias, source, name = object.__getattribute__(deferred, "_origin")
    module = importlib.import_module(source)
    try:
        real = getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"cannot import name {name!r} from {source!r}", name=source) from error
    if vars(taker).get(alias) is deferred:
        setattr(taker, alias, real)
    return real


class _Cut(ast.NodeTransformer):
    """Cut the import lines whose names are all there; note what they would have bound."""

    def __init__(self, root: Path):
        self._root = root
        self.bound: dict[str, tuple[str, str]] = {}

    def visit_FunctionDef(self, node: ast.AST) -> ast.AST:
        return node

    visit_AsyncFunctionDef = visit_ClassDef = visit_FunctionDef

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        source = node.module or ""
        if node.level or source.partition(".")[0] != _PACKAGE:
            return node
        text = self._text(source)
        if not all(re.search(rf"\b{re.escape(item.name)}\b", text) for item in node.names):
            return node
        self.bound.update({item.asname or item.name: (source, item.name) for item in node.names})
        return ast.copy_location(ast.Pass(), node)

    def _text(self, source: str) -> str:
        parts = source.split(".")[1:]
        files = [self._root.joinpath(*parts).with_suffix(".py")] if parts else self._auto()
        return "\n".join(path.read_text("utf-8") for path in files if path.is_file())

    def _auto(self) -> list[Path]:
        return [self._root / "models" / "auto" / name for name in _AUTO]


class DeferringLoader(importlib.machinery.SourceFileLoader):
    """Run a module's source with its names from transformers deferred.

    Everything else about the module, such as its source and its bytecode, is as the base class
    gives it: ``runpy``, which runs a module's bytecode by itself, runs it with its imports.
    """

    root = Path()

    def exec_module(self, module: ModuleType) -> None:
        """Bind the deferred names, then run the rest of the module's code."""
        cut = _Cut(self.root)
        tree = cut.visit(ast.parse(self.get_data(self.path), self.path))
        for alias, (source, name) in cut.bound.items():
            setattr(module, alias, Deferred(module, alias, source, name))
        exec(compile(tree, self.path, "exec", dont_inherit=True), vars(module))  # noqa: S102


class DeferringFinder(importlib.abc.MetaPathFinder):
    """Serve the named modules by :class:`DeferringLoader` while transformers is not imported."""

    def __init__(self, takers: Collection[str] = TAKERS):
        self._takers = takers

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find ``fullname`` if its imports can be deferred; leave it to other finders if not."""
        if fullname not in self._takers or _PACKAGE in sys.modules:
            return None
        package = importlib.util.find_spec(_PACKAGE)
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if package is None or package.origin is None or spec is None:
            return None
        if type(spec.loader) is not importlib.machinery.SourceFileLoader:
            return None
        spec.loader = DeferringLoader(fullname, spec.loader.path)
        spec.loader.root = Path(package.origin).parent
        return spec
