# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill: written beside, synced, renamed, the previous one kept."""

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path, fsync_dir

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.previous.pth"
BROKEN = "checkpoint.broken.pth"
_plain_save = torch.save


def load(path: Path | str, map_location: Any = "cpu") -> Any:
    """Load tensors and plain containers only; a pickle that holds anything else is refused."""
    return torch.load(path, map_location=map_location, weights_only=True)


def check_tensors(*paths: Path | str) -> None:
    """Check files of parameters before ESPnet reads them; the weights stay on disk.

    On a terminal ESPnet asks whether to run what a pickle holds, and a variable answers for all.

    Raises:
        DataError: A file is missing, damaged, or would run code when it is loaded.
    """
    for path in paths:
        try:
            try:
                torch.load(path, map_location="meta", weights_only=True, mmap=True)
            except RuntimeError:  # the format of before PyTorch 1.6 cannot be mapped
                load(path)
        except FileNotFoundError:
            raise DataError("there is no such checkpoint", path) from None
        except Exception as e:  # of torch, pickle, zipfile: each has its own
            what = f"the checkpoint does not hold tensors alone ({type(e).__name__})"
            raise DataError(what, path, "do not use it; get it from its publisher") from None


def atomic_save(obj: Any, path: Path | str, *args: Any, **kwargs: Any) -> None:
    """``torch.save`` that leaves the old file or the new one, whenever it is killed.

    A trainer checkpoint is first linked as ``checkpoint.previous.pth``.
    """
    if not isinstance(path, str | os.PathLike):  # a file object: nothing to rename
        _plain_save(obj, path, *args, **kwargs)
        return
    path = Path(path)
    with atomic_path(path) as tmp:
        _plain_save(obj, tmp, *args, **kwargs)
        if path.name == CHECKPOINT and path.exists():
            _keep_previous(path)


def _keep_previous(path: Path) -> None:
    link = path.with_name(f".{PREVIOUS}.tmp")
    link.unlink(missing_ok=True)
    os.link(path, link)
    os.replace(link, path.with_name(PREVIOUS))
    fsync_dir(path.parent)


@contextlib.contextmanager
def atomic_saves() -> Iterator[None]:
    """Make every ``torch.save`` inside the block atomic.

    ESPnet's trainer calls ``torch.save`` by name in the middle of its epoch loop. This and the
    fast import are all that the adapter replaces of other packages; this one is put back.
    """
    torch.save = atomic_save
    try:
        yield
    finally:
        torch.save = _plain_save


def restore_missing(output_dir: Path) -> None:
    """Bring the previous checkpoint back when the current one is gone."""
    checkpoint, previous = output_dir / CHECKPOINT, output_dir / PREVIOUS
    if previous.exists() and not checkpoint.exists():
        logging.warning(f"{checkpoint} is gone; going on from {previous}")
        with contextlib.suppress(FileExistsError):  # another process of the training was faster
            os.link(previous, checkpoint)


def usable(checkpoint: Path, map_location: Any = "cpu") -> tuple[Path, dict]:
    """Return the newest checkpoint that can be read, and its content.

    Raises:
        Exception: Whatever reading the previous one raised, if neither can be read.
    """
    try:
        return checkpoint, load(checkpoint, map_location)
    except Exception as e:
        previous = checkpoint.with_name(PREVIOUS)
        if not previous.exists():
            raise
        logging.warning(
            f"{checkpoint} cannot be read ({type(e).__name__}); going on from {previous.name}"
        )
        # Else the next save would keep the broken file as the previous one.
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            os.replace(checkpoint, checkpoint.with_name(BROKEN))
            os.link(previous, checkpoint)
        return previous, load(previous, map_location)


def repair_epoch_files(output_dir: Path, states: dict, epoch: int) -> None:
    """Make what the trainer writes after a checkpoint, if it was killed in between."""
    name = f"{epoch}epoch.pth"
    try:
        load(output_dir / name)
    except Exception:
        atomic_save(states["model"], output_dir / name)
    set_link(output_dir / "latest.pth", name)


def repair_best_links(output_dir: Path, reporter: Any, criteria: Iterable[Sequence[str]]) -> None:
    """Point ``valid.acc.best.pth`` to the best epoch, for the trainer does so after a checkpoint.

    It touches the link only in the epoch that is the best: after a kill it would stay where it was.
    """
    for part, key, mode in criteria:
        if reporter.has(part, key):
            best = f"{reporter.get_best_epoch(part, key, mode=mode)}epoch.pth"
            if (output_dir / best).is_file():
                set_link(output_dir / f"{part}.{key}.best.pth", best)


def set_link(link: Path, target: str) -> None:
    """Point symbolic link ``link`` to ``target`` atomically."""
    tmp = link.with_name(f".{link.name}.tmp")
    tmp.unlink(missing_ok=True)
    tmp.symlink_to(target)
    os.replace(tmp, link)
