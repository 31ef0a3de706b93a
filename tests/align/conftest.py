# SPDX-License-Identifier: Apache-2.0
import pytest


@pytest.fixture(scope="session")
def spoken(tmp_path_factory):
    """A small synthetic corpus with exact phone times: folder of train, test, lexicon, manifest."""
    pytest.importorskip("espeakng_loader")
    from espnet_ext.data.synth.corpus import make_corpus

    folder = tmp_path_factory.mktemp("spoken") / "data"
    make_corpus(folder, train_minutes=3.0, dev_utts=4, test_utts=24, train_speakers=4)
    return folder
