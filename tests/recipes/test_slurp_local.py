# SPDX-License-Identifier: Apache-2.0
"""SLURP on small trees: released ASR text, recordings decoded by a stand-in, simulated text."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from recipe_tree import ROOT, load_local
from slurp_tree import LABELS, TEXTS, UNSET, tables, write_official

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.ml_lmcl import transcribe
from espnet_ext.ml_lmcl.simulate.estimate import estimate

script = load_local("slurp")
REAL = Path(os.environ.get("SLURP") or ROOT.parent / "shared/data/slurp")
META = {"scenario": ["music", "email"], "action": ["query", "likeness", "sendemail"]}


@pytest.fixture
def official(tmp_path):
    """The text part in the layout of its repository."""
    return write_official(tmp_path / "slurp")


def sample(i, split, systems=("google", "wav2vec2")):
    scenario, action = LABELS[i].split()
    row = {"id": i, "file": f"{split}{i}.flac", "sentence": TEXTS[split][i],
           "golden": TEXTS[split][i], "scenario": META["scenario"].index(scenario),
           "action": META["action"].index(action)}  # fmt: skip
    for system in systems:
        row[system] = {"sentence": f"{system}  {TEXTS[split][i][4:]}\n", "wer": 0.3, "phonemes": ""}
    return row


@pytest.fixture
def released(tmp_path):
    """SpokenCSE's filtered file: a development set and WER-grouped test lists of its own."""
    folder = tmp_path / "SpokenCSE/datasets/slurp"
    (folder / "golden").mkdir(parents=True)
    (folder / "golden/meta.json").write_text(json.dumps(META))
    content = {split: [sample(i, split) for i in range(4)] for split in TEXTS}
    content["train"][2].pop("google")
    content["oracle_eval"] = [sample(1, "devel"), sample(3, "devel")]
    content["google_test"] = [[sample(3, "test")], [], [sample(0, "test"), sample(1, "test")], []]
    content["wave2vec_test"] = [[], [sample(2, "test")], [], []]
    (folder / "slurp_with_oracle_test.json").write_text(json.dumps(content))
    return tmp_path / "SpokenCSE"


@pytest.fixture
def hwu64(tmp_path):
    """Two of its sentences occur in SLURP, one of them in the training set only."""
    folder = tmp_path / "hwu64/kfold1_train"
    folder.mkdir(parents=True)
    head = "answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user\n"
    rows = {"music_query": ["Which song is that", "name the song; please"],
            "email_query": ["any new email", "any new email"]}  # fmt: skip
    for stem, texts in rows.items():
        scenario, intent = stem.split("_")
        lines = [f'null;{scenario};{intent};"a";"{t}";"b"\n' for t in texts]
        (folder / f"{stem}.csv").write_text(head + "".join(lines))
    return folder.parent


@pytest.fixture
def confusion(tmp_path):
    """A model estimated from a few pairs."""
    texts = {f"u{k}{i}": t for k in TEXTS for i, t in enumerate(TEXTS[k])}
    heard = {u: t.replace("song", "sun").replace("email", "mail") for u, t in texts.items()}
    estimate(texts, heard).save(tmp_path / "confusion.json")
    return tmp_path / "confusion.json"


@pytest.fixture
def prepare(run_local):
    """Return ``prepare(*argv, code=0, **variables) -> what it printed``."""

    def call(*argv, code=0, **variables):
        return run_local(script, "data", *argv, code=code, **UNSET | variables)

    return call


def test_released_set_of_each_system(tmp_path, prepare, released):
    out = prepare(SLURP=released)
    assert "not comparable with accuracy on full SLURP" in out
    assert "train: 1 of 4 samples have no text of google, left out" in out
    manual, asr, label = tables(tmp_path, "test")
    assert list(manual) == ["test0", "test1", "test3"]
    assert asr["test3"] == "google have email" and label["test3"] == "email query"
    assert list(tables(tmp_path, "valid")[0]) == ["devel1", "devel3"]
    assert read_table(tmp_path / "data/test/wer_group") == {
        "test0": "2",
        "test1": "2",
        "test3": "0",
    }
    prepare("--system", "wav2vec2", SLURP=released / "datasets")
    assert list(tables(tmp_path, "test")[1].values()) == ["wav2vec2 l the boss"]


def test_unfiltered_release_uses_its_plain_splits(tmp_path, prepare, released):
    file = released / "datasets/slurp/slurp_with_oracle_test.json"
    content = json.loads(file.read_text())
    plain = {split: content[split] for split in TEXTS}
    (file.parent / "slurp.json").write_text(json.dumps(plain))
    out = prepare("--released", "slurp.json", SLURP=released)
    assert "not comparable" not in out and len(tables(tmp_path, "test")[0]) == 4
    assert not (tmp_path / "data/test/wer_group").exists()


@pytest.fixture
def recogniser(monkeypatch):
    """A stand-in for ESPnet's inference that counts its calls."""
    calls = []

    def stand_in(folder, config, model, out, beam, nj):
        paths, texts = read_table(folder / "wav.scp"), read_table(folder / "text")
        assert paths.keys() == texts.keys() and all(Path(p).is_file() for p in paths.values())
        heard = {u: t.replace("song", "sun") for u, t in texts.items()}
        write_table(out, heard)
        calls.append((folder.name, len(heard), beam))
        return SimpleNamespace(texts=heard, audio_s=36.0, wer=12.5)

    monkeypatch.setattr(transcribe, "transcribe", stand_in)
    return calls


def test_recordings_are_decoded_once_and_the_file_serves_again(
    tmp_path, prepare, official, recogniser
):
    audio = tmp_path / "audio/slurp_real"
    audio.mkdir(parents=True)
    for split in TEXTS:
        for i in range(4):
            (audio / f"{split}{i}.flac").touch()
            (audio / f"{split}{i}-headset.flac").touch()
    for name in ("config.yaml", "model.pth"):
        (tmp_path / name).write_text(name)
    argv = ("--asr", "espnet", "--asr-config", "config.yaml", "--asr-model", "model.pth")
    where = {"SLURP": official, "SLURP_AUDIO": tmp_path}
    out = prepare(*argv, **where)
    assert recogniser == [("train", 8, None), ("devel", 8, None), ("test", 8, None)]
    assert "train: 8 recordings, 0.01 h, WER 12.5 %" in out
    first = tables(tmp_path, "test")
    assert first[1]["test0-headset"] == "which sun is that" and len(first[0]) == 8
    shutil.rmtree(tmp_path / "data")
    assert "8 recordings are decoded already" in prepare(*argv, **where)
    assert tables(tmp_path, "test") == first and len(recogniser) == 3
    made = next((tmp_path / "exp/asr_text").glob("*/slurp_espnet.json"))
    row = json.loads(made.read_text())["test"][0]
    assert row["espnet"] == {"sentence": "which sun is that", "wer": 0.25}
    again = ("--released", "slurp_espnet.json", "--system", "espnet")
    prepare(*again, SLURP=made.parent)
    assert tables(tmp_path, "test") == first
    prepare(*argv, "--recordings", "headset", "--beam", "3", **where)
    assert recogniser[-1] == ("test", 4, {"beam_size": 3})
    (audio / "devel3.flac").unlink()
    assert "devel3.flac" in prepare(*argv, "--beam", "9", code=3, **where)


def test_simulated_text_and_extra_sentences(tmp_path, prepare, official, hwu64, confusion):
    argv = ("--asr", "simulate", "--confusion", confusion, "--wer", "20")
    out = prepare(*argv, "--train-extra", hwu64, SLURP=official)
    assert "HWU64: 2 sentences added to train, 1 dropped" in out
    manual, asr, label = tables(tmp_path, "train")
    added = [u for u in manual if u.startswith("hwu64-")]
    assert added == ["hwu64-kfold1_train-email_query-0002", "hwu64-kfold1_train-music_query-0003"]
    assert manual[added[1]] == "name the song; please" and label[added[1]] == "music query"
    assert list(manual.values())[2:] == TEXTS["train"] and asr.keys() == manual.keys()
    assert "which song is that" in tables(tmp_path, "test")[0].values()


def test_development_part_alone_gives_two_sets(tmp_path, prepare, official, hwu64, confusion):
    for split in ("train", "test"):
        (official / f"dataset/slurp/{split}.jsonl").unlink()
    argv = ("--asr", "simulate", "--confusion", confusion)
    assert "train.jsonl is missing" in prepare(*argv, code=3, SLURP=official)
    prepare(*argv, "--devel-only", "--train-extra", hwu64, SLURP=official)
    sets = {name: set(tables(tmp_path, name)[0].values()) for name in ("train", "valid", "test")}
    assert sets["valid"] | sets["test"] == set(TEXTS["devel"]) and len(sets["valid"]) == 2
    assert sets["train"] == {"which song is that", "name the song; please", "any new email"}


def test_download_is_told_with_its_checksum(tmp_path, prepare, official, confusion, monkeypatch):
    source = official / "dataset/slurp"
    monkeypatch.setattr(script.slurp_text, "TEXT_URL", source.as_uri())
    argv = ("--asr", "simulate", "--confusion", confusion, "--download")
    digest = hashlib.sha256((source / "train.jsonl").read_bytes()).hexdigest()
    out = prepare(*argv, "--sha256", f"train={digest}")
    assert f"{digest} (as asked for)" in out and out.count("not checked") == 2
    out = prepare(*argv, "--sha256", "test=" + "0" * 64, code=3)
    assert "the SHA-256 is" in out and "Traceback" not in out


def break_json(folder):
    (folder / "devel.jsonl").write_text('{"slurp_id": 1,\n')
    return "not JSON", "devel.jsonl:1"


def lose_a_field(folder):
    (folder / "test.jsonl").write_text('{"slurp_id": 1, "sentence": "a", "recordings": []}\n')
    return "not a line of SLURP: KeyError('scenario')", "test.jsonl:1"


def repeat_an_id(folder):
    text = (folder / "train.jsonl").read_text()
    (folder / "train.jsonl").write_text(text + text.splitlines()[0] + "\n")
    return "slurp_id 100 stands twice", "train.jsonl:5"


@pytest.mark.parametrize("spoil", [break_json, lose_a_field, repeat_an_id])
def test_bad_official_text_is_named(tmp_path, prepare, official, confusion, spoil):
    what, where = spoil(official / "dataset/slurp")
    out = prepare("--asr", "simulate", "--confusion", confusion, code=3, SLURP=official)
    assert what in out and where in out and not (tmp_path / "data").exists()


def test_bad_released_files_are_named(tmp_path, prepare, released):
    file = released / "datasets/slurp/slurp_with_oracle_test.json"
    assert "did you mean 'google'" in prepare("--system", "googl", code=2, SLURP=released)
    content = json.loads(file.read_text())
    del content["oracle_eval"][1]["action"]
    file.write_text(json.dumps(content))
    assert "valid [1]" in prepare(code=3, SLURP=released)
    (file.parent / "golden/meta.json").unlink()
    assert "golden/meta.json" in prepare(code=3, SLURP=released)
    file.write_text('{"train": []}')
    assert "not a set of SpokenCSE" in prepare(code=3, SLURP=released)
    file.unlink()
    assert "SpokenCSE" in prepare(code=3, SLURP=released)


@pytest.mark.parametrize(
    "argv, code, message",
    [
        ((), 3, "SLURP is not set"),
        (("--asr", "simulate"), 2, "--confusion is needed"),
        (("--asr", "espnet"), 2, "--asr-config is needed"),
        (("--download",), 2, "without ASR text"),
        (("--wer", "100"), 2, "cannot be 100"),
        (("--asr", "simulate", "--confusion", "x", "--devel-only"), 2, "--train-extra is needed"),
        (("--asr", "simulate", "--confusion", "none.json"), 3, "none.json"),
        (("--sha256", "dev=00"), 2, "SPLIT=HEX"),
    ],
)
def test_what_does_not_go_together_is_told(prepare, argv, code, message):
    out = prepare(*argv, code=code)
    assert message in out and "Traceback" not in out


def test_audio_that_is_not_there_is_told(tmp_path, prepare, official):
    (tmp_path / "asr.zip").write_text("x")
    out = prepare("--asr", "espnet", "--asr-config", "asr.zip", code=3, SLURP=official)
    assert "SLURP_AUDIO is not set" in out and "CC BY-NC 4.0" in out


@pytest.mark.skipif(not REAL.is_dir(), reason="set SLURP=/path to test on the real text")
def test_the_real_development_part():
    rows = script.slurp_text.read_jsonl(REAL / "devel.jsonl")
    assert len(rows) == 2033 and sum(len(r.files) for r in rows) == 8690
    assert len({r.scenario for r in rows}) == 18 and len({r.action for r in rows}) == 45
