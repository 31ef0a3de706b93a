# SPDX-License-Identifier: Apache-2.0
"""Both back ends give what map gives, and their errors are the workers' errors."""

import itertools
import math
import sys
from types import SimpleNamespace

import pytest

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.recipe.executor import AHEAD, Dask, Serial, make_executor
from espnet_ext.recipe.options import Options

ITEMS = range(20)
EXPECTED = [math.factorial(i) for i in ITEMS]


@pytest.mark.parametrize("kind", ["local", "dask"])
def test_processes_give_what_map_gives(folder, kind):
    with make_executor(Options(nj=2, executor=kind)) as executor:
        assert list(executor.map(math.factorial, ITEMS)) == EXPECTED
        with pytest.raises(DataError) as e:  # keeps what, where and how over the process border
            list(executor.map(read_table, [f"none{i}" for i in ITEMS]))
        assert (e.value.what, str(e.value.where)) == ("none0 is missing", "none0")
        assert list(executor.map(math.factorial, ITEMS)) == EXPECTED
        neither_items_nor_results_pile_up(executor)


def neither_items_nor_results_pile_up(executor):
    taken = itertools.count()
    items = (next(taken) for _ in range(400))
    count = 0
    for i, result in enumerate(executor.map(math.sqrt, items)):
        count += 1
        assert result == math.sqrt(i)
        assert int(repr(taken)[6:-1]) - i <= AHEAD * 2 + 1
        if isinstance(executor, Dask):
            assert len(executor._client.futures) <= AHEAD * 2 + 1
    assert count == 400


def test_few_items_start_no_process(folder):
    with make_executor(Options(nj=4)) as executor:
        assert list(executor.map(lambda x: 2 * x, [1, 2, 3])) == [2, 4, 6]
        assert executor._pool is None
    with make_executor(Options(nj=1)) as executor:
        assert isinstance(executor, Serial)
        assert list(executor.map(lambda x: 2 * x, ITEMS)) == [2 * i for i in ITEMS]


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        ("locl", None, "did you mean 'local'?"),
        ("conf/none.yaml", None, "there is no such executor file"),
        ("x.yaml", "cluster: slrum", "did you mean 'slurm'?"),
        ("x.yaml", "- a", "must hold key: value lines"),
        ("x.yaml", "a: b: c", "not valid YAML"),
    ],
)
def test_misuse(folder, kind, text, says):
    if text:
        folder.write(kind, text)
    with pytest.raises(UsageError) as e, make_executor(Options(nj=1, executor=kind)):
        pass
    assert says in str(e.value)


@pytest.fixture
def cluster(monkeypatch):
    """Stand-ins for dask_jobqueue and for the client; returns what they were asked for."""
    import distributed

    asked = SimpleNamespace(settings=None, jobs=None, closed=[])

    class SLURMCluster:
        def __init__(self, **settings):
            asked.settings = settings

        def scale(self, jobs):
            asked.jobs = jobs

        def close(self):
            asked.closed.append("cluster")

    class Client:
        def __init__(self, cluster):
            assert isinstance(cluster, SLURMCluster)

        def close(self):
            asked.closed.append("client")

    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=SLURMCluster))
    monkeypatch.setattr(distributed, "Client", Client)
    return asked


def test_cluster_of_jobs(folder, cluster):
    folder.write("../../../conf/x.yaml", "cluster: slurm\ncores: 1\nqueue: cpu\n")
    with make_executor(Options(nj=7, executor="conf/x.yaml")):  # the project's, not the recipe's
        assert (cluster.settings, cluster.jobs) == ({"cores": 1, "queue": "cpu"}, 7)
        assert cluster.closed == []
    assert cluster.closed == ["client", "cluster"]
    folder.write("conf/x.yaml", "cluster: slurm\ncores: 2\n")
    with make_executor(Options(nj=1, executor="conf/x.yaml")):
        assert cluster.settings == {"cores": 2}


def test_missing_package_is_named(folder, monkeypatch):
    folder.write("x.yaml", "cluster: pbs\n")
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    executor = make_executor(Options(nj=1, executor="x.yaml"))
    with pytest.raises(SetupError, match="dask-jobqueue"), executor:
        pass
