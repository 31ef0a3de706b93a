# SPDX-License-Identifier: Apache-2.0
"""From the events of espeak-ng to phone and word intervals."""

import re
from dataclasses import dataclass

SILENCE = "SIL"

EVENT_SENTENCE, EVENT_END, EVENT_PHONEME = 2, 5, 7
_NOT_A_PHONE = re.compile(r"\([^)]*\)|[ˈˌ\-\s]")  # language switches "(en)", stress, tie hints


@dataclass(frozen=True)
class Segment:
    """A labelled half-open interval ``[start_s, end_s)`` in seconds."""

    label: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Mark:
    """One event of the synthesiser: phone ``label`` (may be empty) starts at ``sample``.

    Attributes:
        sample: Position in the audio, in samples.
        position: Position in the text, in characters from 0.
        label: IPA phone, "" for a pause and for sounds that have no IPA sign.
        kind: espeak-ng's event type.
    """

    sample: int
    position: int
    label: str
    kind: int = EVENT_PHONEME


def marks_to_segments(
    text: str, marks: list[Mark], n_samples: int, rate_hz: int
) -> tuple[list[Segment], list[Segment]]:
    """Turn synthesiser events into phones that tile the audio, and words that span them.

    A pause and a sound without IPA sign (such as the glide in Italian "pr") look the same. It is a
    pause when a clause ends behind it or no phone of the same word stands before it; else it
    prolongs the phone before it.

    Args:
        text: The text whose character positions the marks name.
        marks: Events in order of time.
        n_samples: Length of the audio.
        rate_hz: Its sampling rate.

    Returns:
        ``(phones, words)``, times in seconds.
    """
    tokens = [(m.start(), m.end()) for m in re.finditer(r"\S+", text)]
    pieces: list[list] = [[SILENCE, None, 0]]  # label, token index, first sample
    clause_ends = _before_clause_end(marks)
    for mark, at_end in zip(marks, clause_ends, strict=True):
        if mark.kind != EVENT_PHONEME:
            continue
        label = _NOT_A_PHONE.sub("", mark.label)
        token = _token_at(tokens, mark.position)
        if label and token is not None:
            pieces.append([label, token, mark.sample])
        elif at_end or token is None or pieces[-1][1] != token:
            pieces.append([SILENCE, None, mark.sample])
    phones: list[list] = []  # label, token, first sample, last sample + 1
    for piece, following in zip(pieces, [*pieces[1:], [None, None, n_samples]], strict=True):
        label, token, start = piece
        end = min(following[2], n_samples)
        if end <= start:
            continue
        if phones and phones[-1][0] == label == SILENCE:
            phones[-1][3] = end
        else:
            phones.append([label, token, start, end])
    spans: dict[int, list[int]] = {}  # token to first sample, last sample + 1
    for _, token, start, end in phones:
        if token is not None:
            spans.setdefault(token, [start, end])[1] = end
    return (
        [Segment(label, start / rate_hz, end / rate_hz) for label, _, start, end in phones],
        [Segment(text[slice(*tokens[t])], a / rate_hz, b / rate_hz) for t, (a, b) in spans.items()],
    )


def _before_clause_end(marks: list[Mark]) -> list[bool]:
    """Tell for each mark whether only unlabelled marks stand between it and its clause's end."""
    flags, at_end = [], True
    for mark in reversed(marks):
        if mark.kind in (EVENT_END, EVENT_SENTENCE):
            at_end = True
        elif mark.kind == EVENT_PHONEME and mark.label:
            at_end = False
        flags.append(at_end)
    return flags[::-1]


def _token_at(tokens: list[tuple[int, int]], position: int) -> int | None:
    """Return the index of the last token that starts at or before ``position``."""
    index = sum(start <= position for start, _ in tokens) - 1
    return index if index >= 0 else None
