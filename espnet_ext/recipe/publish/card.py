# SPDX-License-Identifier: Apache-2.0
"""The model card: every number comes from the run record, every licence from the user."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.errors import UsageError
from espnet_ext.progress import duration
from espnet_ext.recipe.publish import usage
from espnet_ext.recipe.publish.experiment import PACK, Experiment
from espnet_ext.recipe.publish.folder import RECORD
from espnet_ext.scoring import metrics
from espnet_ext.scoring.markdown import cell, code, table
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.significance import interval, resample

# Identifiers that the hub knows; another licence is written as 'other' with its name.
LICENCES = (
    "apache-2.0", "mit", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0", "cc0-1.0", "cc-by-4.0",
    "cc-by-3.0", "cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0", "cc-by-nc-3.0", "cc-by-nc-sa-4.0",
    "cc-by-nc-nd-4.0", "cc-by-nd-4.0", "openrail", "odc-by", "odbl", "unlicense",
)  # fmt: skip
PLACEHOLDERS = ("EDIT", "yours", "that of your corpus", "in the README, for each corpus")
_RESTRICTED = re.compile(r"non-?commercial|\bNC\b|research|LDC|ELRA|agreement", re.I)
_TASKS = {"ml_lmcl": "text-classification"}  # of the others: speech in, text out
_SPEECH = "automatic-speech-recognition"
TEXT = ("Set", "Decoding", "Metric", "Phase", "")


@dataclass(frozen=True)
class Terms:
    """What the user says, because no record holds it.

    Attributes:
        licence: Of the weights.
        corpus: Name of the training data.
        corpus_licence: Its licence.
        languages: Codes, such as ``en``.
        repo: ``owner/name`` on the hub; a name to be filled in where it is not yet known.
    """

    licence: str
    corpus: str
    corpus_licence: str
    languages: tuple[str, ...]
    repo: str


def terms(found: Experiment, licence: str, corpus_licence: str, languages: str, repo: str) -> Terms:
    """Return the terms of a model, from options and from recipe.yaml.

    Raises:
        UsageError: The licence of the weights or that of the corpus is not known, or a language
            is no code.
    """
    corpus = found.ctx.recipe.corpus
    if not licence:
        how = "--licence apache-2.0, cc-by-4.0, ...: the licence of the corpus may limit it"
        raise UsageError("the licence of the model is not given", "espnet-ext publish", how)
    of_corpus = corpus_licence or corpus.licence
    if not of_corpus.strip() or of_corpus.strip().rstrip(".") in PLACEHOLDERS:
        told = of_corpus or "recipe.yaml has none"
        what = f"the licence of the training data is not known ({told})"
        how = "set corpus.licence in recipe.yaml, or give --corpus-licence TEXT"
        raise UsageError(what, "recipe.yaml: corpus.licence", how)
    name = corpus.name or f"the data of {found.record.recipe}"
    codes = tuple(x.strip() for x in (languages or corpus.language).split(",") if x.strip())
    if odd := [x for x in codes if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)?", x)]:
        where = "--language" if languages else "recipe.yaml: corpus.language"
        raise UsageError(f"'{odd[0]}' is no language code", where, "--language en, or en,fr")
    repo = repo or "OWNER/" + re.sub(r"[^\w.-]", "_", f"{found.record.recipe}_{found.record.name}")
    return Terms(licence, name, of_corpus, codes, repo)


@dataclass(frozen=True)
class Row:
    """One score of the card: of this model, and the mean over the seeds of its group."""

    set_name: str
    method: str
    metric: Metric
    value: float
    bounds: tuple[float, float] | None
    seeds: int
    mean: float
    mean_bounds: tuple[float, float] | None
    utterances: int


def rows(found: Experiment) -> list[Row]:
    """Return all scores of the run record, in its order."""
    known = metrics.load(found.ctx.recipe.score.metrics if found.ctx.recipe.score else ())
    out = []
    for set_name, methods in found.record.sets.items():
        for method, decoded in methods.items():
            for name in decoded.metrics:
                if name not in known and name not in metrics.built_in():
                    continue  # a metric of the recipe that recipe.yaml no longer names
                metric = known.get(name) or metrics.find(name)
                out.append(_row(found, set_name, method, metric))
    return out


def _row(found: Experiment, set_name: str, method: str, metric: Metric) -> Row:
    own = found.record.sets[set_name][method]
    runs = [r for r in found.runs if _same(r, found.record, set_name, method, metric)]
    values = [r.sets[set_name][method].value(metric) for r in runs]
    return Row(
        set_name, method, metric, own.value(metric),
        _bounds([found.record], set_name, method, metric), len(runs),
        float(np.mean(values)) if values else own.value(metric),
        _bounds(runs, set_name, method, metric) if len(runs) > 1 else None, own.utterances,
    )  # fmt: skip


def _same(run: Record, own: Record, set_name: str, method: str, metric: Metric) -> bool:
    """Whether a run was scored on the same utterances and references."""
    other, mine = run.sets.get(set_name, {}).get(method), own.sets[set_name][method]
    if other is None or metric.name not in other.metrics:
        return False
    return (other.ids_sha256, other.ref_sha256) == (mine.ids_sha256, mine.ref_sha256)


def _bounds(
    runs: list[Record], set_name: str, method: str, metric: Metric
) -> tuple[float, float] | None:
    counts = [r.sets[set_name][method].counts(metric) for r in runs]
    if not counts or any(c is None for c in counts):
        return None
    return interval(resample(np.stack(counts), metric.value))


def front_matter(found: Experiment, about: Terms, scores: list[Row]) -> str:
    """Return the YAML of the card, made and checked by the hub's own classes."""
    from huggingface_hub import EvalResult, ModelCardData

    task = _TASKS.get(found.record.recipe.partition("/")[2].rstrip("0123456789"), _SPEECH)
    licence = {"license": about.licence}
    if about.licence not in LICENCES:
        named = re.sub(r"[^a-z0-9.-]+", "-", about.licence.lower()).strip("-") or "see-card"
        licence = {"license": "other", "license_name": named, "license_link": "README.md"}
    results = [
        EvalResult(
            task_type=task, dataset_type=found.record.recipe.partition("/")[0],
            dataset_name=about.corpus, dataset_split=r.set_name, metric_type=r.metric.name,
            metric_name=f"{r.metric.title} ({r.method})", metric_value=round(r.value, 4),
        )
        for r in scores
    ]  # fmt: skip
    data = ModelCardData(
        language=list(about.languages) or None, library_name="espnet", pipeline_tag=task,
        tags=["espnet", "espnet_ext", "audio", found.record.recipe.partition("/")[2]],
        model_name=about.repo.rpartition("/")[2], eval_results=results, **licence,
    )  # fmt: skip
    return data.to_yaml()


def render(found: Experiment, about: Terms, folder: Path) -> str:
    """Return README.md of a published folder."""
    scores, record = rows(found), found.record
    told = PACK.code(found.ctx.recipe).usage(found.ctx)
    used = usage.markdown(told, str(found.archive.resolve()), about.repo, folder)
    lines = ["---", front_matter(found, about, scores), "---", "", f"# {cell(record.title)}", ""]
    lines += [f"Recipe `{record.recipe}` of espnet_ext, experiment `{record.name}`, seed "
              f"{record.seed}. All numbers of this page come from `{RECORD}`.", ""]  # fmt: skip
    lines += ["## How to use it", "", *used, "## Data", "", *_data(found, about)]
    lines += ["## Scores", "", *_scores(scores), "## Training", "", *_training(record)]
    lines += ["## What it must not be used for", "", *_limits(about, scores)]
    lines += ["## Licence", "", f"- Model: {about.licence}",
              f"- Training data: {about.corpus_licence}", ""]  # fmt: skip
    return "\n".join(lines)


def _data(found: Experiment, about: Terms) -> list[str]:
    corpus, data = found.ctx.recipe.corpus, found.ctx.recipe.data
    facts = {"Corpus": about.corpus, "Licence": about.corpus_licence, "Source": corpus.source,
             "Size": corpus.size, "Training set": data.train, "Development set": data.valid,
             "Languages": ", ".join(about.languages)}  # fmt: skip
    return [*(f"- {k}: {v}" for k, v in facts.items() if v), ""]


def _scores(scores: list[Row]) -> list[str]:
    def shown(bounds: tuple[float, float] | None) -> str:
        return "–" if bounds is None else f"{bounds[0]:.2f} to {bounds[1]:.2f}"

    header = ["Set", "Decoding", "Metric", "Utterances", "Score", "95 % interval", "Seeds",
              "Mean", "Interval of the mean"]  # fmt: skip
    lines = [
        [r.set_name, r.method, r.metric.title + (", higher is better" if r.metric.better == "higher"
                                                 else ""), r.utterances, f"{r.value:.2f}",
         shown(r.bounds), r.seeds, f"{r.mean:.2f}", shown(r.mean_bounds)]
        for r in scores
    ]  # fmt: skip
    note = (
        "Percent. The interval resamples utterances; that of the mean seeds as well. The mean is "
        "over the runs that differ from this one by their seed only."
    )
    return [*table(header, lines, TEXT), "", note, ""]


def _training(record: Record) -> list[str]:
    header = ["Phase", "Parameters", "trained", "Epochs", "Updates", "Time", "Memory, MB",
              "GPU, MB"]  # fmt: skip
    lines = [
        [name, f"{p.params:,}", f"{p.params_trained:,}", p.epochs, f"{p.updates:,}",
         duration(p.train_wall_s), f"{p.peak_rss_mb:.0f}", f"{p.peak_gpu_mb:.0f}"]
        for name, p in record.phases.items()
    ]  # fmt: skip
    commit = record.commit + (" with uncommitted changes" if record.dirty else "")
    versions = ", ".join(f"{k} {v}" for k, v in record.versions.items())
    budget = ", ".join(f"{k} {v}" for k, v in (record.budget or {}).items())
    return [*table(header, lines, TEXT), "", *([f"- Budget: {budget}"] if budget else []),
            f"- Device: {record.device}",
            f"- Command: {code(record.command)}", f"- Commit: {commit}; scored {record.date}",
            f"- Versions: {versions}", ""]  # fmt: skip


def _limits(about: Terms, scores: list[Row]) -> list[str]:
    lines = [f"- Speech or text unlike {about.corpus}: other languages, topics, channels, noise or "
             "speakers. Its errors there were not measured."]  # fmt: skip
    errors = [r for r in scores if r.metric.name in ("wer", "concept")]
    if errors:
        worst = max(errors, key=lambda r: r.value)
        where = f"its {worst.metric.title} on `{worst.set_name}` is {worst.value:.1f} %"
        lines.append(f"- Work that nobody checks: {where}.")
    lines.append("- Decisions about people, such as in court, medicine, hiring or policing, and "
                 "recognising who speaks or listening without consent.")  # fmt: skip
    if _RESTRICTED.search(about.corpus_licence):
        lines.append(f"- Anything that the licence of its data forbids: {about.corpus_licence}.")
    return [*lines, ""]
