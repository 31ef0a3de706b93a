# SPDX-License-Identifier: Apache-2.0
"""CPU-parallel work: an ordered map over items, by local processes or by dask.

Functions must be importable (top-level) and take and return plain data. Every worker has one
thread for numerical libraries, so ``--nj`` says how many cores are used.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from espnet_ext.errors import SetupError, UsageError, nearest
from espnet_ext.recipe.options import Options
from espnet_ext.yamlfile import read_section

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
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
        items = list(items)
        if len(items) < 2 * self.jobs:
            return map(fn, items)
        if self._pool is None:
            # spawn: a fork of a process with torch's threads may hang
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, mp_context=context)
        chunk = max(1, min(32, len(items) // (4 * self.jobs)))
        return self._pool.map(fn, items, chunksize=chunk)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Dask:
    """A dask cluster: on this machine, or made by dask-jobqueue from a YAML file."""

    def __init__(self, jobs: int, settings: dict):
        try:
            from distributed import Client, LocalCluster
        except ImportError:
            raise SetupError(
                "the dask executor needs the package 'distributed'",
                None,
                "pip install 'espnet_ext[cluster]'",
            ) from None
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
        futures = self._client.map(fn, list(items), pure=False)
        try:
            for future in futures:
                yield future.result()
        finally:
            self._client.cancel(futures)

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
    # Recipes share the project's conf/.
    path = Path(kind) if Path(kind).is_file() else Path("../../..") / kind
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
            "clusters need the package 'dask-jobqueue'", None, "pip install 'espnet_ext[cluster]'"
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
    finally:
        if hasattr(executor, "close"):
            executor.close()
