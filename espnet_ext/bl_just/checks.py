# SPDX-License-Identifier: Apache-2.0
"""What is checked of the two streams before training, and how many batches they have."""

import argparse
import math
from pathlib import Path

from espnet_ext.bl_just.schedule import Schedule
from espnet_ext.bl_just.streams import UNLABELLED
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet.iterators import count_batches
from espnet_ext.espnet.task import is_first_process, world_size
from espnet_ext.files import write_text
from espnet_ext.progress import progress_log


def check_streams(args: argparse.Namespace, needed: bool) -> None:
    """Refuse text in the unlabelled stream, a stream of another name, a missing one.

    Args:
        args: ESPnet's training options.
        needed: Whether the schedule reads unlabelled data.

    Raises:
        UsageError: The streams are not those of the method.
        DataError: The unlabelled set has text, or there is no labelled utterance.
    """
    streams = args.stream_data_path_and_name_and_type
    wrong = sorted({s[0] for s in streams} - {UNLABELLED})
    if wrong:
        raise UsageError(
            f"there is no stream '{wrong[0]}' in this method", "extra_data",
            f"extra_data: {{{UNLABELLED}: {{set: unlabelled}}}}",
        )  # fmt: skip
    if needed and not streams:
        raise UsageError(
            "there are no unlabelled data", "extra_data",
            f"extra_data: {{{UNLABELLED}: {{set: unlabelled}}}}, or schedule: supervised "
            "with budget: batches",
        )  # fmt: skip
    for _, path, name, _ in streams:
        if name != "speech":
            raise UsageError(
                f"the unlabelled stream holds '{name}'", "extra_data.u.streams", "speech alone"
            )
        if (text := Path(path).parent / "text").exists():
            raise DataError(
                "the unlabelled set has text", text,
                "remove the file: training must not be able to read it",
            )  # fmt: skip
    for path in args.train_shape_file:
        if next(iter_table(path), None) is None:
            raise DataError("the labelled set is empty", path, "raise the labelled fraction")


def drop_short(args: argparse.Namespace, min_samples: int) -> None:
    """Take utterances that are too short for g out of the unlabelled stream.

    The list of what is left is ``unlabelled_shape`` in the output folder, what is left out stands
    in ``unlabelled_skipped.tsv``.

    Args:
        args: ESPnet's training options; ``stream_shape_file`` is exchanged.
        min_samples: Shortest length that g can use.

    Raises:
        DataError: All utterances are too short.
    """
    out, shapes = Path(args.output_dir), []
    for stream, path in args.stream_shape_file:
        rows = list(iter_table(path))
        keep = [(u, n) for u, n in rows if int(n.split(",")[0]) >= min_samples]
        lost = [(u, n) for u, n in rows if int(n.split(",")[0]) < min_samples]
        fix = "join them (format.join_s in recipe.yaml), or give the loss a shorter window"
        if not keep or (lost and args.bl_just.get("short_utts") == "refuse"):
            which = "all" if not keep else f"{len(lost)} of"
            raise DataError(
                f"{which} {len(rows)} unlabelled utterances are too short for the loss "
                f"{args.bl_just['resolved']['unsup_loss']}: {min_samples} samples are needed",
                f"{path}: {lost[0][0] if lost else ''}", fix,
            )  # fmt: skip
        if lost:
            shape = out / "unlabelled_shape"
            out.mkdir(parents=True, exist_ok=True)
            if is_first_process(args):
                write_text(out / "unlabelled_skipped.tsv", _lines(lost, "\t"))
                progress_log.info(
                    f"{len(lost)} of {len(rows)} unlabelled utterances are too short and left "
                    f"out: {out / 'unlabelled_skipped.tsv'}"
                )
            write_text(shape, _lines(keep, " "))
            path = str(shape)
        shapes.append((stream, path))
    args.stream_shape_file = shapes


def _lines(rows: list[tuple[str, str]], separator: str) -> str:
    return "".join(f"{u}{separator}{n}\n" for u, n in rows)


def write_lists(args: argparse.Namespace) -> None:
    """List the utterances of both streams in the output folder, and tell how many are in both.

    Unlabelled data that hold the labelled audio are an easier setting, so a reader must know.
    """
    out, streams = Path(args.output_dir), {}
    streams["labelled"] = args.train_shape_file[:1]
    streams["unlabelled"] = [path for _, path in args.stream_shape_file]
    ids = {k: [u for path in paths for u, _ in iter_table(path)] for k, paths in streams.items()}
    out.mkdir(parents=True, exist_ok=True)
    for name, utts in ids.items():
        write_text(out / f"{name}_utts.txt", "".join(f"{u}\n" for u in utts))
    both = len(set(ids["labelled"]) & set(ids["unlabelled"]))
    progress_log.info(
        f"{len(ids['labelled']):,} labelled and {len(ids['unlabelled']):,} unlabelled utterances, "
        f"{both or 'none'} in both: {out / 'labelled_utts.txt'}, unlabelled_utts.txt"
    )


def count_updates(
    args: argparse.Namespace, shape_files: list[str], batch_size: int, batch_bins: int
) -> int:
    """Return the updates of one pass over a stream, as ESPnet will batch it."""
    own = argparse.Namespace(**{**vars(args), "batch_size": batch_size, "batch_bins": batch_bins})
    return math.ceil(count_batches(own, shape_files, world_size(args)) / args.accum_grad)


def facts(args: argparse.Namespace, schedule: Schedule) -> dict[str, float]:
    """Return what a record of the training tells of its data and its penalty.

    ``unlabelled_hours`` are those after short utterances were left out; ``last_gamma`` is that of
    the last update with two losses. Either is left out if the schedule has none.
    """
    rate = float(args.bl_just["resolved"]["sample_rate"])
    told = {"labelled_hours": round(_samples(args.train_shape_file[:1]) / rate / 3600, 4)}
    if schedule.total.unlabelled:
        shapes = [path for _, path in args.stream_shape_file]
        told["unlabelled_hours"] = round(_samples(shapes) / rate / 3600, 4)
    for segment in (s for epoch in reversed(schedule.epochs) for s in reversed(epoch)):
        if segment.kind in ("joint", "pseudo"):
            return {**told, "last_gamma": round(segment.gamma_at(segment.updates - 1), 6)}
    return told


def _samples(shape_files: list[str]) -> int:
    """Return the samples of all utterances; speed copies (``sp0.9-<utterance>``) do not count."""
    rows = {u: int(n.split(",")[0]) for path in shape_files for u, n in iter_table(path)}
    return sum(
        n for u, n in rows.items() if not (u.startswith("sp") and u.partition("-")[2] in rows)
    )
