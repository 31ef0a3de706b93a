# SPDX-License-Identifier: Apache-2.0
"""Stage 2: the standard one, and what the dual task needs beside it.

A set has ``text`` (tagged: the target of CTC) and ``plain`` (words alone: for the sentence
encoder). Both are checked before anything else; then audio and tables are formatted as usual, and
each of :data:`PARTS` makes its folder below ``dump/``.
"""

from collections import Counter
from types import ModuleType

from espnet_ext.data.tables import iter_table
from espnet_ext.dual_task.stages import sentences, speech
from espnet_ext.dual_task.stages.args import format_args
from espnet_ext.errors import DataError
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import format as standard
from espnet_ext.recipe.steps import tokens_given
from espnet_ext.recipe.steps.prepare import DATA, sets
from espnet_ext.text import tagged

FORMATS_AUDIO = standard.FORMATS_AUDIO
TEXT, PLAIN = "text", "plain"
# What is made after the sets: modules with plan(ctx, args) -> Plan and run(ctx, args).
PARTS: tuple[ModuleType, ...] = (sentences, speech)


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args, whole = format_args(ctx), standard.plan(ctx)
    for name in sets(ctx):
        whole.needs.append(DATA / name / PLAIN)
        whole.makes.append(standard.DUMP / name / PLAIN)
    _settle_streams(ctx, whole)
    for part in (module.plan(ctx, args) for module in PARTS):
        whole.needs += part.needs
        whole.inputs += part.inputs or []
        whole.makes += part.makes
        whole.settings |= part.settings
        whole.disk_mb += part.disk_mb
    return whole


def _settle_streams(ctx: Context, whole: Plan) -> None:
    """Depend on the streams that all sets have; others, such as phones, are copied in any case.

    Else a system that leaves the pretraining out would format all sets again, and the next one too.
    """
    listed = ctx.recipe.data.files
    streams = whole.settings.pop("streams", {})
    own = {n: {f: kind for f, kind in s.items() if f in listed} for n, s in streams.items()}
    whole.settings["streams"] = {name: s for name, s in own.items() if s}


def run(ctx: Context, plan: Plan) -> None:
    """Check the texts, format the sets, make the parts."""
    args = format_args(ctx)
    check_texts(ctx)
    standard.run(ctx, plan)
    for part in PARTS:
        part.run(ctx, args)


def check_texts(ctx: Context) -> None:
    """Check tagged and plain texts of all sets; warn of tags that no training set has.

    Raises:
        DataError: Tags are not balanced, nested or not in the given list; a plain text has tags.
    """
    known = _known_tags(ctx)
    tags = {name: _check_tagged(name, known) for name in sets(ctx)}
    learnt = {tag for name in standard.labelled_sets(ctx) for tag in tags[name]}
    for name in sets(ctx):
        _check_plain(name)
        if lost := sorted(tags[name].keys() - learnt):
            count = sum(tags[name][tag] for tag in lost)
            shown = ", ".join(lost[:5]) + (" ..." if lost[5:] else "")
            say(f"  warning: {name} has {len(lost)} tag(s) that no training set has ({shown}): "
                f"{count} units that cannot be recognised")  # fmt: skip


def _known_tags(ctx: Context) -> set[str] | None:
    """Return the tags of the token list that the user gives; None if it will be made."""
    tokens = ctx.recipe.tokens
    if tokens is None or not tokens.file or tokens.type == "bpe":
        return None
    return {x for x in tokens_given.read_list(tokens) if tagged.TAG.fullmatch(x)}


def _check_tagged(name: str, known: set[str] | None) -> Counter[str]:
    """Return how often each tag occurs in a set; a set may have no text."""
    path, found = DATA / name / TEXT, Counter[str]()
    if not path.exists():
        return found
    for number, (utt, text) in enumerate(iter_table(path), 1):
        tagged.check(text, f"{path}:{number}, utterance {utt}", known)
        found.update(tagged.tags(text))
    return found


def _check_plain(name: str) -> None:
    """Plain texts have no tags, and are the words of the tagged ones."""
    path, text = DATA / name / PLAIN, DATA / name / TEXT
    words = {u: tagged.plain(t) for u, t in iter_table(text)} if text.exists() else {}
    other: list[str] = []
    for number, (utt, plain) in enumerate(iter_table(path), 1):
        if "<" in plain or ">" in plain:
            how = "write the words alone: the sentence encoder must not see tags"
            where = f"{path}:{number}, utterance {utt}"
            raise DataError(f"the plain text has a tag: '{plain}'", where, how)
        # Letters may differ in case: the sentence encoder knows both.
        if words.get(utt, plain).casefold() != plain.casefold():
            other.append(utt)
    if other:
        say(f"  warning: {len(other)} plain texts of {name} are not the words of the tagged ones, "
            f"e.g. {other[0]}")  # fmt: skip
