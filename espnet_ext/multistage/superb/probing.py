# SPDX-License-Identifier: Apache-2.0
"""One probe: a task's sets, the layers of a frozen encoder, the trained head, its score."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_ext.data.audio import info
from espnet_ext.data.utterances import Utterance, utterances
from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file
from espnet_ext.multistage.superb.settings import PROTOCOL, Settings

TASKS = {
    "ks": "espnet_ext.multistage.superb.classification:Keywords",
    "ic": "espnet_ext.multistage.superb.classification:Intents",
    "pr": "espnet_ext.multistage.superb.phones:Phones",
    "sd": "espnet_ext.multistage.superb.diarisation:Diarisation",
}
SETS = ("train", "dev", "test")


@dataclass(frozen=True)
class Job:
    """What is to be probed.

    Attributes:
        task: One of :data:`TASKS`.
        folders: The sets train, dev and test.
        settings: Training of the head.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        seed: Start of the head, order of the batches.
        cache: Folder where features are kept.
        cache_gb: Larger sets are computed at each use instead.
    """

    task: str
    folders: dict[str, Path]
    settings: Settings
    device: str = "cpu"
    seed: int = 0
    cache: Path = Path("probe_cache")
    cache_gb: float = 50.0


@dataclass(frozen=True)
class Probed:
    """What a probe found: score and settings, and tables of the test set by file name."""

    facts: dict[str, Any]
    tables: dict[str, dict[str, str]]


Rows = tuple[list[Utterance], dict[str, Any]]


def read_sets(job: Job) -> tuple[Any, dict[str, Rows]]:
    """Return the task, which knows its classes, and utterances and labels of each set.

    Raises:
        DataError: A set is not usable, or has a label that the training set does not have.
        SetupError: A library that the task needs is not installed.
    """
    from espnet_ext.plugin import load_object

    task = load_object(TASKS[job.task], "--task")()
    rows = {name: read_set(task, folder) for name, folder in job.folders.items()}
    task.fit(rows["train"][1], job.folders["train"])
    for name, (_, labels) in rows.items():  # unknown labels are told before the model is loaded
        task.targets(labels, dict.fromkeys(labels, 0), job.folders[name])
    return task, rows


def probe(job: Job, model: Path | str) -> Probed:
    """Read the sets, compute features, train the head, score it.

    Args:
        job: Task, sets, settings.
        model: Archive or folder of a model with an encoder.

    Raises:
        DataError: A set or the model is not usable; sets are read before the model is loaded.
    """
    from espnet_ext.espnet.frozen import load_frozen, model_files
    from espnet_ext.hardware import check_device
    from espnet_ext.multistage.superb.features import Encoder
    from espnet_ext.multistage.superb.training import predictions, train

    check_device(job.device)
    task, rows = read_sets(job)
    with model_files(model) as (config, checkpoint):
        encoder = Encoder(load_frozen(config, checkpoint, job.device), job.device)
        key = sha256_file(config) + sha256_file(checkpoint)
    task.frame_s = encoder.frame_s
    samples = round(encoder.frame_s * encoder.fs)
    say(f"{encoder.count} layers of width {encoder.width}, a frame every {samples} samples")
    sets = {n: labelled(task, *rows[n], encoder, job.folders[n], job, key) for n in SETS}
    trained = train(task, sets["train"], sets["dev"], job.settings, job.seed, job.device, say)
    dev, test = (
        (predictions(trained.probe, sets[n], task, job.settings.batch, job.device), sets[n].targets)
        for n in ("dev", "test")
    )
    report = task.report(dev, test)
    weights = trained.probe.sum.weights.detach().softmax(0).tolist()
    facts = {
        "task": job.task, "metric": task.metric, "higher_is_better": task.higher_is_better,
        **report, "model": str(model), "model_sha256": key[64:],
        "dev_score": trained.dev_score, "best_update": trained.best_update,
        "curve": trained.curve, "train_seconds": round(trained.seconds, 1), "seed": job.seed,
        "layer_weights": [round(w, 4) for w in weights], "frame_shift_samples": samples,
        "parameters": sum(p.numel() for p in trained.probe.parameters()),
        "utterances": {n: len(rows[n][0]) for n in SETS},
        "padded": sum(s.features.padded for s in sets.values()),
        "settings": dataclasses.asdict(job.settings),
        "protocol": job.settings == PROTOCOL[job.task],
    }  # fmt: skip
    utts = [u.id for u in rows["test"][0]]
    columns = task.texts(*test, report)
    return Probed(facts, {f: dict(zip(utts, x, strict=True)) for f, x in columns.items()})


def read_set(task: Any, folder: Path) -> Rows:
    """Return utterances and labels of a set; they must be those of each other.

    Raises:
        DataError: The set is missing or not usable.
    """
    if not folder.is_dir():
        raise DataError("there is no such set", folder, "--data DIR holds train, dev and test")
    utts, labels = utterances(folder), task.labels(folder)
    ids = {u.id for u in utts}
    if odd := sorted(ids ^ labels.keys()):
        what = f"'{odd[0]}' has {'no label' if odd[0] in ids else 'a label, but no audio'}"
        how = f"espnet-ext doctor --data {folder}"
        raise DataError(f"{what}; {len(odd)} such utterances", folder, how)
    return utts, labels


def labelled(
    task: Any, utts: list[Utterance], labels: dict[str, Any], encoder: Any, folder: Path,
    job: Job, key: str,
) -> Any:  # fmt: skip
    """Return features and targets of a set; features are kept where they fit into the limit."""
    from espnet_ext.multistage.superb.features import Features, bytes_needed, keep
    from espnet_ext.multistage.superb.training import LabelledSet
    from espnet_ext.recipe.console import Progress

    seconds = sum(
        info(u.audio).duration_s if u.end_s is None else u.end_s - (u.start_s or 0) for u in utts
    )
    size_gb = bytes_needed(seconds, encoder) / 1e9
    kept = size_gb <= job.cache_gb
    how = f"kept in {job.cache}" if kept else "over --cache-gb: computed at each use"
    say(f"{folder.name}: {len(utts)} utterances, {seconds / 3600:.2f} h, {size_gb:.2f} GB, {how}")
    progress = Progress(f"features of {folder.name}")
    at = keep(utts, encoder, job.cache, key, progress) if kept else None
    features = Features(utts, encoder, at)
    frames = {u.id: n for u, n in zip(utts, features.frames, strict=True)}
    targets = task.targets(labels, frames, folder)
    return LabelledSet(features, [targets[u.id] for u in utts])


def say(text: str) -> None:
    """Tell of the progress on stderr."""
    print(text, file=sys.stderr, flush=True)
