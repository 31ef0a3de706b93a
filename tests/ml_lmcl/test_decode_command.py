# SPDX-License-Identifier: Apache-2.0
"""espnet-ext decode --model: files, tables, standard input, audio, and misuse."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from intent_model import TEXTS, pack, write_recipe

from espnet_ext import cli
from espnet_ext.errors import DataError
from espnet_ext.espnet.speech2text import Speech2Text
from espnet_ext.ml_lmcl import decode_command, transcribe
from espnet_ext.ml_lmcl.classifier import IntentClassifier


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("decode")
    return str(pack(write_recipe(root), root / "model.zip"))


@pytest.fixture(scope="module")
def classify(model):
    return IntentClassifier.from_pretrained(model)


@pytest.fixture
def run(model, capfd):
    """Return what ``espnet-ext decode --model MODEL`` says: exit code, lines of stdout, stderr."""

    def run(*argv, command=("decode", "--model", model)):
        capfd.readouterr()
        code = cli.main([*command, *map(str, argv)])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err

    return run


def expected(classify, texts, ids=None):
    ids = ids or range(1, len(texts) + 1)
    found = classify(list(texts))
    return [f"{i}\t{p}\t{p.probability:.6f}" for i, p in zip(ids, found, strict=True)]


def test_a_file(run, classify, tmp_path):
    file = tmp_path / "show.txt"
    texts = [TEXTS[0], "", TEXTS[3]]
    for content in ("\n".join(texts) + "\n", "\ufeff" + "\r\n".join(texts)):  # no end of line
        file.write_bytes(content.encode())
        code, out, err = run(file)
        assert (code, err) == (0, "") and out == expected(classify, texts)
    file.write_bytes(b"")
    assert run(file) == (0, [], "")
    file.write_bytes(b"\n\n")  # two empty lines are two empty texts
    assert run(file)[1] == expected(classify, ["", ""])


def test_a_large_file_keeps_its_order(run, classify, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_command, "_BLOCK", 100)  # lines are cut by blocks
    texts = [f"{TEXTS[i % 4]} {'é' * (i % 3)}" for i in range(40)]
    (tmp_path / "x").write_text("\n".join(texts), encoding="utf-8")
    ids = [line.split("\t")[:2] for line in run(tmp_path / "x")[1]]
    assert ids == [[str(i), str(classify(t))] for i, t in enumerate(texts, 1)]


def test_a_table(run, classify, tmp_path):
    file = tmp_path / "text_asr"
    file.write_text(f"u2 {TEXTS[1]}\nu1\nu3  {TEXTS[2]}\n")
    assert run("--table", file)[1] == expected(
        classify, [TEXTS[1], "", TEXTS[2]], ["u2", "u1", "u3"]
    )
    for content, says in (("a x\n\nb y\n", ":2"), ("a x\n b y\n", ":2"), ("a x\na y\n", ":2")):
        file.write_text(content)
        code, _, err = run("--table", file)
        assert code == 3 and f"{file}{says}" in err


def test_json(run, classify, tmp_path):
    (tmp_path / "x").write_text("Play — SOME jazz\n", encoding="utf-8")
    row = json.loads(run("--json", tmp_path / "x")[1][0])
    want = classify("play some jazz")
    assert row["labels"] == want.labels and row["text"] == "Play — SOME jazz"
    assert row["probability"] == pytest.approx(want.probability, abs=1e-6)
    assert row["posteriors"]["action"][0][0] == want.labels["action"]


@pytest.mark.parametrize("argv", [[], ["-"]])
def test_standard_input(run, classify, monkeypatch, argv):
    data = io.BytesIO("\n".join(TEXTS).encode())
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=data))
    assert run(*argv)[1] == expected(classify, TEXTS)


def test_inference_model(run, model, tmp_path):
    (tmp_path / "x").write_text("\n".join(TEXTS))
    outs = [run(tmp_path / "x", "--inference-model", w)[1] for w in ("asr", "clean", "average")]
    assert len({tuple(o) for o in outs}) == 3


def test_a_pipe_is_answered_line_by_line_and_may_break(model, tmp_path):
    """What is piped in is answered before its end; ``| head`` is no error."""
    argv = [sys.executable, "-m", "espnet_ext.cli", "decode", "--model", model]
    env = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, cwd=tmp_path, env=env, **pipes) as p:
        p.stdin.write(b"play some jazz\n")
        p.stdin.flush()
        assert p.stdout.readline().startswith(b"1\t")
        p.stdout.close()
        p.stdin.write(b"play some jazz\n" * 5000)
        p.stdin.close()
        assert p.wait() == 0 and p.stderr.read() == b""


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "audio"
    folder.mkdir()
    for i in range(3):
        soundfile.write(folder / f"{i}.wav", np.full(8000, 0.1 * (i + 1)), 8000)
    # Not in the order of the ids: the output follows the table.
    (folder / "wav.scp").write_text("".join(f"u{i} {folder}/{i}.wav\n" for i in (2, 0, 1)))
    (folder / "text").write_text("".join(f"u{i} {TEXTS[i].upper()}\n" for i in range(3)))
    return folder


@pytest.fixture
def stub_asr(monkeypatch, tmp_path):
    """A recogniser that hears which file it is by its loudness, with one wrong word."""

    class Stub:
        fs = 16000

        def __init__(self, config, model_file, beam, nbest, device):
            self.nbest = nbest

        def __call__(self, speech):
            texts = [TEXTS[round(float(np.abs(x[2000:6000]).mean()) * 10) - 1] for x in speech]
            return [[(t, -1.0), (t.replace("to", "too"), -2.0)][: self.nbest] for t in texts]

    monkeypatch.setattr(transcribe, "load_recogniser", Stub)
    files = tmp_path / "config.yaml", tmp_path / "m.pth"
    for f in files:
        f.touch()
    return ["--asr-config", str(files[0]), "--asr-model", str(files[1])]


def test_audio(run, classify, data, stub_asr, tmp_path):
    code, out, _ = run("--data", data, *stub_asr)
    ids, texts = ["u2", "u0", "u1"], [TEXTS[i] for i in (2, 0, 1)]
    assert code == 0 and [x.split("\t")[:2] for x in out] == [
        x.split("\t")[:2] for x in expected(classify, texts, ids)
    ]
    argv = ["--data", data, *stub_asr, "--beam", 4, "--nbest", 2, "--json"]
    rows = [json.loads(x) for x in run(*argv, "--text-asr", tmp_path / "asr/text_asr")[1]]
    want = classify.nbest([(TEXTS[0], -1.0), (TEXTS[0].replace("to", "too"), -2.0)])
    assert rows[1]["id"] == "u0" and rows[1]["labels"] == want.labels
    assert rows[1]["probability"] == pytest.approx(want.probability, abs=1e-5)
    assert rows[1]["nbest"][0][0] == rows[1]["text"] == TEXTS[0]
    assert (tmp_path / "asr/text_asr").read_text().splitlines()[0] == f"u0 {TEXTS[0]}"


def test_transcribe_command(run, data, stub_asr, tmp_path):
    out = tmp_path / "out/text_asr"
    code, lines, _ = run(data, out, *stub_asr, command=["transcribe"])
    assert code == 0 and "3 utterances" in lines[0] and "WER 0.00 %" in lines[0]
    assert out.read_text() == "".join(f"u{i} {TEXTS[i]}\n" for i in range(3))


def test_an_experiment_in_place_of_its_archive_is_told_with_the_archive(run, data, tmp_path):
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/asr.zip").touch()
    argv = (data, tmp_path / "text_asr", "--asr", tmp_path / "exp")
    code, _, err = run(*argv, command=["transcribe"])
    assert code == 3 and "the folder is no packed model" in err
    assert f"give the archive: {tmp_path}/exp/asr.zip" in err
    with pytest.raises(DataError, match="the folder has no meta") as e:
        Speech2Text.from_pretrained(tmp_path / "exp")
    assert str(tmp_path / "exp/asr.zip") in str(e.value)


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["none.txt"], 3, "no such file"),
        (["--modl", "x"], 2, "did you mean '--model'"),
        (["a", "b"], 2, "one argument too many"),
        (["--inference-model", "best"], 2, "invalid choice: 'best'"),
        (["--device", "tpu", "ok.txt"], 2, "no device 'tpu'"),
        (["bad.txt"], 3, "bad.txt:2"),
        (["--beam", "0"], 2, "from 1, not '0'"),
        (["--asr", "x.zip"], 2, "--asr is for audio"),
        (["--nbest", "2", "ok.txt"], 2, "--nbest is for audio"),
        (["--data", "."], 2, "needs one ASR model"),
        (["--data", ".", "--asr", "a", "--asr-model", "b"], 2, "needs one ASR model"),
        (["--data", ".", "--asr-config", "b"], 2, "needs one ASR model"),
        (["--data", ".", "--asr", "a.zip", "ok.txt"], 2, "do not go together"),
        (["--data", ".", "--asr", "a.zip"], 3, "wav.scp is missing"),
        (["--data", ".", "--asr", "a.zip", "--nbest", "3"], 2, "needs a beam"),
        (["--data", ".", "--asr", "a.zip", "--ctc-weight", "1"], 2, "add --beam N"),
        (["--data", ".", "--asr", "a.zip", "--beam", "2", "--ctc-weight", "2"], 2, "from 0 to 1"),
        (["--model"], 2, "expected one argument"),
        (["--model", "ok.txt"], 3, "neither a zip nor a tar archive"),
        (["--model", "."], 3, "egs2/*/ml_lmcl1"),
        (["--model", "asr"], 3, "of none of these methods: "),
        (["--model", "none.zip"], 3, "no such model"),
        (["--model="], 2, "expected one argument"),
    ],
)
def test_misuse(run, tmp_path, monkeypatch, argv, code, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.txt").write_text("play\n")
    (tmp_path / "bad.txt").write_bytes(b"play\n\xff\n")
    (tmp_path / "asr").mkdir()
    (tmp_path / "asr/config.yaml").write_text("token_type: bpe\n")
    got, _, err = run(*argv)
    assert (got, says in err) == (code, True), err
    assert "Traceback" not in err


def test_without_model_it_is_the_stage_of_the_recipe(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "there is no recipe.yaml here" in run(command=["decode"])[2]
    assert run("--help")[1][0].startswith("usage: espnet-ext decode --model")
