# SPDX-License-Identifier: Apache-2.0
"""Stage 1 with small scripts: data comes whole or as it was; what it says is told."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_ext.recipe import runner

# Appends, as a careless script does; EXTRA spoils the result.
SCRIPT = """set -eu
mkdir -p "$1/train"; cd "$1/train"
for u in a b; do echo "$u {wav}" >>wav.scp; echo "$u hello" >>text; echo "$u s" >>utt2spk; done
echo "s a b" >>spk2utt
{extra}
"""


@pytest.fixture
def prepare(folder, capfd):
    """Return ``prepare(extra script lines, *argv) -> (exit code, stdout, stderr)``."""
    wav = folder.path / "a.wav"
    soundfile.write(wav, np.zeros(1600), 16000)
    folder.recipe(data={"train": "train", "valid": "train", "test": []})

    def call(extra: str = "", *argv: str):
        folder.write("local/data.sh", SCRIPT.format(wav=wav, extra=extra))
        code = runner.main(["--stage", "1", "--stop-stage", "1", *argv])
        return code, *capfd.readouterr()

    return call


def snapshot() -> dict[str, str]:
    return {str(p): p.read_text() for p in Path("data").rglob("*") if p.is_file()}


def test_made_once_and_a_rerun_does_not_append(prepare):
    assert prepare()[0] == 0
    first = snapshot()
    assert first["data/train/text"] == "a hello\nb hello\n"
    assert "up to date" in prepare()[1]
    assert prepare("", "--force")[0] == 0
    assert snapshot() == first
    _, out, _ = prepare("# another script")
    assert "changed: local/data.sh" in out
    assert snapshot() == first


def test_failure_brings_the_former_data_back(prepare):
    prepare()
    first = snapshot()
    code, out, err = prepare("echo reading; echo no such corpus >&2; exit 1")
    assert code == 1
    assert snapshot() == first
    assert (Path(".stages/data.failed/train/text")).is_file()
    assert "  no such corpus" in out
    assert "local/data.sh ended with exit code 1" in err
    assert "no such corpus" in err
    for part in ("where:", "fix:", "log:", "rerun: ./run.sh --stage 1 --stop-stage 1"):
        assert err.count(part) == 1
    assert "reading" in Path("exp/base/log/01_prepare.log").read_text()


def test_what_a_script_says_of_its_own_error_is_what_the_stage_says(prepare):
    """Of several corpora it knows which one is wrong; the stage knows the first one alone."""
    said = "error: MUSTC is not a folder\\n  where: /nowhere\\n  fix:   give its folder"
    code, _, err = prepare(f"printf '{said}\\n' >&2; exit 3")
    assert code == 3 and "local/data.sh: MUSTC is not a folder" in err
    assert "where: /nowhere" in err and "fix:   give its folder" in err
    assert "ended with exit code" not in err and err.count("fix:") == 1
    assert prepare(f"printf '{said}\\n' >&2; exit 2")[0] == 2


def test_a_script_knows_the_sets_of_the_recipe(prepare):
    assert "sets: train\n" in prepare('echo "sets: $ESPNET_EXT_SETS"')[1]


def test_a_killed_run_does_not_pass_half_data_on(prepare):
    prepare()
    first = snapshot()
    Path("data").rename(".stages/data.before")  # what a kill inside the script leaves
    Path("data/train").mkdir(parents=True)
    Path("data/train/text").write_text("half\n")
    assert prepare("exit 1")[0] == 1
    assert snapshot() == first


def test_exit_code_3_and_bytes_that_are_no_text(prepare):
    code, _, err = prepare(r"printf 'bad \377 byte\n'; exit 3")
    assert code == 3
    assert "bad \ufffd byte" in err
    assert not Path("data").exists()


def test_fixable_findings_are_fixed_and_told(prepare):
    code, out, _ = prepare(r"printf 'b hello\r\na hello\r\n' >text; rm spk2utt")
    assert code == 0
    assert snapshot()["data/train/text"] == "a hello\nb hello\n"
    assert snapshot()["data/train/spk2utt"] == "s a b\n"
    assert "data/train: " in out


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ('echo "c /nowhere.wav" >>wav.scp; echo "c x" >>text; echo "c s" >>utt2spk', "wav.scp:3"),
        (r"printf 'c \377\n' >>text", "text:3"),
        ('echo "a bye" >>text', "text:3"),
    ],
)
def test_bad_data_names_file_and_line(prepare, extra, where):
    code, _, err = prepare(extra)
    assert code == 3
    assert f"data/train/{where}" in err
    assert not Path("data").exists()


def test_missing_set(prepare):
    code, _, err = prepare("", "--data.test", "evaluation")
    assert code == 3
    assert "data/evaluation" in err


def test_what_the_script_is_given(prepare):
    code, _, _ = prepare('echo "$# $2 $PYTHON $LC_ALL" >../args', "--prepare.args", "$(touch X) b")
    assert code == 0
    count, rest = Path("data/args").read_text().split(" ", 1)
    assert count == "2"
    assert rest.startswith("$(touch X) b ")
    assert rest.endswith(" C.UTF-8\n")
    assert not list(Path().rglob("X"))


def test_what_the_script_depends_on(prepare, folder):
    folder.write("../../../local/corpus.py", "from helper import x\nimport os\n")
    folder.write("../../../local/helper.py", "x = 1\n")
    folder.write("../../../local/other.py", "")
    folder.write("local/evidence.sh", "")
    folder.write("lists/train.txt", "a\n")
    script = ": ../../../local/corpus.py"
    argv = ["--prepare.args", "[lists/train.txt, ., exp]"]  # runs write into the other two
    assert prepare(script, *argv)[0] == 0
    assert "up to date" in prepare(script, *argv)[1]
    for path, text in (
        ("../../../local/corpus.py", "from helper import x\n"),
        ("../../../local/helper.py", "x = 2\n"),
        ("local/list.txt", "new\n"),
        ("lists/train.txt", "b\n"),
    ):
        folder.write(path, text)
        assert f"changed: {path})" in prepare(script, *argv)[1]
    for path in ("../../../local/other.py", "local/evidence.sh"):
        folder.write(path, "# changed")
        assert "up to date" in prepare(script, *argv)[1]


@pytest.mark.parametrize("arg", ["table:hyp.tsv", "--model=hyp.tsv", "hyp.tsv"])
def test_a_file_of_the_caller_is_an_input_too(prepare, monkeypatch, tmp_path_factory, arg):
    """A relative path may be meant from where run.sh was called."""
    there = tmp_path_factory.mktemp("there")
    monkeypatch.setenv("ESPNET_EXT_CALLED_FROM", str(there))
    (there / "hyp.tsv").write_text("a\thello\n")
    argv = ["--prepare.args", f"['{arg}']"]
    assert prepare("", *argv)[0] == 0 and "up to date" in prepare("", *argv)[1]
    (there / "hyp.tsv").write_text("a\tgoodbye\n")
    assert f"changed: {there}/hyp.tsv)" in prepare("", *argv)[1]


def test_an_edited_list_is_kept_and_a_torn_one_made_again(prepare):
    prepare()
    Path("data/train/text").write_text("a hello\n")
    out = prepare()[1]
    assert "up to date; edited since: data/train/text has 1 lines, 2 were made" in out
    Path("data/train/text").write_text("a hello\nb he")
    assert "(data/train/text has 1 lines, 2 were made)" in prepare()[1]
    assert Path("data/train/text").read_text() == "a hello\nb hello\n"


def test_the_doctor_lets_the_script_check_where_it_can(folder, capfd):
    """With ``prepare.check``; what the script says of wrong data is what the doctor says."""
    script = """for last; do :; done
    [ "$last" = --check ] || exit 9
    echo "$# arguments, 3 of 4 hypotheses"
    [ "$2" = good ] && exit 0
    printf 'error: an id twice\\n  where: h.txt:3\\n  fix:   drop it\\n' >&2
    exit 3
    """
    folder.write("local/data.sh", script)
    for args, check, code, words in (
        (["good"], True, 0, "3 arguments, 3 of 4 hypotheses"),
        (["bad"], True, 3, "FAIL  files of the preparation: local/data.sh: an id twice"),
        (["bad"], False, 0, "ready"),
    ):
        section = {"args": args, "check": check}
        data = {"train": "train", "valid": "train", "test": []}
        folder.recipe(data=data, prepare=section)
        assert runner.main(["--stage", "1", "--stop-stage", "1", "--doctor"]) == code
        out = capfd.readouterr().out
        assert words in out and not Path("data").exists()
