# SPDX-License-Identifier: Apache-2.0
"""Signs that a model recognises nothing: said loudly, and no reason to publish it unseen."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_ext.errors import EspnetExtError
from espnet_ext.recipe import records
from espnet_ext.recipe.stages import Context

EMPTY_PERCENT = 50.0  # more empty hypotheses than this are a sign
ERRORS_PERCENT = 95.0  # so is an error rate of words or concepts from here on
ERROR_RATES = {
    "wer": "word error rate", "wer_plain": "word error rate", "concept": "concept error rate",
}  # fmt: skip
ONE_CLASS_UTTERANCES = 10  # so are as many utterances, all with the same class
KEY = "doubt"  # in decode.json


def of_texts(texts: Iterable[str]) -> str:
    """Return what is wrong with the hypotheses of a set; empty if nothing is."""
    found = [bool(text.split()) for text in texts]
    empty = found.count(False)
    if not found or 100 * empty <= EMPTY_PERCENT * len(found):
        return ""
    return f"{empty} of {len(found)} hypotheses are empty"


def of_classes(labels: Iterable[str], what: str, known: int) -> str:
    """Return what is wrong with the classes found in a set.

    Args:
        labels: The class of each utterance.
        what: What is classified, e.g. ``intent``.
        known: Number of classes that the model can tell.
    """
    found = list(labels)
    if len(found) < ONE_CLASS_UTTERANCES or known < 2 or len(set(found)) > 1:
        return ""
    return f"all {len(found)} utterances have the same {what}, {found[0]}"


def lines(ctx: Context) -> list[str]:
    """Return a line for each sign of a set, from the last decoding and the scores of it."""
    out = []
    for path in sorted((ctx.exp / "decode").glob("*/*/decode.json")):
        if doubt := (records.read(path) or {}).get(KEY):
            out.append(f"{path.parent.name} ({path.parents[1].name}): {doubt}")
    return out + _of_scores(ctx)


def _of_scores(ctx: Context) -> list[str]:
    out, path = [], ctx.exp / "scores.json"
    sets: Mapping[str, Mapping[str, dict]] = (records.read(path) or {}).get("sets", {})
    for name, methods in sets.items():
        for method, scored in methods.items():
            if _is_newer(ctx.exp / "decode" / method / name / "decode.json", path):
                continue
            for metric, title in ERROR_RATES.items():
                value = scored.get("metrics", {}).get(metric, {}).get("value", 0.0)
                if value >= ERRORS_PERCENT:
                    out.append(f"{name} ({method}): the {title} is {value:.2f} %")
    return out


def _is_newer(path: Path, than: Path) -> bool:
    return path.exists() and path.stat().st_mtime > than.stat().st_mtime


def warnings(ctx: Context) -> list[str]:
    """Return the lines as they are said."""
    return [f"WARNING: {line}: the model is of no use" for line in lines(ctx)]


def refuse(ctx: Context) -> None:
    """Stop the publishing of a model that seems to recognise nothing, unless ``--force``.

    Raises:
        EspnetExtError: A sign was found.
    """
    found = lines(ctx)
    if found and not ctx.options.force:
        raise EspnetExtError(
            "the model is not packed, as it seems to recognise nothing:\n    "
            + "\n    ".join(found),
            ctx.exp,
            "train longer, with another learning rate, or look at the data; "
            "./run.sh --stage pack --force packs it as it is",
        )
