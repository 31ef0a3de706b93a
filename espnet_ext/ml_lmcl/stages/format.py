# SPDX-License-Identifier: Apache-2.0
"""Stage 2 of a text recipe: from ``data/<set>`` to ``dump/<set>``: checked, maybe normalised.

A set is three tables, ``text_manual``, ``text_asr`` and ``label`` (a label for each head, in
order). Added are ``asr_errors`` (``utterance edits reference-words`` of the ASR transcript against
the manual one, split at white space) and the labels of the training set,
``dump/labels/<head>.txt``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.data.transcripts import read_texts
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_dir, write_text
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import DATA, check_tables, sets
from espnet_ext.settings import Limits, build
from espnet_ext.text.normalize import MODES, normalize
from espnet_ext.text.tokenizer import EMPTY

FILES = ("text_manual", "text_asr", "label")
LABELS = DUMP / "labels"
_ALIKE = 0.8  # of the word errors; fewer without case and punctuation: texts of two styles


@dataclass(frozen=True)
class FormatArgs:
    """``format.args`` of recipe.yaml.

    Attributes:
        heads: Names of the labels of an utterance, e.g. ``[scenario, action]``.
        normalize: ``none``, ``lower`` or ``words`` (lower-case, no punctuation).
        unseen_labels: What to do with labels of development and test sets that the training set
            lacks: ``error``, or ``wrong``: keep the utterance, which no classifier gets right.
        wer_text: Both texts before errors are counted: ``none``, ``lower`` (as SpokenCSE) or
            ``words``, for manual text with punctuation that no recogniser writes.
    """

    heads: list[str] = field(default_factory=lambda: ["intent"])
    normalize: Annotated[str, Limits(MODES)] = "none"
    unseen_labels: Annotated[str, Limits(("error", "wrong"))] = "error"
    wer_text: Annotated[str, Limits(MODES)] = "lower"


def format_args(ctx: Context) -> FormatArgs:
    """Return the checked settings.

    Raises:
        UsageError: A key or value is not possible.
    """
    args = build(FormatArgs, ctx.recipe.format.args, "recipe.yaml", "format.args")
    if not args.heads or len(set(args.heads)) < len(args.heads):
        raise UsageError("each head needs a name of its own", "format.args.heads", "[intent]")
    return args


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args = format_args(ctx)
    made = [DUMP / s / f for s in sets(ctx) for f in (*FILES, "asr_errors")]
    return Plan(
        needs=[DATA / s / f for s in sets(ctx) for f in FILES],
        makes=[*made, *(LABELS / f"{name}.txt" for name in ("heads", *args.heads))],
        settings=asdict(args),
        disk_mb=5,
    )


def run(ctx: Context, plan: Plan) -> None:
    """Write every set; count in = count out."""
    args, known = format_args(ctx), {}
    for name in dict.fromkeys([ctx.recipe.data.train, *sets(ctx)]):
        check_tables(DATA / name, list(FILES))
        labels = read_labels(DATA / name / "label", args.heads)
        if not known:
            known = {h: sorted({row[i] for row in labels.values()}, key=str.encode)
                     for i, h in enumerate(args.heads)}  # fmt: skip
            _write_labels(known)
        unseen = _unseen(DATA / name / "label", labels, known)
        if unseen and args.unseen_labels == "error":
            raise DataError(
                f"{unseen[0][1]} (and {len(unseen) - 1} more such lines)" if unseen[1:]
                else unseen[0][1],
                unseen[0][0],
                "correct it, or keep such utterances as errors: "
                "--format.args.unseen_labels wrong",
            )  # fmt: skip
        told = _write_set(DATA / name, DUMP / name, args)
        say(f"  {name}: {told}" + (f", {len(unseen)} with an unseen label" if unseen else ""))


def read_labels(path: Path, heads: list[str]) -> dict[str, tuple[str, ...]]:
    """Return the labels of each utterance, in the order of the heads.

    Raises:
        DataError: A line has more or fewer labels than there are heads.
    """
    labels = {utt: tuple(value.split()) for utt, value in read_table(path).items()}
    for number, (utt, row) in enumerate(labels.items(), 1):
        if len(row) != len(heads):
            raise DataError(
                f"'{utt}' has {len(row)} labels for {len(heads)} heads ({', '.join(heads)})",
                f"{path}:{number}",
                "one label a head, separated by spaces",
            )
    return labels


def _unseen(
    path: Path, labels: Mapping[str, tuple[str, ...]], known: dict[str, list[str]]
) -> list[tuple[str, str]]:
    """Return ``(file:line, what is wrong)`` of labels that training lacks."""
    sets_of = [(head, set(names)) for head, names in known.items()]
    return [
        (f"{path}:{number}", f"'{utt}' has {head} '{label}', which the training set lacks")
        for number, (utt, row) in enumerate(labels.items(), 1)
        for (head, names), label in zip(sets_of, row, strict=True)
        if label not in names
    ]


def _write_labels(known: dict[str, list[str]]) -> None:
    with atomic_dir(LABELS) as tmp:
        write_text(tmp / "heads.txt", "".join(f"{head}\n" for head in known))
        for head, names in known.items():
            if len(names) < 2:
                raise DataError(
                    f"'{head}' has one label only in the training set, '{names[0]}'",
                    "data: label",
                    "leave this head out of format.args.heads and of the tables",
                )
            write_text(tmp / f"{head}.txt", "".join(f"{name}\n" for name in names))


def _write_set(source: Path, out: Path, args: FormatArgs) -> str:
    """Write a set; return what to tell of it."""
    manual, asr = (
        {utt: normalize(text, args.normalize) for utt, text in read_texts(source / f).items()}
        for f in ("text_manual", "text_asr")
    )
    errors = {utt: asr_errors(manual[utt], asr[utt], args.wer_text) for utt in manual}
    with atomic_dir(out) as tmp:
        write_table(tmp / "text_manual", {u: t or EMPTY for u, t in manual.items()})
        write_table(tmp / "text_asr", {u: t or EMPTY for u, t in asr.items()})
        write_table(tmp / "label", read_table(source / "label"))
        write_table(tmp / "asr_errors", {u: f"{e} {n}" for u, (e, n) in errors.items()})
    edits, words = (sum(column) for column in zip(*errors.values(), strict=True))
    empty = Counter(kind for kind, texts in (("manual", manual), ("ASR", asr))
                    for text in texts.values() if not text)  # fmt: skip
    kept = "".join(f", {n} empty {kind} texts (kept)" for kind, n in sorted(empty.items()))
    wer = 100 * edits / max(words, 1)
    return f"{len(manual)} utterances, WER of the ASR text {wer:.1f} %{kept}" + _unlike(
        manual, asr, {args.wer_text: edits}
    )


def _unlike(manual: Mapping[str, str], asr: Mapping[str, str], known: Mapping[str, int]) -> str:
    """Tell of case or punctuation that only one of the texts has; empty if they are alike.

    Losses that bring the two together would learn to do without what no recogniser writes.
    ``known`` has the word errors that are counted already, by their mode.
    """
    plain, as_is = (
        known[mode]
        if mode in known
        else sum(asr_errors(manual[u], asr[u], mode)[0] for u in manual)
        for mode in ("words", "none")
    )
    if plain >= _ALIKE * as_is:
        return ""
    return (
        f"; {as_is - plain} of {as_is} word errors are of case or punctuation: "
        "--format.args.normalize words writes both texts alike"
    )


def asr_errors(manual: str, asr: str, mode: str = "lower") -> tuple[int, int]:
    """Return word edits of the ASR transcript and words of the manual one, both normalised."""
    from rapidfuzz.distance import Levenshtein

    reference = normalize(manual, mode).split()
    return Levenshtein.distance(reference, normalize(asr, mode).split()), len(reference)
