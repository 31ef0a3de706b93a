# SPDX-License-Identifier: Apache-2.0
"""Scores need one reference and one hypothesis of each utterance, in one order."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from espnet_ext.errors import DataError

_SHOWN = 10  # utterance ids named in an error message


def same_utterances(
    refs: Mapping[str, Any], hyps: Mapping[str, Any], what: str = "hypothesis"
) -> list[str]:
    """Return the utterance ids in byte order.

    Args:
        refs: Utterance id to anything.
        hyps: The same for exactly the same utterances.
        what: What ``hyps`` are, for the message.

    Raises:
        DataError: There is no utterance, or an utterance stands on one side only.
    """
    if not refs:
        raise DataError("there is no utterance to score", "references")
    if missing := refs.keys() - hyps.keys():
        raise DataError(
            f"{len(missing)} of {len(refs)} utterances have no {what}",
            utterances(missing),
            "decode them again; an empty output still needs its line",
        )
    if extra := hyps.keys() - refs.keys():
        raise DataError(
            f"{len(extra)} utterances have a {what}, but no reference",
            utterances(extra),
            "score against the reference of the set that was decoded",
        )
    return sorted(refs, key=str.encode)


def ids_sha256(utt_ids: Iterable[str]) -> str:
    """Return the SHA-256 of utterance ids, one a line."""
    return hashlib.sha256("".join(f"{u}\n" for u in utt_ids).encode()).hexdigest()


def utterances(utt_ids: Iterable[str]) -> str:
    """Return the first few ids for an error message."""
    ordered = sorted(utt_ids, key=str.encode)
    more = len(ordered) - _SHOWN
    return ", ".join(ordered[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
