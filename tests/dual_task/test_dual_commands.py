# SPDX-License-Identifier: Apache-2.0
"""espnet-ext decode and embed on audio by a dual-task model: what is printed, and misuse."""

import json
import re

import numpy as np
import pytest
import soundfile
from speaking_model import ARGS, SpeakingModel, spell

from espnet_ext import cli
from espnet_ext.dual_task import decode_command, embed_command
from espnet_ext.dual_task.understand import SpeechUnderstander
from espnet_ext.recipe.completion import script

SAID = {"u2": "<x> _ a b _ > _ c", "u1": "a", "u3": "b b - c"}


def sentences(texts):
    rows = {"ab": "a b", "una a": "a", "c": "c"}
    return np.stack([SpeechUnderstander(SpeakingModel(), ARGS)([spell(rows[t])])[0].embedding
                     for t in texts])  # fmt: skip


@pytest.fixture
def run(monkeypatch, tmp_path, capfd):
    """Run a command in a folder with a model, audio files and a data folder."""

    def loaded(path, device="cpu", retrieval=False, sentence_encoder="", **options):
        more = {"sentences": sentences} if retrieval else {}
        return SpeechUnderstander(SpeakingModel(), ARGS, device, **options, **more)

    monkeypatch.setattr(SpeechUnderstander, "from_pretrained", loaded)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exp").mkdir()
    (tmp_path / "exp/config.yaml").write_text("dual_task: {}\n")
    (tmp_path / "data").mkdir()
    for utt, text in SAID.items():
        soundfile.write(f"data/{utt}.wav", spell(text), 16000, subtype="FLOAT")
    lines = "".join(f"{u} data/{u}.wav\n" for u in SAID)  # not in the order of the ids
    (tmp_path / "data/wav.scp").write_text(lines)
    soundfile.write("short.wav", spell("a")[:90], 16000)
    (tmp_path / "texts.txt").write_text("una  a\n\nc\nab\nc\n")
    (tmp_path / "texts.tsv").write_text("meaning\tlanguage\ttext\nm1\tfr\tab\nm2\tit\tuna a\n")

    def run(command, *argv, model="exp"):
        capfd.readouterr()
        code = cli.main([command, *(["--model", model] if model else []), *map(str, argv)])
        out, err = capfd.readouterr()
        return code, out.splitlines(), err

    return run


def rows_of(found):
    code, lines, err = found
    assert (code, err) == (0, "")
    return [json.loads(line) for line in lines]


def test_concepts_of_a_folder_in_its_order(run):
    rows = rows_of(run("decode", "data"))
    assert [r["id"] for r in rows] == ["u2", "u1", "u3"]
    assert rows[0] == {
        "id": "u2", "text": "<x> ab > c", "words": "ab c",
        "concepts": [{"concept": "x", "value": "ab", "start_s": 0.02, "end_s": 0.04}],
    }  # fmt: skip
    assert rows[2]["text"] == "bc" and rows[2]["concepts"] == []


def test_files_segments_and_other_rates(run, tmp_path, monkeypatch):
    monkeypatch.setattr(decode_command, "PART", 1)
    rows = rows_of(run("decode", "data/u3.wav", "data/u1.wav"))
    assert [(r["id"], r["words"]) for r in rows] == [("data/u3.wav", "bc"), ("data/u1.wav", "a")]
    (tmp_path / "data/segments").write_text("s1 u2 0.02 0.04\ns2 u2 0.07 0.08\n")
    assert [r["words"] for r in rows_of(run("decode", "data"))] == ["ab", "c"]
    slow = np.repeat(spell("- - - a a a a - - -"), 2)  # the same at 32 kHz
    soundfile.write("slow.wav", slow, 32000, subtype="FLOAT")
    assert rows_of(run("decode", "slow.wav"))[0]["words"] == "a"


def test_audio_that_is_too_short_is_named(run):
    code, lines, err = run("decode", "short.wav", "data/u1.wav")
    assert code == 0 and "1 utterances are too short" in err and "short.wav" in err
    assert json.loads(lines[0]) == {"id": "short.wav", "text": "", "words": "", "concepts": []}
    code, lines, err = run("embed", "short.wav", "--out", "x.npz")
    assert (code, lines) == (0, []) and np.load("x.npz")["embeddings"].shape == (0, 10)
    assert "x.npz: 0 embeddings of 10 values" in err
    assert json.loads(run("embed", "short.wav")[1][0])["embedding"] is None
    assert json.loads(run("embed", "short.wav", "--retrieve", "texts.txt")[1][0])["retrieved"] == []


def test_embeddings_printed_and_written(run):
    rows = rows_of(run("embed", "data"))
    assert [r["id"] for r in rows] == ["u2", "u1", "u3"]
    np.testing.assert_allclose(rows[1]["embedding"], np.eye(10)[2])
    code, lines, err = run("embed", "data", "--out", "out/x.npz")
    assert (code, lines, err) == (0, [], "out/x.npz: 3 embeddings of 10 values\n")
    arrays = np.load("out/x.npz")
    assert arrays["ids"].tolist() == ["u2", "u1", "u3"]
    np.testing.assert_allclose(arrays["embeddings"], [r["embedding"] for r in rows], atol=1e-6)


def test_texts_are_ranked(run):
    rows = rows_of(run("embed", "data", "--retrieve", "texts.txt", "--top", 2))
    best = [[x["text"] for x in r["retrieved"]] for r in rows]
    assert best[1] == ["una a", "ab"] and len(best[0]) == 2
    assert rows[1]["retrieved"][0] == {"text": "una a", "cosine": 1.0}
    _, (line,), _ = run("embed", "data/u1.wav", "--retrieve", "texts.tsv", "--out", "y.npz")
    row = json.loads(line)
    assert row["retrieved"][0] == {
        "text": "una a", "meaning": "m2", "language": "it", "cosine": 1.0,
    }  # fmt: skip
    assert len(row["retrieved"]) == 2 and np.load("y.npz")["ids"].tolist() == ["data/u1.wav"]


@pytest.mark.parametrize(
    ("command", "argv", "code", "says"),
    [
        ("decode", [], 2, "no audio to read"),
        ("decode", ["none.wav"], 3, "no such file or folder"),
        ("decode", ["data", "data/u1.wav", "data/u1.wav"], 2, "stands twice"),
        ("decode", ["exp"], 3, "wav.scp is missing"),
        ("decode", ["texts.txt"], 3, "not readable as audio"),
        ("decode", ["--beam", "3", "data"], 2, "there is no option '--beam'"),
        ("decode", ["data", "--batch-s", "0"], 2, "seconds from 1, not '0'"),
        ("decode", ["data", "--longest-s", "nan"], 2, "seconds from 1, not 'nan'"),
        ("embed", ["data", "--top", "0"], 2, "from 1, not '0'"),
        ("embed", ["data", "--retrieve", "none.txt"], 3, "No such file"),
        ("embed", ["data", "--retrieve", "empty.txt"], 3, "no texts to rank"),
        ("embed", ["data", "--retrieve", "data/u1.wav"], 3, "not readable"),
        ("embed", ["data", "--sentence-encoder", "x"], 2, "add --retrieve"),
        ("embed", ["data", "--out", "x.txt"], 2, "does not end in .npz"),
        ("embed", ["data", "--retrive", "x"], 2, "did you mean '--retrieve'"),
    ],
)
def test_misuse(run, tmp_path, command, argv, code, says):
    (tmp_path / "empty.txt").write_text("\n")
    got, out, err = run(command, *argv)
    assert (got, out, says in err) == (code, [], True), err
    assert "Traceback" not in err


def test_a_missing_or_foreign_model(run, tmp_path):
    assert run("embed", "data", model="")[0] == 2
    code, _, err = run("decode", "data", model="none")
    assert code == 3 and "egs2/*/dual_task1 or egs2/*/ml_lmcl1" in err
    (tmp_path / "exp/config.yaml").write_text("ml_lmcl: {}\n")  # classifies texts
    code, _, err = run("decode", "data")
    assert code == 3 and "data" in err


def test_help_of_both_methods_without_a_model(run):
    code, lines, _ = run("decode", "--help")
    assert code == 0 and lines[0].startswith("usage: espnet-ext decode --model MODEL AUDIO")
    both = "\n".join(run("decode", "--model", "--help", model="")[1])
    assert "MODEL [FILE]" in both and "MODEL AUDIO" in both
    assert run("embed", model="")[0] == 2
    known = {x for x in embed_command.__doc__.split() if x.startswith("--")}
    (offered,) = [x for x in script("bash", ["embed"]).splitlines() if "--retrieve" in x]
    assert known | {"--help"} == set(re.findall(r"--[a-z][a-z-]*", offered))
