# SPDX-License-Identifier: Apache-2.0
"""Everything that the page shows, collected from experiments; what is missing becomes a remark."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_ext import __version__
from espnet_ext.align.evaluate.picture import speech_of
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.data.content import ContentError
from espnet_ext.data.transcripts import read_texts
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import is_silence
from espnet_ext.report import alignments, charts, media, tables, utterances
from espnet_ext.report.experiments import SWEPT, Experiment, settings_of
from espnet_ext.report.utterances import Run, Utterance
from espnet_ext.scoring.page import Page
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.results import page_of
from espnet_ext.scoring.results_compare import LEGEND
from espnet_ext.scoring.scored import Field
from espnet_ext.scoring.settings import Settings

Say = Callable[[str], None]
MB = 1_000_000
MEDIA_SHARE = 0.85  # of the page's size that sound and pictures may take
PX_PER_S, LEAST_PX = 260, 300  # of a spectrogram
NAMED = 3  # runs in a remark
ALIGNER_HOW = "for phones give --aligner en_us (English), a folder of your own, or --alignment"


@dataclass(frozen=True)
class Options:
    """What the user asks for.

    Attributes:
        worst: Utterances to show.
        set_name: The set that they are of; empty for the main one.
        alignment: Alignments of that set.
        aligner: Folder or name of an aligner for those without; ``none`` for no alignment.
        max_mb: Size of the page in millions of bytes.
    """

    worst: int = 20
    set_name: str = ""
    alignment: tuple[str, ...] = ()
    aligner: str = ""
    max_mb: float = 5.0


@dataclass(frozen=True)
class Card:
    """An utterance with what can be heard and seen of it; times in pixels of its picture."""

    utterance: Utterance
    audio: str = ""
    picture: str = ""
    width: int = 0
    length_s: float = 0.0
    top_khz: float = 0.0
    words: list[dict[str, Any]] = field(default_factory=list)
    phones: list[dict[str, Any]] = field(default_factory=list)
    confidence: float | None = None
    remarks: list[str] = field(default_factory=list)


def collect(experiments: Sequence[Experiment], options: Options, say: Say) -> dict[str, Any]:
    """Return the variables of the page's template."""
    alignments.check_aligner(options.aligner)
    notes: list[str] = []
    records = [e.record for e in experiments if e.record]
    settings = settings_of(experiments)
    page = page_of(records, settings) if records else None
    groups = [*(page.groups if page else {}), *(e.group for e in experiments)]
    systems = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    shown = _shown(page, experiments, options, systems, notes, say)
    notes += said_once(_without_losses(experiments))
    notes += said_once(_not_shown(records, settings))
    return {
        "version": __version__,
        "title": " and ".join(dict.fromkeys(map(_recipe_of, experiments))),
        "experiments": experiments,
        "systems": systems,
        # The reader of a page has other folders.
        "notes": [_from_recipe(n, experiments) for n in notes],
        "failed": [e for e in experiments if not e.record],
        "scores": tables.score_tables(page, systems) if page else [],
        "legend": [x.replace("**", "").removeprefix("- ") for x in LEGEND],
        "phases": charts.phases(experiments, systems),
        "chart": charts,
        "costs": tables.cost_table(experiments),
        "origins": tables.origins(experiments),
        "confidences": alignments.confidences(
            dict.fromkeys(e.recipe for e in experiments), options.alignment
        ),
        **shown,
    }  # fmt: skip


def _recipe_of(e: Experiment) -> str:
    return f"{e.recipe.parent.name}/{e.recipe.name}"


def said_once(remarks: Iterable[tuple[str, str]]) -> list[str]:
    """Return a line for each remark, with the names of the runs that it is on.

    Args:
        remarks: ``(name of a run, what is to be said)``.
    """
    names: dict[str, list[str]] = {}
    for name, text in remarks:
        names.setdefault(text, []).append(name)
    out = []
    for text, found in names.items():
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        out.append(f"{', '.join(found[:NAMED])}{more}: {text}")
    return out


def _from_recipe(text: str, experiments: Sequence[Experiment]) -> str:
    for e in experiments:
        text = text.replace(f"{e.recipe}/", "")
    return text


def _not_shown(records: Sequence[Record], settings: Settings) -> Iterator[tuple[str, str]]:
    for r in records:
        recorded = {m for methods in r.sets.values() for d in methods.values() for m in d.metrics}
        if unknown := sorted(recorded - settings.metrics.keys()):
            yield r.name, f"not shown: {', '.join(unknown)}, which recipe.yaml does not name"
        if r.group.endswith(SWEPT):
            yield r.name, "a setting of a sweep: the best of many looks better than it is"


def _without_losses(experiments: Sequence[Experiment]) -> Iterator[tuple[str, str]]:
    for e in experiments:
        if not e.curves:
            yield e.name, "no curves: the training has recorded none"
        elif not any(epoch["train"] for curve in e.curves.values() for epoch in curve):
            yield e.name, "no losses: the release that trained it has not recorded them"


def _shown(
    page: Page | None, experiments: Sequence[Experiment], options: Options,
    systems: dict[str, int], notes: list[str], say: Say,
) -> dict[str, Any]:  # fmt: skip
    """Return the part on utterances."""
    found: dict[str, Any] = {"cards": [], "confusions": [], "field": None, "total": 0}
    if page is None or (fld := _field(page, options.set_name)) is None:
        return found
    runs, missing = utterances.runs_of(experiments, fld, page.scores.ranked(fld))
    notes += said_once((name, f"no utterances: {why}") for name, why in missing)
    chosen = utterances.worst(runs, fld.metric, options.worst, systems)
    if runs and not chosen:
        notes.append(f"no utterance of {fld.set_name} has an error")
    by_words = fld.metric.hyp_file == "text"
    return {
        "field": fld,
        "total": len(runs[0].hyps) if runs else 0,
        "cards": _cards(chosen, runs, fld, options, notes, say) if chosen else [],
        "confusions": utterances.frequent(runs, fld.metric) if by_words else [],
    }


def _field(page: Page, set_name: str) -> Field | None:
    if not set_name:
        return page.main
    found = page.scores.fields(set_name)
    if not found:
        known = ", ".join(sorted({s for r in page.records for s in r.sets}))
        raise DataError(f"there are no scores of the set '{set_name}'", "--set", f"known: {known}")
    return found[0]


def _cards(
    chosen: list[Utterance], runs: Sequence[Run], fld: Field, options: Options,
    notes: list[str], say: Say,
) -> list[Card]:  # fmt: skip
    recipe = runs[0].experiment.recipe
    names = [u.name for u in chosen]
    more = utterances.further_texts(recipe, fld.set_name, names)
    cards = {u.name: Card(replace(u, more=more[u.name])) for u in chosen}
    sounds = _sounds(runs, fld.set_name, cards, notes)
    _align(runs, fld, options, cards, sounds, notes, say)
    for utt, s in sounds.items():
        px = max(LEAST_PX, round(s.length_s * PX_PER_S))
        cards[utt] = replace(cards[utt], picture=s.picture, width=px, length_s=s.length_s,
                             top_khz=s.top_khz)  # fmt: skip
    _add_audio(cards, sounds, options.max_mb * MB * MEDIA_SHARE, notes)
    return list(cards.values())


def _sounds(
    runs: Sequence[Run], set_name: str, cards: dict[str, Card], notes: list[str]
) -> dict[str, media.Sound]:
    """Read the audio of utterances from the first recipe that has it."""
    found: dict[str, media.Sound] = {}
    why: dict[str, str] = {}
    for recipe in dict.fromkeys(r.experiment.recipe for r in runs):
        for folder in (recipe / "dump" / set_name, recipe / "data" / set_name):
            if len(found) == len(cards) or not (folder / "wav.scp").is_file():
                continue
            read = speech_of(folder, recipe)
            for utt in cards.keys() - found.keys():
                try:
                    found[utt] = media.sound(*read(utt))
                except (DataError, ContentError) as e:
                    why.setdefault(utt, str(getattr(e, "what", e)))
    lost = [u for u in cards if u not in found]
    if lost and not why:
        notes.append(f"no audio: neither dump/{set_name} nor data/{set_name} has a wav.scp")
    elif lost:
        notes.append(f"no audio of {len(lost)} utterances, e.g. {lost[0]}: {why[lost[0]]}")
    for utt in lost:
        cards[utt].remarks.append(f"no audio{': ' + why[utt] if utt in why else ''}")
    return {u: found[u] for u in cards if u in found}


def _align(
    runs: Sequence[Run], fld: Field, options: Options, cards: dict[str, Card],
    sounds: dict[str, media.Sound], notes: list[str], say: Say,
) -> None:  # fmt: skip
    """Give cards their words and phones."""
    if not sounds:
        return
    recipe = next((d for r in runs if alignments.find_aligner(d := r.experiment.recipe, "")),
                  runs[0].experiment.recipe)  # fmt: skip
    aligned, where = alignments.find_alignment(recipe, fld.set_name, options.alignment, sounds)
    failed: dict[str, str] = {}
    aligner = alignments.find_aligner(recipe, options.aligner)
    texts = _texts(recipe, fld.set_name)
    rest = {u: s for u, s in sounds.items() if u not in aligned and u in texts}
    if rest and aligner:
        say(f"aligning {len(rest)} utterances by {aligner}")
        made, failed = alignments.align(aligner, rest, texts)
        aligned |= made
        where = ", ".join(filter(None, (where, f"the aligner {aligner}")))
    if aligned:
        notes.append(f"words and phones of {len(aligned)} of {len(cards)} utterances: by {where}")
    elif options.aligner != alignments.NO_ALIGNER and texts:
        notes.append(f"no phones: there is no alignment of {fld.set_name}; {ALIGNER_HOW}")
    for utt, reason in failed.items():
        cards[utt].remarks.append(f"not aligned: {reason}")
    for utt, u in aligned.items():
        scale = max(LEAST_PX, round(sounds[utt].length_s * PX_PER_S)) / sounds[utt].length_s
        scores = [w.score for w in u.words if w.score is not None]
        cards[utt] = replace(
            cards[utt],
            words=[_box(i, scale) for i in u.words],
            phones=[_box(i, scale) for i in u.phones],
            confidence=min(scores, default=None),
        )


def _texts(recipe: Path, set_name: str) -> dict[str, str]:
    """Return what is said in a set; empty where nobody knows."""
    path = recipe / "data" / set_name / "text"
    return read_texts(path) if path.is_file() else {}


def _box(i: Interval, scale: float) -> dict[str, Any]:
    level = None if i.score is None else min(4, int(5 * max(0.0, i.score)))
    return {
        "x": round(i.start_s * scale, 1),
        "width": round((i.end_s - i.start_s) * scale, 1),
        "name": i.name,
        "start": round(i.start_s, 3),
        "end": round(i.end_s, 3),
        "score": None if i.score is None else f"{i.score:.2f}",
        "level": level,
        "silence": is_silence(i.name),
    }


def _add_audio(
    cards: dict[str, Card], sounds: dict[str, media.Sound], limit: float, notes: list[str]
) -> None:
    """Put the sound into the cards, the worst first, as long as there is room."""
    room = limit - sum(len(s.picture) for s in sounds.values())
    left_out = 0
    for utt, s in sounds.items():
        room -= len(audio := media.mp3(s))
        if room < 0:
            left_out += 1
            cards[utt].remarks.append("no sound: the page would be larger than --max-mb")
        else:
            cards[utt] = replace(cards[utt], audio=audio)
    if left_out:
        notes.append(f"{left_out} utterances are without sound: --max-mb allows for no more")
