# SPDX-License-Identifier: Apache-2.0
"""Phonetic decision tree: which triphone states share a pdf (a tied state, senone).

Every (phone, state) has a root; inner nodes ask whether the left or the right neighbour belongs
to a set of phones, so triphones never seen in training have a pdf as well.

Source:
    Young, Odell, Woodland, "Tree-based state tying for high accuracy acoustic modelling", 1994.
"""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt
from pathlib import Path

import numpy as np

from espnet_ext.align.tree.grow import SIDES, Grower, donor_roots, number_leaves
from espnet_ext.align.tree.questions import check_phones
from espnet_ext.align.tree.stats import TriphoneStats, sum_rows
from espnet_ext.errors import DataError
from espnet_ext.files import write_text
from espnet_ext.lang.phones import SILENCE_ID, STATES

FORMAT = "espnet_ext decision tree 1"


@dataclass(frozen=True)
class Tree:
    """Decision trees of all (phone, state) roots.

    Args:
        num_phones: Size of the phone set, silence included.
        questions: Sets of phone ids.
        roots: ``roots[3 * phone + state]`` is a node; phones without data share another's.
        nodes: A leaf is ``(pdf,)``, an inner node ``(side, question, yes, no)`` with side 0 for
            left, 1 for right. Children come after their parent, in the order of splitting.

    Raises:
        DataError: The nodes are no tree of this kind.
    """

    num_phones: int
    questions: tuple[frozenset[int], ...]
    roots: tuple[int, ...]
    nodes: tuple[tuple[int, ...], ...]
    _cache: dict[tuple[int, int, int, int], int] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise DataError(f"not a valid decision tree: {problem}", "tree", "train it again")

    @classmethod
    def monophone(cls, num_phones: int) -> "Tree":
        """Return the tree without questions: pdf ``3 * phone + state``."""
        count = num_phones * STATES
        return cls(num_phones, (), tuple(range(count)), tuple((i,) for i in range(count)))

    @property
    def context(self) -> bool:
        """Whether any pdf depends on the neighbours."""
        return any(len(node) == 4 for node in self.nodes)

    @property
    def num_pdfs(self) -> int:
        """K; pdfs are ``0 .. K - 1``."""
        return 1 + max(node[0] for node in self.nodes if len(node) == 1)

    def pdf(self, left: int, phone: int, right: int, state: int) -> int:
        """Return the pdf of a triphone state; silence does not depend on its neighbours.

        Raises:
            DataError: There is no such phone or state.
        """
        key = (left, phone, right, state)
        found = self._cache.get(key)
        if found is None:
            in_set = 0 <= min(left, phone, right) <= max(left, phone, right) < self.num_phones
            if not (in_set and 0 <= state < STATES):
                raise DataError(
                    f"no triphone state {key} in a tree of {self.num_phones} phones", "tree",
                    "use the lexicon that the model was trained with",
                )  # fmt: skip
            node = self.nodes[self.roots[phone * STATES + state]]
            while len(node) == 4:
                side, question, yes, no = node
                node = self.nodes[yes if key[2 * side] in self.questions[question] else no]
            found = self._cache[key] = node[0]
        return found

    def pdf_phone_state(self) -> tuple[frozenset[tuple[int, int]], ...]:
        """Return for each pdf the (phone, state) pairs that use it."""
        out: list[set[tuple[int, int]]] = [set() for _ in range(self.num_pdfs)]
        for root, start in enumerate(self.roots):
            for node in self._below(start):
                if len(self.nodes[node]) == 1:
                    out[self.nodes[node][0]].add(divmod(root, STATES))
        return tuple(frozenset(x) for x in out)

    @property
    def silence_pdfs(self) -> tuple[int, ...]:
        """The pdfs of silence, in the order of its states."""
        return tuple(self.pdf(0, SILENCE_ID, 0, state) for state in range(STATES))

    def to_json(self) -> dict[str, object]:
        """Return an object that :meth:`from_json` reads."""
        return {
            "format": FORMAT,
            "num_phones": self.num_phones,
            "questions": [sorted(q) for q in self.questions],
            "roots": list(self.roots),
            "nodes": [list(node) for node in self.nodes],
        }

    @classmethod
    def from_json(cls, obj: object) -> "Tree":
        """Make the tree from a parsed JSON object.

        Raises:
            DataError: It is not what :meth:`to_json` returns.
        """
        if not isinstance(obj, dict) or obj.get("format") != FORMAT:
            raise DataError(f'not a decision tree (format "{FORMAT}")', "tree")
        try:
            sets = tuple(frozenset(q) for q in obj["questions"])
            nodes = tuple(tuple(node) for node in obj["nodes"])
            return cls(obj["num_phones"], sets, tuple(obj["roots"]), nodes)
        except (KeyError, TypeError) as e:
            raise DataError(f"not a valid decision tree: {e!r}", "tree", "train it again") from e

    def write(self, path: Path | str) -> None:
        """Write the tree as JSON atomically."""
        write_text(path, json.dumps(self.to_json()) + "\n")

    @classmethod
    def read(cls, path: Path | str) -> "Tree":
        """Read what :meth:`write` wrote.

        Raises:
            DataError: The file is missing, cut off or no tree.
        """
        try:
            return cls.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        except (OSError, ValueError, DataError) as e:
            what = e.what if isinstance(e, DataError) else f"the tree cannot be read ({e})"
            raise DataError(what, path, "delete it and train the tree again") from e

    def _below(self, start: int) -> list[int]:
        found = [start]
        for node in found:
            found.extend(self.nodes[node][2:])
        return found

    def _problem(self) -> str | None:
        flat = (
            self.num_phones,
            *self.roots,
            *(x for y in (*self.questions, *self.nodes) for x in y),
        )
        if not all(type(x) is int and x >= 0 for x in flat):
            return "something is not a whole number of at least 0"
        if not self.num_phones or len(self.roots) != self.num_phones * STATES:
            return f"{len(self.roots)} roots for {self.num_phones} phones of {STATES} states"
        if any(p >= self.num_phones for q in self.questions for p in q):
            return "a question names a phone that does not exist"
        if any(root >= len(self.nodes) for root in self.roots):
            return "a root is no node"
        for i, node in enumerate(self.nodes):
            if len(node) == 1:
                continue
            if len(node) != 4 or node[0] >= len(SIDES) or node[1] >= len(self.questions):
                return f"node {i} is neither a leaf nor a question"
            if not all(i < child < len(self.nodes) for child in node[2:]):
                return f"a child of node {i} does not come after it"
        children = [child for node in self.nodes for child in node[2:]]
        if len(set(children)) != len(children):
            return "two nodes share a child"
        pdfs = {node[0] for node in self.nodes if len(node) == 1}
        if pdfs != set(range(len(pdfs))):
            return "pdfs are not numbered 0, 1, 2, ..."
        first = SILENCE_ID * STATES
        if any(len(self.nodes[root]) != 1 for root in self.roots[first : first + STATES]):
            return "silence depends on its neighbours"
        return None


def build_tree(
    stats: TriphoneStats,
    questions: Sequence[frozenset[int]],
    num_phones: int,
    *,
    leaves: int,
    min_count: float = 100.0,
    var_floor: float = 0.01,
    merge: bool = True,
) -> Tree:
    """Grow a decision tree: always the split of most likelihood gain over all roots.

    A phone (not silence) without data gets the tree of the phone that describes speech in
    general best, so every pdf has data. Only silence may have pdfs without data.

    Args:
        stats: Triphone statistics.
        questions: Sets of phones, e.g. of :func:`automatic_questions`.
        num_phones: Size of the phone set, silence included.
        leaves: Most leaves before merging; never fewer than the roots, which always exist.
        min_count: Fewest frames on either side of a split; roots may have fewer.
        var_floor: Smallest variance as a share of the variance of all frames.
        merge: Afterwards join leaves of one root, bottom-up, as long as this loses less than the
            least gain of all splits made (model: cluster-thresh of Kaldi).

    Returns:
        The tree; pdfs are numbered by root, silence first.

    Raises:
        DataError: There are no frames, or a phone id is not below ``num_phones``.
    """
    floor = stats.variance_floor(var_floor)
    check_phones(stats, num_phones)
    stats = stats.merge()  # sorts: the tree must not depend on the order of rows
    member = np.array([[p in q for p in range(num_phones)] for q in questions], dtype=np.float64)
    grower = Grower(stats, member.reshape(-1, num_phones), floor, min_count)
    root_of = stats.keys[:, 1] * STATES + stats.keys[:, 3]
    bounds = np.searchsorted(root_of, np.arange(num_phones * STATES + 1))
    donors = donor_roots(sum_rows(root_of, stats.packed(), num_phones * STATES), floor)
    roots = {}
    for root, (first, end) in enumerate(itertools.pairwise(bounds)):
        if donors[root] == root:
            split = root // STATES != SILENCE_ID
            roots[root] = grower.add(np.arange(first, end), split=split)
    least_gain = grower.grow(leaves)
    number_leaves(grower, list(roots.values()), least_gain if merge else 0.0)
    all_roots = tuple(roots[donor] for donor in donors)
    return Tree(num_phones, tuple(questions), all_roots, tuple(grower.nodes))


def initial_gmm_stats(
    tree: Tree, stats: TriphoneStats
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum triphone statistics per pdf, for one Gaussian each.

    A pdf without data (a phone of a monophone tree that never occurs) gets the average of all
    data with the weight of one frame, so that a Gaussian can be made of every row.

    Returns:
        occ ``(K,)``, sx ``(K, D)``, sxx ``(K, D)``.

    Raises:
        DataError: There are no frames.
    """
    stats.variance_floor(0.0)  # raises without frames
    pdfs = np.array([tree.pdf(*key) for key in stats.keys.tolist()])
    packed = sum_rows(pdfs, stats.packed(), tree.num_pdfs)
    total = packed.sum(0)
    packed[packed[:, 0] == 0] = total / total[0]
    dim = stats.sx.shape[1]
    return packed[:, 0].copy(), packed[:, 1 : 1 + dim].copy(), packed[:, 1 + dim :].copy()


def leaf_budget(seconds: float) -> tuple[int, int]:
    """Return how many leaves and Gaussians an amount of speech supports.

    Models: Kaldi's mini_librispeech, 5 h: 2000 / 10,000; TED-LIUM, 200 h: 2500-5000 / 30k-100k;
    RWTH's CART: 9001 labels at most. Leaves grow with the square root of the data, because more
    data should also make each pdf richer. The caller raises leaves to the number of roots.

    Args:
        seconds: Of speech.
    """
    leaves = int(min(2000 * sqrt(seconds / 3600 / 5.5), seconds / 6, 9000))
    gaussians = int(min(seconds / 1.5, 12 * leaves, 100_000))
    return max(leaves, 1), max(gaussians, 1)


def describe(tree: Tree, phone_names: Sequence[str], *, show: int = 10) -> str:
    """Return a summary for a person: size, the first splits, the sets asked most often."""

    def text(side: int, question: int) -> str:
        names = " ".join(phone_names[p] for p in sorted(tree.questions[question]))
        return f"{SIDES[side]} in {{{names}}}"

    lines = [
        f"{tree.num_pdfs} tied states for {tree.num_phones} phones of {STATES} states, "
        f"{len(tree.questions)} questions"
    ]
    owner: dict[int, int] = {}
    for root, start in enumerate(tree.roots):
        for node in tree._below(start):
            owner.setdefault(node, root)
    inner = [i for i, node in enumerate(tree.nodes) if len(node) == 4 and i in owner]
    if inner:
        lines.append("first splits (most gain):")
    for i in sorted(inner, key=lambda i: tree.nodes[i][2])[:show]:
        phone, state = divmod(owner[i], STATES)
        lines.append(f"  {phone_names[phone]} state {state}: {text(*tree.nodes[i][:2])}")
    asked = Counter(tree.nodes[i][:2] for i in inner)
    if asked:
        lines.append("sets asked most often:")
    for (side, question), count in sorted(asked.items(), key=lambda x: (-x[1], x[0]))[:show]:
        lines.append(f"  {count} x {text(side, question)}")
    return "\n".join(lines)
