# SPDX-License-Identifier: Apache-2.0
"""The archive of an intent model: complete, portable, and refused where it is not trustworthy."""

import io
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from intent_model import TEXTS, pack, write_recipe

from espnet_ext.errors import DataError
from espnet_ext.espnet import archive
from espnet_ext.espnet.model_kind import method_of
from espnet_ext.ml_lmcl import model_files
from espnet_ext.ml_lmcl.classifier import IntentClassifier
from espnet_ext.packed import unpacked


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("pack"))


@pytest.fixture(scope="module")
def packed(exp, tmp_path_factory):
    return pack(exp, tmp_path_factory.mktemp("packed") / "model.zip", about={"recipe": "a/b"})


def rewrite(source: Path, out: Path, change: dict[str, bytes | None]) -> Path:
    """Copy an archive with members replaced, added, or (None) left out."""
    with zipfile.ZipFile(source) as z:
        content = {name: z.read(name) for name in z.namelist()} | change
    with zipfile.ZipFile(out, "w") as z:
        for name, data in content.items():
            if data is not None:
                z.writestr(name, data)
    return out


def test_what_the_archive_holds(exp, packed, tmp_path):
    with zipfile.ZipFile(packed) as z:
        names = set(z.namelist())
        config, meta = (yaml.safe_load(z.read(x)) for x in ("config.yaml", "meta.yaml"))
        state = torch.load(io.BytesIO(z.read("model.pth")), weights_only=True)
        content = b"".join(z.read(n) for n in names if n != "model.pth")
    assert {"text_encoder/config.json", "text_encoder/tokenizer.json", "labels/action.txt"} < names
    assert not [n for n in names if n.endswith(".safetensors")]
    assert config["text_encoder"] == "text_encoder" and config["labels"] == "labels"
    assert str(exp.parents[1]).encode() not in content  # no path of the machine that trained
    assert meta["recipe"] == "a/b" and meta["heads"] == {"action": 4, "scenario": 3}
    assert meta["versions"]["torch"] == torch.__version__.partition("+")[0]
    trained = torch.load(exp / "finetune/valid.acc.best.pth", weights_only=True)
    assert state.keys() == trained.keys()
    assert all(torch.equal(state[k], trained[k]) for k in state)
    again = pack(exp, tmp_path / "again.zip", about={"recipe": "a/b"})
    assert again.read_bytes() == packed.read_bytes()


def test_the_archive_answers_as_the_experiment_does(exp, packed):
    here, there = (IntentClassifier.from_pretrained(p) for p in (exp, packed))
    texts = [*TEXTS, "", "Play, SOME jazz!"]
    assert here(texts) == there(texts)
    assert there.normalize_mode == "words"


def test_a_folder_and_a_name_on_the_hub_answer_as_the_archive_does(packed, tmp_path, monkeypatch):
    with zipfile.ZipFile(packed) as z:
        z.extractall(tmp_path / "cache")
    asked = []
    fetch = lambda name, revision: asked.append((name, revision)) or str(tmp_path / "cache")  # noqa: E731
    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    before = {p: p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    for model in (tmp_path / "cache", "me/intents@v2"):
        assert method_of(model, ["dual_task", "ml_lmcl"]) == "ml_lmcl"
        there = IntentClassifier.from_pretrained(model)
        assert there(TEXTS) == IntentClassifier.from_pretrained(packed)(TEXTS)
    assert set(asked) == {("me/intents", "v2")}
    after = {p: p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file()}
    assert after == before  # a cache that others share


def test_the_archive_loads_in_a_clean_process_elsewhere(exp, packed, tmp_path):
    moved = tmp_path / "elsewhere.zip"
    moved.write_bytes(packed.read_bytes())
    code = (
        "import sys; from espnet_ext.ml_lmcl.classifier import IntentClassifier\n"
        "classify = IntentClassifier.from_pretrained('elsewhere.zip')\n"
        "print(classify(sys.argv[1]))\n"
        "print('espnet2' in sys.modules, __import__('os').listdir('tmp'))\n"
    )
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": "tmp"}
    env |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code, TEXTS[0]], cwd=tmp_path, env=env,
                          capture_output=True, text=True)  # fmt: skip
    said = str(IntentClassifier.from_pretrained(exp)(TEXTS[0]))
    # Nothing of ESPnet is needed, and nothing is left behind.
    assert done.stdout.splitlines() == [said, "False []"], done.stderr


def test_an_experiment_is_found_from_anywhere(exp, monkeypatch, tmp_path):
    want = IntentClassifier.from_pretrained(exp)(TEXTS[0])
    monkeypatch.chdir(tmp_path)
    assert IntentClassifier.from_pretrained(exp / "finetune")(TEXTS[0]) == want
    monkeypatch.chdir(exp.parents[1])
    assert IntentClassifier.from_pretrained("exp/x")(TEXTS[0]) == want


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"../x": b""}, "not safe"),
        ({"/abs": b""}, "not safe"),
        ({"meta.yaml": None}, "no intent model"),
        ({"meta.yaml": b"files: {asr_model_file: x}\n"}, "but asr_model_file"),
        ({"meta.yaml": b"[1"}, "cannot be read"),
        ({"config.yaml": None}, "lacks config.yaml"),
        ({"config.yaml": b"a: 1\n"}, "not that of an intent model"),
        ({"config.yaml": b"text_encoder: /x\nlabels: labels\nml_lmcl: {}\n"}, "leads out of"),
        ({"config.yaml": b"text_encoder: ../..\nlabels: labels\nml_lmcl: {}\n"}, "leads out of"),
        ({"model.pth": b"junk"}, "cannot be loaded"),
        ({"model.pth": pickle.dumps(print, protocol=2)}, "cannot be loaded"),
        ({"text_encoder/tokenizer.json": b"{"}, "tokenizer"),
        ({"labels/action.txt": b"a\nb\n"}, "does not fit"),
    ],
)
def test_a_wrong_archive_is_refused(packed, tmp_path, change, says):
    with pytest.raises(DataError, match=says):
        IntentClassifier.from_pretrained(rewrite(packed, tmp_path / "x.zip", change))


def test_a_link_in_the_archive_is_refused(packed, tmp_path):
    out = rewrite(packed, tmp_path / "x.zip", {})
    with zipfile.ZipFile(out, "a") as z:
        link = zipfile.ZipInfo("labels/link.txt")
        link.external_attr = 0o120777 << 16
        z.writestr(link, "../../secret")
    with pytest.raises(DataError, match="not safe"):
        IntentClassifier.from_pretrained(out)


def test_a_damaged_archive_is_refused(packed, tmp_path):
    whole, bad = packed.read_bytes(), tmp_path / "bad.zip"
    middle = len(whole) // 2
    for data in (b"", b"text", whole[:-100], whole[:middle]):
        bad.write_bytes(data)
        with pytest.raises(DataError, match=r"damaged|neither"):
            IntentClassifier.from_pretrained(bad)
    flipped = bytearray(whole)
    flipped[middle] ^= 0xFF
    bad.write_bytes(flipped)
    with pytest.raises(DataError):
        IntentClassifier.from_pretrained(bad)


def test_limits(packed):
    for limits, says in (((100, 100), "GB"), ((1 << 40, 3), "files")):
        with pytest.raises(DataError, match=says), unpacked(packed, *limits):
            pass
    with unpacked(packed) as root:
        assert (root / "model.pth").is_file()
    assert not root.exists()


def test_what_cannot_be_packed(exp, tmp_path):
    root, files = exp.parents[1], (exp / "finetune/config.yaml", tmp_path / "m.pth")
    folders = root / "dump/text_encoder", root / "dump/labels"
    torch.save({"model": {"a": torch.zeros(1)}, "epoch": 3}, files[1])
    with pytest.raises(DataError, match="more than the model's parameters"):
        model_files.pack_classifier(*files, *folders, tmp_path / "x.zip")
    with pytest.raises(DataError, match="missing"):
        model_files.pack_classifier(*files, tmp_path, folders[1], tmp_path / "x.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*"))


def asr_archive(path: Path, prefix: str) -> Path:
    """Write what ESPnet's packer writes, its files named below ``prefix``."""
    config = {"bpemodel": f"{prefix}data/bpe.model", "token_list": ["a"], "seed": 1}
    meta = {
        "files": {"asr_model_file": f"{prefix}exp/m.pth", "lm_file": f"{prefix}exp/lm.pth"},
        "yaml_files": {"asr_train_config": f"{prefix}exp/config.yaml"},
    }
    members = {"meta.yaml": yaml.safe_dump(meta), "exp/config.yaml": yaml.safe_dump(config)}
    members |= {"exp/m.pth": "m", "exp/lm.pth": "lm", "data/bpe.model": "bpe"}
    drop = prefix.lstrip("/")
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as z:
            for name, data in members.items():
                z.writestr(name if name == "meta.yaml" else drop + name, data)
        return path
    with tarfile.open(path, "w:gz") as t:
        for name, data in members.items():
            info = tarfile.TarInfo(name if name == "meta.yaml" else drop + name)
            info.size = len(data)
            t.addfile(info, io.BytesIO(data.encode()))
    return path


@pytest.mark.parametrize(("name", "prefix"), [("a.zip", ""), ("a.zip", "/x/"), ("a.tgz", "")])
def test_an_asr_archive_of_espnet(tmp_path, name, prefix):
    with archive.asr_files(asr_archive(tmp_path / name, prefix)) as (config, model, more):
        values = yaml.safe_load(config.read_text())
        assert Path(values["bpemodel"]).read_text() == "bpe" and values["seed"] == 1
        assert model.read_text() == "m" and Path(more["lm_file"]).read_text() == "lm"
    assert not model.exists()


def test_the_folder_of_an_asr_model_is_read_and_not_written(tmp_path):
    with zipfile.ZipFile(asr_archive(tmp_path / "a.zip", "")) as z:
        z.extractall(tmp_path / "hub")
    before = (tmp_path / "hub/exp/config.yaml").read_text()
    with archive.asr_files(tmp_path / "hub") as (config, model, more):
        values = yaml.safe_load(config.read_text())
        assert Path(values["bpemodel"]).read_text() == "bpe" and model.read_text() == "m"
        assert Path(more["lm_file"]).read_text() == "lm"
    assert (tmp_path / "hub/exp/config.yaml").read_text() == before


def test_an_intent_model_is_no_asr_model(packed):
    with pytest.raises(DataError, match="no ESPnet ASR model, but ml_lmcl intent classifier"):
        archive.asr_files(packed).__enter__()
