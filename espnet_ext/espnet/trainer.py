# SPDX-License-Identifier: Apache-2.0
"""ESPnet's trainer with atomic checkpoints, exact resume and a line an epoch.

Granularity of resume: the epoch. ESPnet seeds all generators with ``seed + epoch`` at the start
of each epoch and orders batches by the same number, so a run that starts again after its last
complete epoch repeats the uninterrupted run bit for bit on a CPU; work inside the unfinished
epoch is done again.
"""

import contextlib
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch.distributed as dist
from espnet2.train.reporter import aggregate
from espnet2.train.trainer import Trainer

from espnet_ext.espnet import checkpoint, finite, memory, schedules, track
from espnet_ext.espnet.iterators import labelled_pass
from espnet_ext.espnet.nbest import Kept
from espnet_ext.espnet.pace import EpochPace, WaitTimer, time_left
from espnet_ext.espnet.short import LongEnough, shortest_of
from espnet_ext.files import write_json
from espnet_ext.hardware import training_device
from espnet_ext.progress import duration, progress_log
from espnet_ext.scoring.spent import COUNTS, curve_point

PHASE_RECORD = "phase.json"
VALID = ("acc", "cer_ctc")  # of the validation after each epoch, kept for the curves


@dataclass
class RunState:
    """What the trainer's class methods share during one run."""

    options: Any
    start: float = field(default_factory=time.monotonic)
    first_epoch: int | None = None
    epoch_s: float = 0.0
    train_stats: dict[str, float] = field(default_factory=dict)
    wait_share: float = 0.0
    params: int = 0
    params_trained: int = 0
    not_finite: list[str] = field(default_factory=list)  # tensors that were so from the start
    shortest: int = 0  # samples that an utterance must have
    too_short: set[str] = field(default_factory=set)  # utterances that have fewer
    device: str = ""
    kept: Kept | None = None  # where models are missing that are asked for
    pass_batches: int | None = None  # of one pass over the labelled data, where it has an end
    spent: dict[str, dict[str, Any]] = field(default_factory=dict)  # by epoch

    @property
    def chosen_by(self) -> str:
        """Of what models are chosen by, the first that is measured in validation; or empty."""
        criteria = getattr(self.options, "best_model_criterion", ())
        return next((name for part, name, *_ in criteria if part == "valid"), "")

    @property
    def spent_path(self) -> Path:
        """The file of what each complete epoch has cost, over all resumed runs."""
        return Path(self.options.output_dir) / "spent.json"

    def total_spent(self) -> dict[str, Any]:
        """Return wall time in seconds, counts and the validation curve of all complete epochs.

        Of :data:`~espnet_ext.scoring.spent.COUNTS` those that a method's trainer has put into any
        epoch; an epoch without one had none of these batches.
        """
        keys = ("train_wall_s", "batches", "updates", "skipped")
        devices = dict.fromkeys(e["device"] for e in self.spent.values() if "device" in e)
        epochs = self.spent.values()
        sums = {k: sum(epoch.get(k, 0) for epoch in epochs) for k in keys}
        counted = [k for k in COUNTS if any(k in epoch for epoch in epochs)]
        sums |= {k: sum(epoch.get(k, 0) for epoch in epochs) for k in counted}
        by_epoch = [self.spent[e] for e in sorted(self.spent, key=int)]
        curves = {f"valid_{k}": _each(by_epoch, f"valid_{k}") for k in VALID}
        whole = any(curves.values())
        return {
            **sums,
            "train_wall_s": round(sums["train_wall_s"], 2),
            "epochs": len(self.spent),
            "devices": [*devices],
            **curves,
            "chosen_by": self.chosen_by,
            "valid_updates": _running(by_epoch, "updates") if whole else [],
            "valid_passes": _running(by_epoch, "data_passes") if whole else [],
        }


def _each(epochs: list[dict[str, Any]], key: str) -> list[float]:
    """Return a value of each epoch; empty where an epoch has none."""
    return [epoch[key] for epoch in epochs] if all(key in epoch for epoch in epochs) else []


def _running(epochs: list[dict[str, Any]], key: str) -> list[float]:
    """Return the sums of a count up to each epoch; empty where an epoch has none."""
    if not all(key in epoch for epoch in epochs):
        return []
    return [round(x, 4) for x in itertools.accumulate(epoch[key] for epoch in epochs)]


class ExtTrainer(Trainer):
    """Base of all trainers here; ESPnet's own loop does the work."""

    state: RunState | None = None
    facts: ClassVar[dict[str, Any]] = {}  # what a method adds to phase.json

    @classmethod
    def run(cls, model, optimizers, schedulers, trainer_options, distributed_option, **rest):
        """Train as :meth:`espnet2.train.trainer.Trainer.run` does, with atomic saves."""
        checkpoint.restore_missing(Path(trainer_options.output_dir))
        if isinstance(trainer_options.keep_nbest_models, int):
            trainer_options.keep_nbest_models = [trainer_options.keep_nbest_models]
        counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
        processes = distributed_option.dist_world_size or 1
        cls.state = RunState(
            trainer_options,
            device=training_device(trainer_options.ngpu, processes),
            shortest=shortest_of(model),
            params=sum(n for n, _ in counts),
            params_trained=sum(n for n, trained in counts if trained),
            pass_batches=labelled_pass(rest["train_iter_factory"]),
        )
        cls._check_start(model)
        with checkpoint.atomic_saves():
            super().run(
                model=model,
                optimizers=optimizers,
                schedulers=schedulers,
                trainer_options=trainer_options,
                distributed_option=distributed_option,
                **rest,
            )
        if not distributed_option.distributed or distributed_option.dist_rank == 0:
            finite.check_averages(Path(trainer_options.output_dir), cls.state.not_finite)
            sizes = {"params": cls.state.params, "params_trained": cls.state.params_trained}
            path = Path(trainer_options.output_dir) / PHASE_RECORD
            spent = cls.state.total_spent() | memory.peaks()
            write_json(path, {**cls.facts, **sizes, **spent})

    @classmethod
    def _check_start(cls, model) -> None:
        """Refuse weights that are not finite; a buffer may be so by design, e.g. a mask."""
        cls.state.not_finite = finite.infinite_by_design(model)
        how = (
            "take another file in init (init_param) if they come from there, or look for audio "
            "that is not finite: espnet-ext doctor --data DIR"
        )
        finite.check_weights(model, "before the first update", how, cls.state.not_finite)

    @classmethod
    def resume(
        cls, checkpoint, model, reporter, optimizers, schedulers, scaler, ngpu=0, strict=True
    ):
        """Restore everything from the newest readable checkpoint, and finish its epoch's files."""
        from espnet_ext.espnet.checkpoint import repair_best_links, repair_epoch_files, usable

        path, states = usable(Path(checkpoint))
        new = [schedules.standing(s, o) for s, o in zip(schedulers, optimizers, strict=True)]
        super().resume(
            path, model, reporter, optimizers, schedulers, scaler, ngpu=ngpu, strict=strict
        )
        longer = [schedules.extend(*x) for x in zip(schedulers, optimizers, new, strict=True)]
        options, epoch = cls.state.options, reporter.get_epoch()
        how = f"train again from the start: rm -r {path.parent}"
        finite.check_weights(model, path, how, cls.state.not_finite)
        if not dist.is_initialized() or dist.get_rank() == 0:
            folder = Path(options.output_dir)
            repair_epoch_files(folder, states, epoch)
            repair_best_links(folder, reporter, options.best_model_criterion)
        if cls.state.spent_path.exists():
            spent = json.loads(cls.state.spent_path.read_text(encoding="utf-8"))
            # An epoch whose checkpoint was not written is done again.
            cls.state.spent = {e: cost for e, cost in spent.items() if int(e) <= epoch}
        progress_log.info(f"going on after epoch {epoch} from {path}")
        if any(longer):
            progress_log.info(
                f"the learning rate goes on as in a training of {options.max_epoch} epochs"
            )
        cls._find_models(reporter, options)
        patience = options.patience
        if patience is not None and reporter.check_early_stopping(
            patience, *options.early_stopping_criterion
        ):
            options.max_epoch = epoch  # it had stopped early before it was killed

    @classmethod
    def _find_models(cls, reporter, options) -> None:
        """Average what is there, if more models are asked for than were kept so far."""
        folder, asked = Path(options.output_dir), options.keep_nbest_models
        kept = Kept(folder, asked, options.best_model_criterion)
        if kept.lacks(reporter):
            kept.watch(reporter)
            cls.state.kept = kept

    @classmethod
    def train_one_epoch(cls, model, iterator, optimizers, reporter, **rest):
        """One epoch; what ``accum_grad`` left over of the last one does not leak into it.

        Before every batch the model is told where training stands: ``model.training_progress``
        is ``(epoch from 1, update of the optimiser from 0)``, the same after a resume.
        """
        for optimizer in optimizers:
            optimizer.zero_grad()
        state, epoch = cls.state, reporter.get_epoch()
        enough = LongEnough(iterator, state.shortest, "training", state.too_short)
        timer = WaitTimer(enough, _progress_of(model, iterator, reporter, state.options))
        kept = f"; the checkpoint of epoch {epoch - 1} is kept" if epoch > 1 else ""
        start = time.perf_counter()
        with (
            _count_updates(optimizers, timer) as updates,
            finite.FiniteGuard(model, timer, f"epoch {epoch}, training batch", kept) as guard,
        ):
            invalid = super().train_one_epoch(
                model=model, iterator=guard, optimizers=optimizers, reporter=reporter, **rest
            )
        state.epoch_s = time.perf_counter() - start
        state.wait_share = timer.wait_s / max(state.epoch_s, 1e-9)
        state.spent[str(epoch)] = {
            "device": state.device,
            "batches": timer.count,
            "updates": len(updates),
            "skipped": max(0, guard.forwards // state.options.accum_grad - len(updates)),
        }
        if state.pass_batches:
            state.spent[str(epoch)]["data_passes"] = round(timer.count / state.pass_batches, 4)
        state.train_stats = _means(reporter)
        cls._check_epoch(model, reporter, kept)
        return invalid

    @classmethod
    def _check_epoch(cls, model, reporter, kept: str) -> None:
        """Stop before validation and checkpoint if the epoch has spoilt the model."""
        state, epoch = cls.state, reporter.get_epoch()
        spent, how = state.spent[str(epoch)], f"lower the learning rate (optim_conf.lr){kept}"
        if spent["skipped"] and not spent["updates"]:
            what = f"none of {spent['skipped']} updates was possible: no gradient was finite"
            raise finite.NotFiniteError(what, f"epoch {epoch}", how)
        finite.check_weights(
            getattr(model, "module", model), f"after epoch {epoch}", how, state.not_finite
        )
        if losses := reporter.stats.get("loss"):
            spent["first_loss"] = float(losses[0].value)
            first = state.spent.get("1", spent).get("first_loss", spent["first_loss"])
            loss = state.train_stats.get("loss", math.inf)
            finite.check_diverged(loss, first, epoch, kept)

    @classmethod
    def validate_one_epoch(cls, model, iterator, reporter, options, distributed_option):
        """Validate, then tell in one line how the epoch went."""
        start = time.perf_counter()
        part = f"epoch {reporter.get_epoch()}, validation batch"
        enough = LongEnough(iterator, cls.state.shortest, "validation", cls.state.too_short)
        with finite.FiniteGuard(model, enough, part) as guard:
            super().validate_one_epoch(
                model=model,
                iterator=guard,
                reporter=reporter,
                options=options,
                distributed_option=distributed_option,
            )
        wall_s = cls.state.epoch_s + time.perf_counter() - start
        spent = cls.state.spent[str(reporter.get_epoch())]
        spent["train_wall_s"] = wall_s
        if cls.state.kept is not None:
            cls.state.kept.limit(coming=1)
        valid = _means(reporter)
        told = {k: v for k in VALID if (v := valid.get(k)) is not None and math.isfinite(v)}
        spent |= {f"valid_{k}": round(v, 5) for k, v in told.items()}
        parts = {"train": cls.state.train_stats, "valid": valid}
        spent["curves"] = {part: curve_point(means) for part, means in parts.items()}
        if not distributed_option.distributed or distributed_option.dist_rank == 0:
            write_json(cls.state.spent_path, cls.state.spent)
            track.log_epoch(reporter.get_epoch(), train=cls.state.train_stats, valid=valid)
            progress_log.info(cls._epoch_line(reporter, options))

    @classmethod
    def _work_of(cls, epoch: int) -> int:
        """Return how long an epoch is, compared with the others."""
        return 1

    @classmethod
    def _epoch_line(cls, reporter, options) -> str:
        state, epoch = cls.state, reporter.get_epoch()
        state.first_epoch = state.first_epoch or epoch
        work = [cls._work_of(e) for e in range(1, options.max_epoch + 1)]
        left = time_left(time.monotonic() - state.start, work, state.first_epoch, epoch)
        valid = _means(reporter)
        shown = [f"loss {state.train_stats.get('loss', float('nan')):.3f}"]
        shown += [f"valid {k} {valid[k]:.3f}" for k in ("loss", *VALID) if k in valid]
        return (
            f"epoch {epoch}/{options.max_epoch}: {', '.join(shown)}; {duration(state.epoch_s)}, "
            f"{100 * state.wait_share:.0f} % waiting for data; {duration(left)} left"
        )


@contextlib.contextmanager
def _count_updates(optimizers, timer: WaitTimer) -> Iterator[set[int]]:
    """Collect the batches after which an optimiser has really moved its parameters.

    ESPnet and the scaler of mixed precision skip updates whose gradient is not finite.
    """
    updates: set[int] = set()
    handles = [o.register_step_post_hook(lambda *_: updates.add(timer.count)) for o in optimizers]
    try:
        yield updates
    finally:
        for handle in handles:
            handle.remove()


def _progress_of(model, iterator, reporter, options) -> Callable[[int], None]:
    own = getattr(model, "module", model)
    epoch, accum = reporter.get_epoch(), options.accum_grad
    before = (epoch - 1) * (len(iterator) // accum)  # all epochs have as many batches
    pace = EpochPace(f"epoch {epoch}/{options.max_epoch}", len(iterator))
    speaks = not dist.is_initialized() or dist.get_rank() == 0

    def tell(batch: int) -> None:
        own.training_progress = (epoch, before + batch // accum)
        if speaks:
            pace(batch)

    return tell


def _means(reporter) -> dict[str, float]:
    means = {k: float(aggregate(v)) for k, v in reporter.stats.items() if len(v)}
    return {k: v for k, v in means.items() if not math.isnan(v)}
