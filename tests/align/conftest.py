# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import pytest

FAST = {
    "mono": {"iterations": 12, "realign": [1, 2, 3, 4, 6, 8, 10], "gaussians": 250,
             "increase_until": 9},
    "tri": {"iterations": 8, "realign": [4], "increase_until": 6, "leaves": 150, "gaussians": 300},
    "lda_mllt": {"iterations": 6, "realign": [3], "increase_until": 4, "leaves": 150,
                 "gaussians": 250, "transforms": [2]},
    "sat": {"iterations": 6, "realign": [3], "increase_until": 4, "leaves": 150,
            "gaussians": 250, "transforms": [2]},
    "hybrid": {"epochs": 6, "units": 32, "batch_frames": 1000, "lr": 0.01, "device": "cpu",
               "precision": "float32"},
    "passes": ["mono", "tri", "lda_mllt", "sat", "hybrid"],
    "textgrid": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    """A small synthetic corpus with exact phone times: folder of train, test, lexicon, manifest."""
    pytest.importorskip("espeakng_loader")
    from espnet_ext.data.synth.corpus import make_corpus

    folder = tmp_path_factory.mktemp("spoken") / "data"
    make_corpus(folder, train_minutes=3.0, dev_utts=4, test_utts=24, train_speakers=4)
    return folder


@pytest.fixture(scope="session")
def trained(spoken, tmp_path_factory):
    """An aligner of all passes: options ``given``, ``session``, ``lines``, ``models`` by pass."""
    from espnet_ext.align.options import from_dict
    from espnet_ext.align.run import save_model, train_aligner

    root = tmp_path_factory.mktemp("aligner")
    given = {**FAST, "lexicon": str(spoken / "lexicon.txt")}
    options, lines, data = from_dict(given), [], spoken / "train"
    session = train_aligner(data, root / "work", options, map, lines.append)
    models = {n: save_model(session, root / n, n, data) for n in options.passes}
    return SimpleNamespace(
        root=root, given=given, options=options, session=session, lines=lines, models=models,
        data=data,
    )  # fmt: skip


@pytest.fixture
def few(spoken, tmp_path):
    """Return a function that makes a folder of some training utterances, speakers mixed."""
    from espnet_ext.data.tables import read_table, write_set

    def make(count, name="few"):
        tables = [read_table(spoken / "train" / t) for t in ("wav.scp", "text", "utt2spk")]
        utts = list(tables[0])[:: max(1, len(tables[0]) // count)][:count]
        write_set(tmp_path / name, {u: tuple(t[u] for t in tables) for u in utts})
        return tmp_path / name

    return make
