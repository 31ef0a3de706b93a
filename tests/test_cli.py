# SPDX-License-Identifier: Apache-2.0
"""espnet-ext: commands, misuse, and objects named as module:name."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_ext import cli
from espnet_ext.errors import UsageError, nearest
from espnet_ext.plugin import load_object
from espnet_ext.progress import duration

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        ([], 2, "usage: espnet-ext"),
        (["--help"], 0, "usage: espnet-ext"),
        (["docter"], 2, "did you mean 'doctor'?"),
        (["doctor", "--dta", "x"], 2, "doctor does not know '--dta'"),
        (["doctor", "--data"], 2, "doctor does not know '--data'"),
        (["doctor", "folder"], 2, "a data folder is given as --data folder"),
        (["doctor", "--data=none"], 3, "does not exist"),
        (["results"], 2, "no run records"),
        (["align", "."], 2, "OUT, the folder to write, is missing"),
        (["recipe"], 2, "there is no recipe.yaml here"),
        (["recipe", "--help"], 0, "--stop-stage N"),
        (["train", "--nj"], 2, "--nj needs a value"),
        (["recipe", "--list", "extra"], 2, "'extra' is not an option"),
        (["version"], 0, "espnet_ext "),
        (
            ["align", "nowhere", "out"],
            2,
            "'nowhere' is no command of align, and",
        ),
        (["evidence", "conf/e.yaml"], 2, "there is neither conf/e.yaml nor a recipe here"),
        (["sweep", "s.yaml"], 2, "enter egs2/<corpus>/<method>1"),
        (["version", "x"], 2, "version does not know 'x'"),
        (["results", "--al"], 2, "results does not know '--al'"),
        (["schema"], 0, '"additionalProperties": false'),
        (["completion", "bash"], 0, "complete -o filenames -F _espnet_ext_run run.sh"),
        (["completion", "zsh"], 0, "bashcompinit"),
        (["completion", "fish"], 2, "there is no completion for 'fish'"),
        (["completion"], 2, "needs the name of a shell"),
        (["recipe", "-h"], 0, "--stop-stage N"),
        (["recipe", "--formt.speeds", "1"], 2, "did you mean 'format.speeds'?"),
        (["recipe", "--help", "format.fs"], 0, "default: 16000"),
        (["recipe", "--help=format.fs"], 0, "int, at least 100"),
        (["recipe", "--help", "formt.fs"], 2, "did you mean 'format.fs'?"),
    ],
)
def test_commands(argv, code, says, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == code
    out, err = capfd.readouterr()
    assert says in out + err
    assert "Traceback" not in err
    assert bool(err) == (code != 0 and "usage:" not in says and "exist" not in says)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, flag, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main([command, flag]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("usage: ") and not err


@pytest.mark.parametrize(
    ("command", "stages"),
    [("train", [5, 6, 7]), ("decode", [8]), ("score", [9]), ("recipe", list(range(1, 11)))],
)
def test_stage_commands(command, stages, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text("title: x\n")
    assert cli.main([command, "--list"]) == 0
    shown = [x.split()[0] for x in capfd.readouterr().out.splitlines()]
    assert [int(x) for x in shown if x.isdecimal()] == stages


def test_doctor_of_a_data_folder(tmp_path, capfd):
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16000)
    (tmp_path / "wav.scp").write_text(f"b {tmp_path}/a.wav\r\na {tmp_path}/a.wav\n")
    (tmp_path / "text").write_text("a x\nb y\n")
    (tmp_path / "utt2spk").write_text("a s\nb s\n")
    argv = ["doctor", "--data", str(tmp_path)]
    assert cli.main(argv) == 3
    assert "wav.scp:1" in capfd.readouterr().out
    assert cli.main([*argv, "--fix"]) == 0
    assert cli.main(argv) == 0
    assert (tmp_path / "spk2utt").read_text() == "s a b\n"


def test_load_object(tmp_path, monkeypatch):
    (tmp_path / "extplug.py").write_text("import ext\n")  # not installed, and a prefix of its name
    (tmp_path / "extgood.py").write_text("def f(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert load_object("extgood:f", "x")() == 1
    for name, says in (
        ("extgood", "not of the form"),
        (":f", "not of the form"),
        ("extgood:", "not of the form"),
        (".extgood:f", "not of the form"),
        ("extnone:f", "no module 'extnone'"),
        ("extnone.sub:f", "no module 'extnone.sub'"),
        ("extgood:g", "has no 'g'"),
    ):
        with pytest.raises(UsageError, match=says) as e:
            load_object(name, "decode.method")
        assert e.value.where == "decode.method"
    with pytest.raises(ModuleNotFoundError, match="'ext'"):
        load_object("extplug:f", "x")


def test_nearest_and_duration():
    assert nearest("stge", ["stage", "nj"]) == "did you mean 'stage'?"
    assert nearest("zzz", ["stage", "nj"]) == "valid: nj, stage"
    assert [duration(s) for s in (4.23, 200, 3720)] == ["4.2 s", "3 min 20 s", "1 h 02 min"]


def test_help_of_transcribe_is_its_own(capsys):
    assert cli.main(["transcribe", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: espnet-ext transcribe DATA OUT") and "--beam N" in out
    assert "--model" not in out and "espnet-ext decode" not in out


def test_help_of_run_sh_may_be_read_in_part(tmp_path):
    command = f"{sys.executable} -m espnet_ext.recipe --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_the_command_finds_what_a_recipe_has_in_local(tmp_path):
    """The installed command starts without the current folder in sys.path, unlike ``python -m``."""
    (tmp_path / "local").mkdir()
    (tmp_path / "recipe.yaml").touch()
    (tmp_path / "local/mine.py").write_text("def missed(reference, hypothesis):\n    return 0, 1\n")
    code = """
import sys
from espnet_ext.cli import main
from espnet_ext.plugin import load_object
main(["doctor", "--help"])
assert load_object("local.mine:missed", "score.metrics")("a", "b") == (0, 1)
"""
    start = [sys.executable, "-P", "-c", code]
    subprocess.run(start, cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT)})
