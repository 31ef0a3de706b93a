# SPDX-License-Identifier: Apache-2.0
"""Stage 3 of a recipe: train on the training set, align it and the further sets, write labels.

dump/align/model/          the aligner; beside it, in ``work``, features and passes, for going on
dump/<set>/align/          the alignment directory of a set, with targets.scp for training
dump/<set>/align/<pass>/   the same by an earlier pass (option ``keep``)
"""

import json
from collections.abc import Callable
from pathlib import Path

from espnet_ext.align.corpus import MapFn
from espnet_ext.align.directory import AlignmentDir
from espnet_ext.align.model import AlignModel
from espnet_ext.align.options import AlignOptions
from espnet_ext.align.report import summary_lines, write_report
from espnet_ext.align.run import (
    apply_aligner,
    report_extra,
    save_model,
    train_aligner,
    write_pass,
)
from espnet_ext.align.session import Session
from espnet_ext.align.targets import write_targets
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import UsageError

TABLES = ("wav.scp", "text", "utt2spk", "utt2num_samples")


def align_sets(
    dump: Path,
    train: str,
    others: list[str],
    o: AlignOptions,
    map_fn: MapFn,
    say: Callable[[str], None],
    copies: Callable[[str], tuple[str, float]] = lambda utt: (utt, 1.0),
) -> None:
    """Train an aligner on one set and align several.

    Args:
        dump: Folder of the formatted sets.
        train: Set to train on.
        others: Further sets, aligned by the trained model.
        o: Options.
        map_fn: Ordered map over plain data.
        say: Receives the lines of progress.
        copies: Maps an utterance to ``(original, speed factor)``.

    Raises:
        DataError: Nothing can be aligned, or a file is unusable.
    """
    if o.alignments:
        for name in (train, *others):
            _import_set(dump, name, o, copies, say)
        return
    out = dump / "align"
    work = out / "work"
    sources = {name: _without_copies(dump / name, work / "data" / name, copies)
               for name in (train, *others)}  # fmt: skip
    session = train_aligner(sources[train], work / "train", o, map_fn, say)
    final = o.passes[-1]
    for name in [final, *(k for k in o.keep if k in o.passes and k != final)]:
        sub = "" if name == final else name
        model = save_model(session, out / (sub or "model"), name, dump / train)
        folder = dump / train / "align" / sub
        alignment = write_pass(session, name, folder, dump / train)
        if not sub:
            _report(session, folder, say)
        _targets(alignment, folder, dump / train, o.fs, copies, say)
        for other in others:
            found = _apply(model, sources[other], dump / other, sub, work, map_fn, say)
            _targets(found, dump / other / "align" / sub, dump / other, o.fs, copies, say)


def _apply(
    model: AlignModel,
    source: Path,
    data: Path,
    sub: str,
    work: Path,
    map_fn: MapFn,
    say: Callable[[str], None],
) -> AlignmentDir:
    """Align a further set; what goes wrong with its audio is in the report."""
    folder = data / "align" / sub
    own = work / f"{data.name}_{model.final}"
    alignment, rows = apply_aligner(model, source, folder, own, map_fn, lambda line: None)
    say(
        f"  {data.name}: {len(alignment.utts)} aligned by {model.final}, "
        f"{len(alignment.skipped)} skipped"
        + (f" (list: {folder}/skipped.tsv)" if alignment.skipped else "")
    )
    write_report(folder, passes=rows, extra={})
    return alignment


def _report(session: Session, folder: Path, say: Callable[[str], None]) -> None:
    path = write_report(folder, passes=session.reports, extra=report_extra(session))
    for line in summary_lines(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))):
        say(f"  {line}")


def _without_copies(source: Path, out: Path, copies: Callable[[str], tuple[str, float]]) -> Path:
    """Write a folder without the speed copies: their labels follow from the originals'."""
    for table in TABLES:
        if (source / table).exists():
            rows = read_table(source / table)
            write_table(out / table, {u: v for u, v in rows.items() if copies(u)[0] == u})
    return out


def _import_set(
    dump: Path,
    name: str,
    o: AlignOptions,
    copies: Callable[[str], tuple[str, float]],
    say: Callable[[str], None],
) -> None:
    """Take a set's labels from an alignment that the user has."""
    source = o.alignments.get(name)
    if not source:
        raise UsageError(
            f"there is no alignment of the set '{name}'", "align.alignments",
            f"add {name}: FOLDER, or leave the set out by align.sets",
        )  # fmt: skip
    alignment = AlignmentDir(source)
    say(f"  {name}: {len(alignment.utts)} utterances of {source} ({alignment.header.source})")
    _targets(alignment, dump / name / "align", dump / name, o.fs, copies, say)


def _targets(
    source: AlignmentDir,
    out: Path,
    data: Path,
    fs: int,
    copies: Callable[[str], tuple[str, float]],
    say: Callable[[str], None],
) -> None:
    missing = write_targets(source, out, data, fs, copies)
    if missing:
        say(f"  {missing} utterances of {data} have no labels: they train without the "
            f"auxiliary loss (list: {out}/unlabelled.tsv)")  # fmt: skip
