# SPDX-License-Identifier: Apache-2.0
"""What ``--list`` and ``--dry-run`` tell of a recipe's corpus: where it comes from, its terms."""

from collections.abc import Iterator

from espnet_ext.installation import recipe_command
from espnet_ext.recipe.schema import Corpus


def lines(corpus: Corpus) -> Iterator[str]:
    """Yield lines for people; none where a recipe needs no corpus."""
    names = [name for name in (corpus.env, *corpus.more_env) if name]
    if not names:
        return
    size = f", {corpus.size}" if corpus.size else ""
    yield f"  corpus: {corpus.name}{size}"
    if corpus.language:
        yield f"    language: {corpus.language}"
    if corpus.source:
        yield f"    source: {corpus.source}"
    if corpus.licence:
        yield f"    licence: {corpus.licence}"
    unset = f"; without {corpus.env} it is downloaded" if corpus.env and corpus.download else ""
    paths = " ".join(f"{name}=/path" for name in names)
    yield f"    paths: {paths} {recipe_command()}{unset}"
