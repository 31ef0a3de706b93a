# SPDX-License-Identifier: Apache-2.0
"""A tree of files that goes onto a branch."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from espnet_ext.upstream.mapping import Mapped


@dataclass(frozen=True)
class Tree:
    """What is written.

    Attributes:
        folder: Of the recipe, below the checkout.
        files: Text by path below the checkout.
        body: Text of the pull request; not part of the branch.
        result: The mapped options.
        links: Target of each symbolic link, by path.
        copies: Path below the checkout that each file is a copy of.
    """

    folder: str
    files: dict[str, str]
    body: str
    result: Mapped
    links: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        """All paths of the branch."""
        return sorted({*self.files, *self.links, *self.copies})
