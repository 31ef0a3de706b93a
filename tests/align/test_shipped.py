# SPDX-License-Identifier: Apache-2.0
"""The English aligner of the package, as somebody uses it who has nothing but speech and text."""

import shutil
from pathlib import Path

import pytest

from espnet_ext.align.evaluate.compare import compare
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.model import find
from espnet_ext.align.models import DEFAULT, HERE, folder, names, told
from espnet_ext.cli import main
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError


@pytest.fixture
def pairs(spoken, tmp_path):
    """x.wav and x.txt of voices that the model has not heard, one with the text of another."""
    out = tmp_path / "pairs"
    out.mkdir()
    texts = read_table(spoken / "test" / "text")
    for utt, path in read_table(spoken / "test" / "wav.scp").items():
        shutil.copy(path, out / f"{utt}.wav")
        (out / f"{utt}.txt").write_text(texts[utt] + ".\n")
    first, second = sorted(texts)[:2]
    shutil.copy(out / f"{first}.wav", out / "wrong.wav")
    (out / "wrong.txt").write_text(texts[second])
    return out


def test_speech_and_text_are_enough(spoken, pairs, tmp_path, capsys):
    assert main(["align", str(pairs), str(tmp_path / "ali"), "--nj", "1", "--no-textgrid"]) == 0
    assert "25 of 25 utterances aligned" in capsys.readouterr().out
    truth = compare(tmp_path / "ali" / "alignment", spoken / "manifest.jsonl").as_json()
    words = truth["boundaries"]["words"]
    assert words["matched"] == words["b"] > 150
    assert words["median_abs_ms"] < 12 and words["within"]["50_ms"] > 0.9
    listed = (tmp_path / "ali" / "alignment" / "check.tsv").read_text().splitlines()[1:]
    assert listed[0].startswith("wrong\t") and len(listed) < 5
    header = AlignmentDir(tmp_path / "ali" / "alignment").header
    assert "AN4" in header.source_train_data
    assert header.source.endswith(" of en_us")  # no path of this machine


def test_labels_and_records_name_no_folder_from_the_root():
    assert told(folder("en_us")) == "en_us"
    assert told(Path("/home/me/exp/ali/model")) == "ali/model"
    assert told(Path("dump/align/model")) == "dump/align/model"


def test_the_model_is_small_and_says_what_it_is(capsys):
    assert names() == [DEFAULT]
    assert main(["align", "model-info"]) == 0
    told = capsys.readouterr().out
    assert "Kathleen" in told and "16000 Hz" in told and " AY " in told and "|" not in told
    size = sum(p.stat().st_size for p in (HERE / DEFAULT).iterdir())
    assert 1e6 < size < 3e6
    card = (HERE / DEFAULT / "README.md").read_text()
    assert "CC0" in card and "local/en_us_aligner.py" in card


def test_a_folder_of_the_user_goes_before_the_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder(DEFAULT) == HERE / DEFAULT and find(DEFAULT).final == "hybrid"
    (tmp_path / DEFAULT).mkdir()
    assert folder(DEFAULT) == Path(DEFAULT)
    with pytest.raises(DataError, match="there is no aligner") as e:
        find(DEFAULT)
    assert "comes with the package" in e.value.how
