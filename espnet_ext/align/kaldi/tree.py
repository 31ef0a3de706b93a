# SPDX-License-Identifier: Apache-2.0
"""Kaldi's ``tree``: from phones in context and a pdf-class to a tied state.

Nodes are ``CE pdf`` (a leaf), ``TE key size ( child ... )`` (one child for each value) and
``SE key [ values ] { yes no }``. Key -1 is the pdf-class (the HMM state in usual topologies), key
i is phone i of the context window; ``NULL`` is no answer.

Source: the file format of Kaldi's tree/context-dep and tree/event-map.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_ext.align.kaldi.io import TokenReader, open_stream
from espnet_ext.errors import DataError

PDF_CLASS = -1
Node = Any  # int (leaf) | None | ("TE", key, [Node]) | ("SE", key, frozenset, Node, Node)


@dataclass(frozen=True)
class KaldiTree:
    """A decision tree.

    Args:
        width: Phones in the context window (3 for triphones, 1 for monophones).
        centre: Position of the phone itself in the window.
        root: The nodes.
    """

    width: int
    centre: int
    root: Node

    @classmethod
    def read(cls, path: Path | str) -> "KaldiTree":
        """Read a ``tree`` file, binary or text.

        Raises:
            DataError: Missing, truncated or not a tree.
        """
        with open_stream(path) as stream:
            r = TokenReader(stream, path)
            r.expect("ContextDependency")
            width, centre = r.integer(), r.integer()
            if r.expect("ToPdf", "ToLength") == "ToLength":  # very old trees
                _read_node(r)
                r.expect("ToPdf")
            try:
                root = _read_node(r)
            except RecursionError:
                raise r.error("the tree is too deep") from None
            r.expect("EndContextDependency")
        if not 0 <= centre < width:
            raise DataError(f"context width {width} with centre {centre}", path)
        return cls(width, centre, root)

    @property
    def num_pdfs(self) -> int:
        """Tied states."""
        return 1 + max(_leaves(self.root, {}), default=-1)

    def pdf_of(self, context: Sequence[int], pdf_class: int) -> int | None:
        """Return the tied state of the middle phone of ``context``; None if the tree has none.

        Args:
            context: ``width`` phone ids; 0 is beyond the ends of an utterance.
            pdf_class: The HMM state's pdf-class.
        """
        if len(context) != self.width:
            raise ValueError(f"{len(context)} phones for a window of {self.width}")
        values = dict(enumerate(context)) | {PDF_CLASS: pdf_class}
        return next(_leaves(self.root, values), None)

    def pdfs(self, phone: int, pdf_class: int) -> set[int]:
        """Return all tied states that ``phone`` has in any context."""
        return set(_leaves(self.root, {self.centre: phone, PDF_CLASS: pdf_class}))


def _read_node(r: TokenReader) -> Node:
    kind = r.expect("CE", "TE", "SE", "NULL")
    if kind == "NULL":
        return None
    if kind == "CE":
        return r.integer()
    key = r.integer()
    if kind == "TE":
        size = r.integer()
        r.expect("(")
        children = [_read_node(r) for _ in range(size)]
        r.expect(")")
        return ("TE", key, children)
    values = frozenset(r.integers())
    r.expect("{")
    yes, no = _read_node(r), _read_node(r)
    r.expect("}")
    return ("SE", key, values, yes, no)


def _leaves(root: Node, known: dict[int, int]) -> Iterator[int]:
    """Yield the leaves that can be reached; a key not in ``known`` may have any value."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node is None:
            continue
        if isinstance(node, int):
            yield node
            continue
        value = known.get(node[1])
        if node[0] == "TE":
            if value is None:
                stack.extend(node[2])
            elif 0 <= value < len(node[2]):
                stack.append(node[2][value])
        elif value is None:
            stack.extend(node[3:])
        else:
            stack.append(node[3] if value in node[2] else node[4])
