# SPDX-License-Identifier: Apache-2.0
"""An aligner that is fitted to speech unlike what it was trained on."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from espnet_ext.align.aligner import Aligner
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.model import find
from espnet_ext.align.models import DEFAULT, HERE
from espnet_ext.align.options import from_dict
from espnet_ext.align.stage import align_sets
from espnet_ext.cli import main
from espnet_ext.data.tables import read_table, write_set, write_table

SLOWER = 1.2


def align(*args):
    return main(["align", *map(str, args), "--nj", "1", "--no-textgrid"])


def missed(out, spoken):
    """Return the absolute errors of all word times, in ms of the speech before it was slowed."""
    lines = (spoken / "manifest.jsonl").read_text().splitlines()
    true = {r["id"]: r["words"] for r in map(json.loads, lines)}
    found = AlignmentDir(out / "alignment").words
    return np.abs([
        (1000 * (w.start_s / SLOWER - t[1]), 1000 * (w.end_s / SLOWER - t[2]))
        for utt, words in found.items()
        for w, t in zip(words, true[utt], strict=True)
    ])  # fmt: skip


@pytest.fixture
def low(spoken, tmp_path):
    """The test set, its voices lower and slower."""
    rows = {}
    texts, spk = (read_table(spoken / "test" / name) for name in ("text", "utt2spk"))
    for utt, path in read_table(spoken / "test" / "wav.scp").items():
        x, rate = soundfile.read(path)
        own = tmp_path / f"{utt}.wav"
        soundfile.write(own, resample_poly(x, round(100 * SLOWER), 100), rate)
        rows[utt] = (str(own), texts[utt], spk[utt])
    write_set(tmp_path / "low", rows)
    return tmp_path / "low"


def test_times_of_strange_voices_get_better(low, spoken, tmp_path, capsys):
    plain, out = tmp_path / "plain", tmp_path / "out"
    packaged = {p: p.read_bytes() for p in (HERE / DEFAULT).glob("*.*")}
    assert align(low, plain) == 0
    assert align(low, out, "--adapt") == align(low, out, "--adapt") == 0
    capsys.readouterr()
    before, after = missed(plain, spoken), missed(out, spoken)
    assert after.mean() < before.mean() - 0.5
    assert (after <= 50).mean() >= (before <= 50).mean()
    assert all(p.read_bytes() == content for p, content in packaged.items())
    assert main(["align", "model-info", str(out)]) == 0
    told = capsys.readouterr().out
    assert "from en_us" in told and "adapted to" in told and "card:" not in told
    assert "adapted" in AlignmentDir(out / "alignment").header.source
    # The model is there for further speech, and in Python.
    utt, path = next(iter(read_table(low / "wav.scp").items()))
    found = Aligner.from_folder(out).align(*soundfile.read(path), read_table(low / "text")[utt])
    assert len(found.words) == len(read_table(low / "text")[utt].split())


def test_misuse_and_folders(low, few, tmp_path, capsys):
    out, plain = tmp_path / "out", tmp_path / "plain"
    assert align(few(3), out, "--adapt") == 0 and align(few(3), plain) == 0
    for job, said in (
        (["apply", DEFAULT, low, out], "OUT holds an adapted aligner"),
        (["train", low, out], "OUT holds an adapted aligner"),
        (["apply", DEFAULT, low, plain, "--adapt"], "OUT holds an alignment by another aligner"),
        (["apply", out, low, out, "--adapt"], "the aligner to adapt"),
        (["train", low, tmp_path / "new", "--set", "adapt=true"], "align.adapt"),
    ):  # fmt: skip
        assert align(*job) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "trained").mkdir()
    shutil.copytree(HERE / DEFAULT, tmp_path / "trained/model")
    assert align(low, tmp_path / "trained", "--adapt") == 2
    assert "OUT holds a trained aligner" in capsys.readouterr().err
    write_set(tmp_path / "silent", {"a": (str(tmp_path / "a.wav"), "turn the lights on", "s")})
    soundfile.write(tmp_path / "a.wav", np.zeros(16000), 16000)
    assert align(tmp_path / "silent", tmp_path / "none", "--adapt") == 3
    assert not (tmp_path / "none/model").exists()


@pytest.mark.parametrize("name", ["mono", "tri", "lda_mllt", "sat", "hybrid"])
def test_models_of_all_passes_are_adapted(trained, few, tmp_path, name):
    out = tmp_path / "out"
    assert align("apply", trained.root / name, few(4), out, "--adapt") == 0
    adapted, before = find(out), find(trained.root / name)
    assert len(AlignmentDir(out / "alignment").utts) == 4
    changed = {
        p.name for p in adapted.folder.glob("*.npz")
        if p.read_bytes() != (before.folder / p.name).read_bytes()
    }  # fmt: skip
    wanted = {"gmm.npz"} | ({"times_gmm.npz"} if name != "mono" else set())
    assert wanted <= changed <= wanted | {"hybrid.npz"}
    assert (adapted.folder / "lexicon").is_dir()


def test_a_recipe_adapts_to_its_training_set(low, tmp_path):
    dump, lines = tmp_path / "dump", []
    for name in ("train", "dev"):
        shutil.copytree(low, dump / name)
        frames = {u: soundfile.info(p).frames for u, p in read_table(low / "wav.scp").items()}
        write_table(dump / name / "utt2num_samples", frames)
    o = from_dict({"model": DEFAULT, "adapt": True, "textgrid": False})
    align_sets(dump, "train", ["dev"], o, map, lines.append)
    assert find(dump / "align/model").adapted_from == DEFAULT
    for name in ("train", "dev"):
        alignment = AlignmentDir(dump / name / "align")
        assert "adapted" in alignment.header.source and len(alignment.utts) == 24
