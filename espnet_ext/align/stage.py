# SPDX-License-Identifier: Apache-2.0
"""Stage 3 of a recipe: train on the training set, align it and the further sets, write labels.

dump/align/model/          the aligner; beside it, in ``work``, features and passes, for going on
dump/<set>/align/          the alignment directory of a set, with targets.scp for training
dump/<set>/align/<pass>/   the same by an earlier pass (option ``keep``)
dump/<set>/align/jitter_50/   labels made worse on purpose (option ``jitter_ms``)
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from espnet_ext.align.adapt import adapt_aligner
from espnet_ext.align.corpus import MapFn
from espnet_ext.align.evaluate.report import summary_lines, write_report
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.formats.import_common import rate_hz
from espnet_ext.align.formats.jitter import Jittered, folder_name
from espnet_ext.align.formats.targets import write_targets
from espnet_ext.align.model import AlignModel, find
from espnet_ext.align.options import AlignOptions, on_device
from espnet_ext.align.run import (
    Say,
    apply_aligner,
    report_extra,
    save_model,
    train_aligner,
    write_pass,
)
from espnet_ext.align.session import Session
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import UsageError

Copies = Callable[[str], tuple[str, float]]  # utterance to (original, speed factor)
# Options that belong to the sets, not to an aligner that somebody else has trained; those of words
# only where they are given, else the aligner's own hold.
OF_SETS = ("text", "textgrid", "channel")
OF_WORDS = ("lexicon", "lexicon_kind", "oov")
TABLES = ("wav.scp", "utt2spk", "utt2num_samples")


def align_sets(
    dump: Path,
    train: str,
    others: list[str],
    o: AlignOptions,
    map_fn: MapFn,
    say: Say,
    copies: Copies = lambda utt: (utt, 1.0),
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
    run = _Run(dump, o, map_fn, say, copies)
    if o.alignments:
        for name in (train, *others):
            run.import_set(name)
        return
    work = run.work
    tables = (*TABLES, o.text)
    sources = {name: _without_copies(dump / name, work / "data" / name, tables, copies)
               for name in (train, *others)}  # fmt: skip
    if o.model:
        model = run.given_model(sources[train])
        for name, source in sources.items():
            run.write_labels(run.apply(model, source, name, ""), name)
        return
    session = train_aligner(sources[train], work / "train", o, map_fn, say)
    final = o.passes[-1]
    for name in [final, *(k for k in o.keep if k in o.passes and k != final)]:
        sub = "" if name == final else name
        model = save_model(session, dump / "align" / (sub or "model"), name, dump / train)
        alignment = write_pass(session, name, run.folder(train, sub), dump / train)
        if not sub:
            _report(session, run.folder(train), say)
        run.write_labels(alignment, train, sub)
        for other in others:
            run.write_labels(run.apply(model, sources[other], other, sub), other, sub)


@dataclass(frozen=True)
class _Run:
    """What the steps of the stage share; see :func:`align_sets`."""

    dump: Path
    o: AlignOptions
    map_fn: MapFn
    say: Say
    copies: Copies

    @property
    def work(self) -> Path:
        return self.dump / "align/work"

    @property
    def changes(self) -> dict[str, Any]:
        """Return the options that an aligner which somebody else has trained takes over."""
        if not self.o.model:
            return {}
        usual = AlignOptions()
        words = [k for k in OF_WORDS if getattr(self.o, k) != getattr(usual, k)]
        return {k: getattr(self.o, k) for k in (*OF_SETS, *words)}

    def given_model(self, train: Path) -> AlignModel:
        """Return the aligner that is there already, adapted to the training set if asked."""
        model = find(self.o.model)
        here = on_device(model.options, self.o.device, self.o.hybrid.device)
        model = replace(model, options=here)
        self.say(f"  by the aligner {self.o.model}, trained on {model.trained_on}")
        if unused := not_of_given_models(self.o):
            self.say(f"  not used: {', '.join(unused)}; that aligner has its own")
        if not self.o.adapt:
            return model
        out, work = self.dump / "align/model", self.work / "adapt"
        return adapt_aligner(model, train, out, work, self.map_fn, self.say, **self.changes)

    def folder(self, name: str, sub: str = "") -> Path:
        """Return the alignment directory of a set, by an earlier pass if ``sub`` names one."""
        return self.dump / name / "align" / sub

    def apply(self, model: AlignModel, source: Path, name: str, sub: str) -> AlignmentDir:
        """Align a further set; what goes wrong with its audio is in the report."""
        folder, own = self.folder(name, sub), self.work / f"{name}_{model.final}"
        say = self.say if self.o.model else lambda line: None  # of one trained here it was told
        alignment, rows = apply_aligner(
            model, source, folder, own, self.map_fn, say, **self.changes
        )
        self.say(
            f"  {name}: {len(alignment.utts)} aligned by {model.final}, "
            f"{len(alignment.skipped)} skipped"
            + (f" (list: {folder}/skipped.tsv)" if alignment.skipped else "")
        )
        write_report(folder, passes=rows, extra={})
        return alignment

    def import_set(self, name: str) -> None:
        """Take a set's labels from an alignment that the user has."""
        source = self.o.alignments.get(name)
        if not source:
            raise UsageError(
                f"there is no alignment of the set '{name}'", "align.alignments",
                f"add {name}: FOLDER, or leave the set out by align.sets",
            )  # fmt: skip
        alignment = AlignmentDir(source)
        self.say(
            f"  {name}: {len(alignment.utts)} utterances of {source} ({alignment.header.source})"
        )
        self.write_labels(alignment, name)

    def write_labels(self, alignment: AlignmentDir, name: str, sub: str = "") -> None:
        """Write a set's labels; tell how many utterances have none."""
        out, data = self.folder(name, sub), self.dump / name
        fs = round(rate_hz(data))  # align.fs is that of the aligner's features
        if missing := write_targets(alignment, out, data, fs, self.copies):
            self.say(f"  {missing} utterances of {data} have no labels: they train without the "
                     f"auxiliary loss (list: {out}/unlabelled.tsv)")  # fmt: skip
        for ms in () if sub else self.o.jitter_ms:
            worse = Jittered(alignment.path, ms, self.o.seed)
            write_targets(worse, out / folder_name(ms), data, fs, self.copies)


def not_of_given_models(o: AlignOptions) -> list[str]:
    """Return the options that are set, and that only training an aligner would read."""
    used = {*OF_SETS, *OF_WORDS, "model", "adapt", "sets", "fs", "seed", "jitter_ms", "device"}
    usual, given = asdict(AlignOptions()), asdict(o)
    given["hybrid"]["device"] = usual["hybrid"]["device"]
    return [k for k, value in given.items() if k not in used and value != usual[k]]


def _report(session: Session, folder: Path, say: Say) -> None:
    path = write_report(folder, passes=session.reports, extra=report_extra(session))
    for line in summary_lines(json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))):
        say(f"  {line}")


def _without_copies(source: Path, out: Path, tables: Iterable[str], copies: Copies) -> Path:
    """Write a folder without the speed copies: their labels follow from the originals'."""
    for table in tables:
        if (source / table).exists():
            rows = read_table(source / table)
            write_table(out / table, {u: v for u, v in rows.items() if copies(u)[0] == u})
    return out
