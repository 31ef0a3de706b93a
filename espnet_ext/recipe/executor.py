# SPDX-License-Identifier: Apache-2.0
"""CPU-parallel work: an ordered map over items, by local processes or by dask.

Functions must be importable (top-level) and take and return plain data. Every worker has one
thread for numerical libraries, so ``--nj`` says how many cores are used.
"""

import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from espnet_ext.errors import EspnetExtError, SetupError, UsageError, nearest
from espnet_ext.installation import install, project_file
from espnet_ext.recipe import processes
from espnet_ext.recipe.options import Options
from espnet_ext.yamlfile import read_section

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
AHEAD = 4  # chunks a job that are computed or wait to be taken; more would only fill memory
CLUSTERS = {  # of dask-jobqueue
    "slurm": "SLURMCluster",
    "pbs": "PBSCluster",
    "sge": "SGECluster",
    "lsf": "LSFCluster",
}


class Executor(Protocol):
    """What a back end offers."""

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Yield ``fn(item)`` in the order of ``items``; the first exception ends it."""


class Serial:
    """No further process: for one job, and for few items."""

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map(fn, items)


class Local:
    """Processes on this machine, started when first used."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        items, few = _peek(items, 2 * self.jobs)
        if few:
            return map(fn, items)
        if self._pool is None:
            # spawn: a fork of a process with torch's threads may hang
            self._pool = ProcessPoolExecutor(
                self.jobs,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=processes.start_worker,
                initargs=(processes.LockShare(), os.getpid()),
            )
        return self._told(_ordered(self._pool.submit, fn, items, self.jobs))

    def _told(self, results: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from results
        except BrokenProcessPool:
            processes.raise_if_stopped()
            raise EspnetExtError(
                "a worker process was killed (often: out of memory)",
                "the parallel jobs of this stage",
                f"start again with fewer jobs than {self.jobs} (--nj), or with more memory",
            ) from None

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def kill(self) -> None:
        """End the workers at once, whatever they are doing."""
        for process in list(((self._pool and self._pool._processes) or {}).values()):
            process.kill()


def _peek(items: Iterable[Any], count: int) -> tuple[Iterable[Any], bool]:
    """Return the items, and whether they are fewer than ``count``; no iterator is read whole."""
    if isinstance(items, Sized):
        return items, len(items) < count
    first = list(itertools.islice(items := iter(items), count))
    return itertools.chain(first, items), len(first) < count


def _ordered(
    submit: Callable[..., Any], fn: Callable[[Any], Any], items: Iterable[Any], jobs: int
) -> Iterator[Any]:
    """Yield ``fn(item)`` in order, with a bounded number of items and results in memory."""
    size = max(1, min(32, len(items) // (4 * jobs))) if isinstance(items, Sized) else 1
    pending: deque[Any] = deque()
    try:
        for chunk in itertools.batched(items, size):
            pending.append(submit(_work, os.getcwd(), fn, chunk))
            if len(pending) >= AHEAD * jobs:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


def _work(cwd: str, fn: Callable[[Any], Any], chunk: tuple) -> list:
    os.chdir(cwd)  # a cluster may start workers elsewhere, and paths are relative to the recipe
    return [fn(item) for item in chunk]


class Dask:
    """A dask cluster: on this machine, or made by dask-jobqueue from a YAML file."""

    def __init__(self, jobs: int, settings: dict):
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise SetupError(
                "the dask executor needs the package 'distributed'",
                None,
                install(extra="cluster"),
            ) from None
        self._jobs = jobs
        settings = dict(settings)
        kind = settings.pop("cluster", "local")
        if kind == "local":
            self._cluster = LocalCluster(
                n_workers=jobs, threads_per_worker=1, dashboard_address=None, **settings
            )
        else:
            self._cluster = _jobqueue(CLUSTERS[kind], settings)
            self._cluster.scale(jobs=jobs)
        self._client = Client(self._cluster)

    def map(self, fn: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        submit = partial(self._client.submit, pure=False)
        return _ordered(submit, fn, _peek(items, 0)[0], self._jobs)

    def close(self) -> None:
        self._client.close()
        self._cluster.close()


def dask_settings(options: Options) -> dict | None:
    """Return the settings of dask that ``--executor`` asks for; None where it asks for no dask.

    Raises:
        UsageError: Unknown kind, or the YAML file is missing or not usable.
    """
    kind = options.executor
    if kind in ("local", "dask"):
        return None if kind == "local" else {}
    if not kind.endswith((".yaml", ".yml")):
        raise UsageError(
            f"there is no executor '{kind}'", "--executor", nearest(kind, ["local", "dask"])
        )
    nearer = (Path(kind), Path("../../..") / kind)  # of the recipe, of the tree it is in
    path = next((p for p in nearer if p.is_file()), project_file(kind))
    if not path.is_file():
        raise UsageError("there is no such executor file", kind, "local, dask, or a YAML file")
    settings = read_section(path, "an executor file")
    cluster = settings.get("cluster", "local")
    if cluster not in ("local", *CLUSTERS):
        raise UsageError(
            f"there is no cluster '{cluster}'", path, nearest(str(cluster), [*CLUSTERS, "local"])
        )
    return settings


def _jobqueue(name: str, settings: dict) -> Any:
    try:
        import dask_jobqueue
    except ImportError:
        raise SetupError(
            "clusters need the package 'dask-jobqueue'", None, install(extra="cluster")
        ) from None
    return getattr(dask_jobqueue, name)(**settings)


@contextmanager
def make_executor(options: Options) -> Iterator[Executor]:
    """Yield the executor that ``--executor`` and ``--nj`` ask for, and close it.

    Raises:
        UsageError: Unknown kind, or the YAML file is missing.
        SetupError: A package is missing.
    """
    for name in THREADS:
        os.environ.setdefault(name, "1")
    jobs = options.nj or len(os.sched_getaffinity(0))
    settings = dask_settings(options)
    executor: Any
    if settings is not None:
        executor = Dask(jobs, settings)
    else:
        executor = Local(jobs) if jobs > 1 else Serial()
    try:
        yield executor
    except KeyboardInterrupt:
        if hasattr(executor, "kill"):
            executor.kill()
        raise
    finally:
        if hasattr(executor, "close"):
            executor.close()
