# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext new``: a recipe of each method for a corpus that the repository does not have."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_tree import ROOT

from espnet_ext import installation
from espnet_ext.cli import main as cli
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.tables import read_table, write_set, write_table
from espnet_ext.recipe import config
from espnet_ext.recipe.edits import open_edits
from espnet_ext.recipe.new_files import at_rate
from espnet_ext.recipe.stages import PHASES

METHODS = sorted(p.parent.name for p in ROOT.glob("egs2/TEMPLATE/*/recipe.yaml"))
SOURCES = {  # whose values a template has
    "weak_align1": "an4", "bl_just1": "manifest", "ml_lmcl1": "atis", "dual_task1": "manifest",
    "multistage1": "manifest",
}  # fmt: skip
SAME = ("pretrain", "midtrain", "finetune", "decode", "score", "pack")
WORDS = ("one", "two", "three", "four")


@pytest.mark.parametrize("method", SOURCES)
def test_a_template_has_the_values_of_the_recipe_that_it_stands_for(method):
    folders = [ROOT / "egs2" / corpus / method for corpus in ("TEMPLATE", SOURCES[method])]
    ours, theirs = (config.load(folder / "recipe.yaml") for folder in folders)
    sections = [*SAME, *(["tokens", "format", "data"] if SOURCES[method] == "manifest" else [])]
    for recipe, folder in zip((ours, theirs), folders, strict=True):
        for phase in recipe.phases.values():
            phase.config = (folder / phase.config).resolve()
        if method == "weak_align1":  # one configuration with asr1's; the loss stands in args
            aux = {"preset": "weak_tri", "normalise": "match_attention"}
            text = recipe.finetune.config.read_text() + json.dumps(recipe.finetune.args)
            assert all(x in text for x in aux.values()) and "layer" in text
            recipe.finetune.config, recipe.finetune.args = "", {}
            lm = recipe.presets["lm"]
            lm["finetune.config"] = (folder / lm["finetune.config"]).resolve()
            lm.pop("finetune.args", None)  # of the loss
    for name in sections:
        assert getattr(ours, name) == getattr(theirs, name), name
    assert theirs.presets.pop("en_asr", {}).keys() <= {"prepare.args"}  # of that recipe's reader
    assert all(ours.presets[name] == preset for name, preset in theirs.presets.items())


def speak(folder, name, count=2):
    """Return rows of noise, ``{utterance: (file, text, speaker)}``."""
    rng, rows = np.random.default_rng(0), {}
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        path = folder / f"{name}{i}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 8000)
        rows[f"{name}{i}"] = (str(path), " ".join(rng.choice(WORDS, 3)), f"spk{i}")
    return rows


def lists_of(method, folder):
    """Write a tiny corpus as the method's template reads it; return its variables."""
    folder.mkdir()
    if method == "bl_just1":
        for name in ("labelled", "unlabelled"):
            write_set(folder / name, speak(folder, name, 8))
        (folder / "unlabelled/text").unlink()
        return {"LABELLED": folder / "labelled", "UNLABELLED": folder / "unlabelled"}
    if method == "multistage1":
        (folder / "manifest.jsonl").write_text("{}\n")
    for name in ("train", "dev", "valid", "test"):
        rows = speak(folder / "audio", name)
        lines = [f"{utt}\t{audio}\t{text}\t{spk}" for utt, (audio, text, spk) in rows.items()]
        if method == "ml_lmcl1":
            lines = [f"{utt}\t{text}\t{text}\tcount" for utt, (_, text, _) in rows.items()]
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return {"MYCORPUS": folder}


@pytest.mark.e2e
@pytest.mark.parametrize("method", METHODS)
def test_the_doctor_tells_what_is_open_and_then_that_it_is_ready(method, new_recipe, tmp_path):
    options = [] if method == "ml_lmcl1" else ["--fs", 8000]
    recipe = new_recipe(f"mycorpus/{method}", *options, fill=False)
    first = ("--doctor", "--stage=prepare", "--stop-stage=prepare")
    env = {name: str(path) for name, path in lists_of(method, tmp_path / "lists").items()}
    out = recipe.run(*first, code=3, env=env)
    text = (recipe.path / "recipe.yaml").read_text()
    for key in ("language", "licence", "source"):
        line = 1 + text[: text.index(f"  {key}: EDIT")].count("\n")
        assert f"recipe.yaml:{line}: {key}: " in out
    readme = (recipe.path / "README.md").read_text()
    assert "<!-- lists" not in readme and "prepare.args` of recipe.yaml names" not in readme
    assert "3 values are still EDIT" in out and "Traceback" not in out
    if method == "asr1":  # nor does it start
        assert "still EDIT" in recipe.run(code=3, env=env)
        assert not (recipe.path / "data").exists()
    (recipe.path / "recipe.yaml").write_text(text.replace(": EDIT ", ": told "))
    out = recipe.run("--doctor", env={**env, "SENTENCE_ENCODER": "", "TEXT_ENCODER": ""})
    assert out.endswith("ready\n") and "mycorpus" in text and "TEMPLATE" not in text


@pytest.mark.e2e
def test_a_corpus_from_its_folders_to_a_score(new_recipe, tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader")
    make_corpus(tmp_path / "given/data", seed=1, train_minutes=0.3, train_speakers=2, dev_utts=2,
                test_utts=2)  # fmt: skip
    recipe = new_recipe("mycorpus/weak_align1", "--lang", "en", "--from", tmp_path / "given/data")
    assert not open_edits(recipe.path) and not (recipe.path / "local/data.py").exists()
    small = {"num_blocks": 2, "output_size": 16, "linear_units": 16, "attention_heads": 2}
    tiny = [
        "--align.passes=[mono]",
        '--align.mono={"iterations": 3, "realign": [1, 2], "gaussians": 120}',
        f"--finetune.args.encoder_conf={json.dumps(small)}",
        '--finetune.args.decoder_conf={"num_blocks": 1, "linear_units": 16}',
        "--finetune.args.max_epoch=1",
        "--nj=1",
        "--ngpu=0",
    ]
    out = recipe.run(*tiny, "--stop-stage=score")
    assert "train align: " in out and "solved by espeak" in out
    assert (recipe.path / "results/weak_tri.json").exists()
    given, made = (read_table(p / "data/test/wav.scp") for p in (tmp_path / "given", recipe.path))
    assert given.keys() == made.keys() and all(Path(x).is_file() for x in made.values())


SETS = {  # folders of each method, and the files that they have besides the audio's
    "bl_just1": (["labelled", "unlabelled"], []),
    "ml_lmcl1": (["train", "dev", "test", "test_noisy"], ["text_manual", "text_asr", "label"]),
    "multistage1": (["av_train", "av_dev", "st_train", "st_dev", "st_test", "train", "dev",
                     "test"], []),
}  # fmt: skip


@pytest.mark.parametrize("method", SETS)
def test_folders_of_other_methods_become_its_sets(method, new_recipe, tmp_path, monkeypatch):
    names, tables = SETS[method]
    for name in names:
        folder, rows = tmp_path / "given" / name, speak(tmp_path / "given/audio", name, 8)
        if not tables:
            write_set(folder, rows)
        for file in tables:
            write_table(folder / file, {utt: "word" for utt in rows})
        if name == "unlabelled":
            (folder / "text").unlink()
        if name.startswith("av_"):
            clips = {utt: str(tmp_path / "given" / f"{utt}.npy") for utt in rows}
            for path in clips.values():
                np.save(path, np.zeros((8, 16, 16, 3), np.uint8))
            write_table(folder / "video.scp", clips)
    given = [f"{name}={tmp_path / 'given' / name}" for name in names]
    recipe = new_recipe(f"mycorpus/{method}", "--from", *given)
    assert not open_edits(recipe.path)
    readme = (recipe.path / "README.md").read_text()  # of the folders, not of lists
    assert "`prepare.args` of recipe.yaml names them" in readme and "<!-- from" not in readme
    assert ".tsv" not in readme and ".jsonl" not in readme and "local/data.py" not in readme
    assert "local/data.py" not in (recipe.path / "recipe.yaml").read_text()
    monkeypatch.chdir(recipe.path)
    assert cli(["recipe", "--stop-stage", "prepare"]) == 0
    data = config.load(Path("recipe.yaml")).data
    made = {data.train, data.valid, *data.test, *data.also}
    assert made == {p.name for p in Path("data").iterdir() if p.is_dir()} and len(made) >= len(
        names
    )
    assert data.test == (["test", "test_noisy"] if method == "ml_lmcl1" else ["test"])


def test_outside_of_a_clone_the_recipe_has_all_that_it_runs(tmp_path, monkeypatch, capsys):
    shipped, place = tmp_path / "package/shipped", tmp_path / "elsewhere"
    for name in ("egs2/TEMPLATE", "egs2/manifest/bl_just1/conf", "egs2/an4/bl_just1/conf", "local"):
        shutil.copytree(ROOT / name, shipped / name)
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setattr(installation, "_PACKAGE", shipped.parent)
    assert cli(["new", "egs2/mycorpus/bl_just1"]) == 0
    assert "  cd egs2/mycorpus/bl_just1\n" in capsys.readouterr().out
    recipe = place / "egs2/mycorpus/bl_just1"
    made = {p.name for p in (recipe / "local").iterdir()}
    assert made == {"data.sh", "manifest.py", "json_lines.py"}
    assert (recipe / "conf/train_cpu.yaml").exists()  # of --preset cpu
    assert (recipe / "STEPS.md").exists() and "`STEPS.md`" in (recipe / "README.md").read_text()
    for name in ("run.sh", "local/data.sh", "recipe.yaml"):
        assert "../../" not in (recipe / name).read_text()
    monkeypatch.chdir(recipe)
    for name, path in lists_of("bl_just1", tmp_path / "lists").items():
        monkeypatch.setenv(name, str(path))
    text = (recipe / "recipe.yaml").read_text()
    (recipe / "recipe.yaml").write_text(text.replace(": EDIT ", ": told "))
    assert cli(["recipe", "--stop-stage", "prepare"]) == 0
    assert (recipe / "data/unlabelled/wav.scp").exists()


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["egs2/mine/weak_algn1"], 2, "did you mean 'weak_align1'?"),
        (["egs2/mine/asr"], 2, "did you mean 'asr1'?"),
        (["egs2/Mine/asr1"], 2, "'Mine' cannot name a corpus"),
        (["egs2/path/asr1"], 2, "'path' has a meaning of its own"),
        (["mine"], 2, "names no recipe"),
        (["egs2/an4/asr1"], 2, "the folder exists"),
        ([], 2, "the following arguments are required: recipe"),
        (["egs2/mine/asr1", "--fs", "16"], 2, "cannot be 16 Hz"),
        (["egs2/mine/ml_lmcl1", "--fs", "8000"], 2, "reads no audio"),
        (["egs2/mine/asr1", "--from", "none"], 2, "no set is called 'none'"),
        (["egs2/mine/asr1", "--from", "train=none"], 3, "does not exist"),
        (["egs2/mine/asr1", "--from", "."], 3, "neither wav.scp nor text_manual"),
        (["egs2/mine/asr1", "--from", "train=A", "test_b=A"], 2, "needs the set dev"),
        (["egs2/mine/asr1", "--from", "train=A", "train=A"], 2, "stands twice"),
        (["egs2/mine/bl_just1", "--from", "train=A"], 2, "needs the set unlabelled"),
        (
            ["egs2/mine/ml_lmcl1", "--from", "train=A", "dev=A", "test=A"],
            3,
            "the set 'train' has no text_manual, text_asr, label",
        ),
    ],
)
def test_what_is_refused(argv, code, says, tmp_path, monkeypatch, capsys):
    write_set(tmp_path / "A", speak(tmp_path / "audio", "a"))
    (tmp_path / "egs2/an4/asr1").mkdir(parents=True)
    (tmp_path / "utils").mkdir()
    (tmp_path / "utils/recipe.sh").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cli(["new", *argv]) == code
    assert says in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_outside_of_the_clone_that_the_package_is_in(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli(["new", "egs2/mine/asr1"]) == 2
    assert f"cd {ROOT}" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_the_front_end_keeps_its_times_at_another_rate():
    conf = "frontend_conf: {fs: 16k, n_fft: 512, win_length: 400, hop_length: 160, n_mels: 80}"
    assert at_rate(conf, 16000) == conf
    scaled = "{fs: 44100, n_fft: 2048, win_length: 1102, hop_length: 441, n_mels: 80}"
    assert at_rate(conf, 44100).endswith(scaled)
    found = [p for p in ROOT.glob("egs2/TEMPLATE/*/recipe.yaml") for r in [config.load(p)]
             for name in PHASES if (phase := getattr(r, name))
             for text in [(p.parent / phase.config).read_text()]
             if "frontend_conf" in text and at_rate(text, 8000) == text]  # fmt: skip
    assert not found
