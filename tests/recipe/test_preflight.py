# SPDX-License-Identifier: Apache-2.0
"""What would fail later fails before stage 1, and --doctor shows all of it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_ext.recipe import runner

CORPUS = {
    "name": "Toy",
    "env": "TOY_CORPUS",
    "licence": "CC0",
    "source": "its site",
    "size": "1 MB",
    "layout": "etc/train | toy/etc/train",
}


@pytest.fixture
def run(folder, capfd, monkeypatch):
    """Return ``run(sections, *argv) -> (exit code, stdout, stderr)``; data.sh leaves a trace."""
    monkeypatch.delenv("TOY_CORPUS", raising=False)
    folder.write("local/data.sh", "touch started; exit 1\n")

    def call(sections: dict, *argv: str):
        folder.recipe(**sections)
        code = runner.main(["--ngpu", "0", *argv])
        assert not Path("data").exists()
        return code, *capfd.readouterr()

    return call


def test_corpus_that_is_not_given_says_where_to_get_it(run):
    code, _, err = run({"corpus": CORPUS})
    assert code == 3
    for part in ("TOY_CORPUS is not set", "TOY_CORPUS=/path/to/it", "its site", "CC0", "1 MB"):
        assert part in err
    assert not Path("started").exists()
    assert run({"corpus": {**CORPUS, "download": True}})[0] == 1
    assert Path("started").exists()


def test_corpus_at_the_wrong_place(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TOY_CORPUS", str(tmp_path / "none"))
    code, _, err = run({"corpus": CORPUS})
    assert (code, "is not a folder" in err) == (3, True)
    monkeypatch.setenv("TOY_CORPUS", str(tmp_path))
    code, _, err = run({"corpus": CORPUS})
    assert (code, "does not look like Toy" in err) == (3, True)
    assert "correct corpus.layout in recipe.yaml" in err
    assert not Path("started").exists()
    (tmp_path / "toy/etc/train").mkdir(parents=True)
    assert run({"corpus": CORPUS})[0] == 1
    assert Path("started").exists()


def test_a_corpus_of_one_file(run, monkeypatch, tmp_path):
    corpus = {**CORPUS, "file": True, "layout": "*.jsonl"}
    monkeypatch.setenv("TOY_CORPUS", str(tmp_path / "lines.txt"))
    code, _, err = run({"corpus": corpus})
    assert (code, "names nothing that exists" in err) == (3, True)
    monkeypatch.setenv("TOY_CORPUS", str(tmp_path))
    assert "does not look like Toy" in run({"corpus": corpus})[2]
    assert not Path("started").exists()
    (tmp_path / "lines.txt").touch()
    (tmp_path / "part.jsonl").touch()
    for path in (tmp_path, tmp_path / "lines.txt"):
        monkeypatch.setenv("TOY_CORPUS", str(path))
        assert run({"corpus": corpus})[0] == 1
        Path("started").unlink()


def test_disk(run):
    code, _, err = run({"prepare": {"disk_mb": 10**12}})
    assert code == 3
    assert "disk: " in err
    assert not Path("started").exists()


def test_gpus(run):
    code, _, err = run({}, "--ngpu", "99")
    assert code == 3
    assert "99 GPUs asked for" in err


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["--executor", "dsk"], 2, "did you mean 'dask'?"),
        (["--executor", "conf/none.yaml"], 2, "there is no such executor file"),
        (["--num-nodes", "2"], 2, "--num-nodes needs GPUs"),
    ],
)
def test_a_start_that_cannot_work(run, folder, argv, code, says):
    folder.write("conf/ok.yaml", "max_epoch: 3\n")
    got, _, err = run({"finetune": {"config": "conf/ok.yaml"}}, *argv)
    assert got == code
    assert says in err
    assert not Path("started").exists()


@pytest.mark.parametrize(
    ("section", "key", "where"),
    [
        ({"config": "conf/bad.yaml"}, "max_epochs", "conf/bad.yaml"),
        ({"config": "conf/ok.yaml", "args": {"optim_con": {}}}, "optim_con", "finetune.args"),
    ],
)
def test_unknown_training_option_names_the_nearest(run, folder, section, key, where):
    folder.write("conf/ok.yaml", "max_epoch: 3\n")
    folder.write("conf/bad.yaml", "max_epochs: 3\n")
    code, _, err = run({"finetune": section})
    assert code == 2
    assert f"no option '{key}'" in err
    assert where in err
    assert f"did you mean '{'max_epoch' if key == 'max_epochs' else 'optim_conf'}'?" in err
    assert not Path("started").exists()


def test_audio_that_cannot_be_opened(run, folder):
    soundfile.write(folder.path / "a.wav", np.zeros(160), 16000)
    folder.write("dump/train/wav.scp", f"a {folder.path}/a.wav\nb {folder.path}/none.wav\n")
    code, _, err = run({})
    assert code == 3
    assert "none.wav" in err
    assert not Path("started").exists()


def test_doctor_shows_all_and_starts_nothing(run, folder):
    folder.write("conf/t.yaml", "max_epochs: 3\n")
    sections = {
        "corpus": CORPUS,
        "finetune": {"config": "conf/t.yaml"},
        "decode": {"method": "baem"},
    }
    code, out, _ = run(sections, "--doctor")
    assert code == 2  # of the first that fails: decode.method
    fails = [x.split(":")[0] for x in out.splitlines() if x.startswith("FAIL")]
    assert fails == [
        "FAIL  stage decode",
        "FAIL  corpus",
        "FAIL  finetune configuration",
    ]
    assert "did you mean 'beam'" in out
    assert "did you mean 'max_epoch'?" in out
    assert out.rstrip().endswith("not ready")
    assert not Path("started").exists()
    code, out, _ = run({"corpus": {**CORPUS, "download": True}}, "--doctor")
    assert (code, out.rstrip().splitlines()[-1]) == (0, "ready")


def test_doctor_tells_what_the_sets_share(folder, capfd):
    for name, utts in (("train", "ab"), ("test", "bc")):
        for file, value in (("wav.scp", "x.wav"), ("utt2spk", "s"), ("text", "one")):
            folder.write(f"data/{name}/{file}", "".join(f"{u} {u}-{value}\n" for u in utts))
    folder.recipe(format={})
    runner.main(["--ngpu", "0", "--doctor"])
    out = capfd.readouterr().out
    assert "warning: train and test share 1 utterance ids (b)" in out
    assert "1 of 2 texts of test (50.0 %) are texts of train, too" in out


def test_doctor_tells_of_audio_below_the_rate_of_the_front_end(folder, capfd):
    soundfile.write("low.wav", np.zeros(800), 8000)
    folder.write("data/test/wav.scp", f"a {Path('low.wav').absolute()}\n")
    for fs, told in ((16000, True), (8000, False)):
        folder.recipe(format={"fs": fs})
        runner.main(["--ngpu", "0", "--doctor"])
        out = capfd.readouterr().out
        assert ("the audio of test is of 8000 Hz: nothing above 4000 Hz is in it" in out) is told
