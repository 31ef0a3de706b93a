# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext align`` as a person uses and misuses it: messages, exit codes, nothing lost."""

import json
import shutil

import numpy as np
import pytest
import soundfile

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.cli import main
from espnet_ext.data.tables import read_table, write_table

QUICK = ["--nj", "1", "--no-textgrid", "--set", "passes=[mono]"]
QUICK += ["--set", "mono.iterations=1", "--set", "mono.realign=[1]", "--set", "mono.gaussians=150"]


def align(*argv):
    return main(["align", *map(str, argv)])


def train(data, out, lexicon=None, *more):
    return align("train", data, out, *(["--lexicon", lexicon] if lexicon else []), *QUICK, *more)


def add(data, utt, wave=None, text="turn the lights on", fs=16000, path=None):
    """Append an utterance; ``wave`` None writes no audio, ``text`` None no transcript."""
    file = data / f"{utt}.wav"
    if wave is not None:
        soundfile.write(file, wave, fs)
    if wave is not None or path:
        write_table(data / "wav.scp", read_table(data / "wav.scp") | {utt: path or file})
    if text is not None:
        write_table(data / "text", read_table(data / "text") | {utt: text})


@pytest.fixture
def bad(few, spoken):
    """Ten good utterances and one of each bad kind; returns the folder and reasons."""
    data = few(10)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(16000)
    first = next(iter(read_table(data / "wav.scp").values()))
    speech, _ = soundfile.read(first)
    add(data, "z-short", noise[:1600])
    add(data, "z-long-words", noise[:8000], text="turn the lights on " * 40)
    add(data, "z-oov", noise, text="turn xylophone on")
    add(data, "z-greek", noise, text="φως on")
    add(data, "z-silent", np.zeros(16000))
    add(data, "z-no-samples", np.zeros(0))
    add(data, "z-no-text", noise, text=None)
    add(data, "z-empty-text", noise, text="")
    add(data, "z-no-audio", None)
    add(data, "z-lost-file", path=data / "nowhere.wav")
    (data / "z-garbage.wav").write_bytes(b"RIFF no audio at all")
    add(data, "z-garbage", path=data / "z-garbage.wav")
    add(data, "y-clipped", np.clip(speech * 10, -1, 1), text=read_table(data / "text")[_utt(data)])
    add(data, "y-8k", speech[::2], fs=8000, text=read_table(data / "text")[_utt(data)])
    stereo = np.stack([speech, speech], 1)
    add(data, "y-stereo", stereo, text=read_table(data / "text")[_utt(data)])
    return data, {
        "z-short": "too short", "z-long-words": "too short", "z-oov": "no pronunciation",
        "z-greek": "no pronunciation", "z-silent": "audio: silent", "z-no-samples": "empty audio",
        "z-no-text": "no transcript", "z-empty-text": "empty transcript", "z-no-audio": "no audio",
        "z-lost-file": "missing audio", "z-garbage": "unreadable audio",
    }  # fmt: skip


def _utt(data):
    return next(iter(read_table(data / "wav.scp")))


def test_bad_utterances_are_named_and_the_rest_goes_on(bad, spoken, tmp_path, capsys):
    data, reasons = bad
    assert train(data, tmp_path / "out", spoken / "lexicon.txt", "--set", "oov=skip") == 0
    said = capsys.readouterr().out
    assert align("apply", tmp_path / "out", data, tmp_path / "again", "--nj", "1") == 0
    for out in ("out", "again"):
        a = AlignmentDir(tmp_path / out / "alignment")
        assert {u: r for u, (r, _) in a.skipped.items()} == reasons
        everything = set(read_table(data / "wav.scp")) | set(read_table(data / "text"))
        assert {*a.utts, *a.skipped} == everything and not {*a.utts} & {*a.skipped}
        report = json.loads((a.path / "align_report.json").read_text())
        assert report["coverage"]["utterances"] == len(everything) == 10 + 3 + len(reasons)
        assert [u for u, *_ in report["extra"]["audio_warnings"]] == ["y-clipped"]
        assert (a.path / "align_report.png").stat().st_size > 10_000
    assert a.skipped["z-oov"][1] == "xylophone" and a.skipped["z-greek"][1] == "φως"
    assert "needs" in a.skipped["z-long-words"][1]
    assert "nowhere.wav" in a.skipped["z-lost-file"][1]
    assert all(utt in said for utt in reasons)
    assert "1 utterances were resampled from 8000 to 16000 Hz" in said and "y-clipped" in said
    assert "13 of 24 utterances aligned" in said


def test_letters_other_scripts_and_segments(few, tmp_path, capsys):
    data = few(6)
    texts = read_table(data / "text")
    greek = str.maketrans("aeiou", "αειου")
    write_table(data / "text", {u: t.translate(greek) for u, t in texts.items()})
    rows = {u: f"{u} 0.00 -1" for u in texts}
    first = _utt(data)
    rows[first] = f"{first} 0.10 2.00"
    rows["beyond"] = f"{first} 500 600"
    rows["of-nothing"] = "nothing 0 1"
    write_table(data / "segments", rows)
    write_table(data / "text", read_table(data / "text") | {"beyond": "αα", "of-nothing": "αα"})
    assert train(data, tmp_path / "out") == 0
    a = AlignmentDir(tmp_path / "out/alignment")
    assert a.skipped["beyond"][0] == "segment outside audio"
    assert a.skipped["of-nothing"][0] == "missing audio"
    assert len(a.labels(first)) == 190 and "α" in a.header.phones
    assert [w.name for w in a.words[first]] == read_table(data / "text")[first].split()


def refused(capsys, code, argv, *parts):
    """Check the exit code, and that the message says what, where and how; no traceback."""
    try:
        got = align(*argv)
    except SystemExit as e:
        got = e.code
    text = capsys.readouterr().err
    assert got == code, text
    assert "Traceback" not in text
    for part in map(str, parts):
        assert part in text, text


def test_misuse_of_options(few, spoken, tmp_path, capsys):
    data, out, lexicon = few(2), tmp_path / "out", spoken / "lexicon.txt"
    job = ["train", data, out, *QUICK]
    for code, more, *parts in (
        (2, ["--lexcon", lexicon], "--lexcon", "did you mean '--lexicon'?"),
        (2, ["--set", "mono.itertions=3"], "itertions", "did you mean 'iterations'?"),
        (2, ["--set", "mono.iterations=many"], "'many' is not a whole number", "mono.iterations"),
        (2, ["--set", "mono.iterations=0"], "0 is out of range", "align.mono.iterations"),
        (2, ["--set", "mono.realign=[1,x]"], "'x' in it is not a whole", "align.mono.realign"),
        (2, ["--set", "mono"], "'mono' is not KEY=VALUE"),
        (2, ["--set", "mono=3"], "must be a section"),
        (2, ["--set", "seed.x=[3"], "not valid YAML"),
        (2, ["--set", "passes=[tri]"], "not in order", "start with mono"),
        (2, ["--set", "passes=[mono,trj]"], "there is no pass 'trj'", "did you mean 'tri'?"),
        (2, ["--set", "passes=[mono,sat]"], "sat needs", "add lda_mllt"),
        (2, ["--set", "hybrid.device=gpu"], "'gpu' is not possible", "align.hybrid.device"),
        (2, ["--set", "fs=8050"], "8050", "multiple of 100"),
        (2, ["--set", "oov=guess"], "align.oov", "valid: auto, espeak, g2p, grapheme, skip"),
        (2, ["--set", "oov=skip"], "without a lexicon all words are skipped"),
        (2, ["--set", "keep=[tri]"], "'tri' is to be kept", "the passes are mono"),
        (2, ["--set", "sets=[dev]"], "'sets' is an option of a recipe's stage 3"),
        (2, ["--channel", "left"], "'left' is no channel", "auto, mix"),
        (2, ["--nj", "-1"], "--nj"),
        (2, ["--executor", "slurm"], "there is no executor 'slurm'"),
        (2, ["--config", tmp_path / "no.yaml"], "no.yaml"),
        (3, ["--lexicon", tmp_path / "no.txt"], "no.txt", "there is no such lexicon"),
        (3, ["--lexicon", data / "utt2spk2"], "utt2spk2"),
    ):  # fmt: skip
        refused(capsys, code, [*job, *more], *parts)
    refused(capsys, 2, ["trian", data, out], "did you mean 'train'?")
    refused(capsys, 2, ["train", data], "usage:")
    assert align() == 2 and align("--help") == 0
    assert not (out / "model").exists()


def test_a_pass_that_is_kept_is_an_aligner_of_its_own(few, spoken, tmp_path, capsys):
    data, out = few(6), tmp_path / "out"
    more = ["--set", "passes=[mono,tri]", "--set", "keep=[mono]", "--set", "tri.iterations=1"]
    more += ["--set", "tri.realign=[]", "--set", "tri.leaves=140"]
    (out / "mono").mkdir(parents=True)
    (out / "mono/thesis.tex").write_text("precious")
    job = ["train", data, out, "--lexicon", spoken / "lexicon.txt", *QUICK, *more]
    refused(capsys, 2, job, "OUT has a 'mono' that is not of the aligner")
    (out / "mono/thesis.tex").unlink()
    assert align(*job) == align(*job) == 0
    assert AlignmentDir(out / "alignment").header.source.endswith("pass tri")
    kept = AlignmentDir(out / "mono/alignment")
    assert kept.header.source.endswith("pass mono") and len(kept.utts) == 6
    assert align("apply", out / "mono", data, tmp_path / "again", "--nj", "1") == 0
    assert align("compare", out / "mono", tmp_path / "again") == 0
    assert "100.0%" in capsys.readouterr().out


def test_misuse_of_folders(few, spoken, tmp_path, capsys):
    data, out = few(2), tmp_path / "out"
    lexicon = spoken / "lexicon.txt"
    for name in ("alignment", "model", "work"):
        taken = tmp_path / f"taken-{name}"
        (taken / name).mkdir(parents=True)
        (taken / name / "thesis.tex").write_text("precious")
        refused(capsys, 2, ["train", data, taken, *QUICK], name, "name another folder")
        assert (taken / name / "thesis.tex").exists()
    refused(capsys, 2, ["train", data, data, *QUICK], "data folder itself")
    refused(capsys, 2, ["train", data, data / "text", *QUICK], "OUT is a file")
    refused(capsys, 3, ["train", tmp_path / "none", out, *QUICK], "no such folder", "none")
    (tmp_path / "void").mkdir()
    refused(
        capsys, 3, ["train", tmp_path / "void", out, *QUICK], "neither a data folder nor", "void"
    )
    (data / "text").write_text("")
    refused(capsys, 3, ["train", data, out, *QUICK], "no utterance can be aligned", "not in text")
    (data / "wav.scp").write_text("")
    refused(capsys, 3, ["train", data, out, *QUICK], "wav.scp and text are empty")
    data = few(2, "other")
    add(data, "same", path="a.wav")
    table = (data / "wav.scp").read_text()
    (data / "wav.scp").write_text(table + "same b.wav\n")
    refused(capsys, 3, ["train", data, out, "--lexicon", lexicon, *QUICK], "'same' stands twice")
    (data / "wav.scp").write_text(table + "pipe sox a.wav -t wav - |\n")
    refused(capsys, 3, ["train", data, out, *QUICK], "'pipe' is a command", "wav.scp")


def test_misuse_of_a_trained_aligner(few, spoken, tmp_path, capsys):
    data, out, lexicon = few(5), tmp_path / "out", tmp_path / "lexicon.txt"
    shutil.copy(spoken / "lexicon.txt", lexicon)
    assert train(data, out, lexicon) == 0
    lexicon.unlink()  # the model has its copy
    capsys.readouterr()
    job = ["apply", out, data, tmp_path / "a", "--nj", "1"]
    assert align(*job) == 0 and align(*job) == 0
    again = ["--train", "--lexicon", out / "model/lexicon/lexicon.txt", *QUICK]
    assert align(data, tmp_path / "same", *again) == 0
    assert align("compare", out, tmp_path / "same") == 0
    assert "100.0%" in capsys.readouterr().out
    refused(capsys, 2, [data, "--train"], "OUT, the folder to write, is missing")
    refused(capsys, 2, ["apply", out, data, out], "OUT holds a trained aligner")
    refused(capsys, 2, ["train", data, tmp_path / "a"], "OUT holds an alignment by another")
    refused(capsys, 3, ["apply", data, data, tmp_path / "b"], "there is no aligner")
    foreign = tmp_path / "foreign.txt"
    foreign.write_text("".join(f"{w} q1 q2\n" for w in ("turn", "the", "on")))
    refused(
        capsys, 3, ["apply", out, data, tmp_path / "b", "--lexicon", foreign, "--nj", "1"],
        "no utterance can be aligned", "no pronunciation",
    )  # fmt: skip
    gmm = out / "model/gmm.npz"
    whole = gmm.read_bytes()
    gmm.write_bytes(whole[: len(whole) // 2])
    refused(capsys, 3, job, "gmm.npz", "cannot be read")
    gmm.unlink()
    refused(capsys, 3, job, "the aligner lacks gmm.npz")
    gmm.write_bytes(whole)
    (out / "model/tree.json").write_text("{")
    refused(capsys, 3, job, "tree.json")
    (out / "model/model.json").write_text('{"format": "other"}')
    refused(capsys, 3, job, "'other'")


def test_compare_tells_what_does_not_fit(few, spoken, tmp_path, capsys):
    data, out = few(4), tmp_path / "out"
    assert train(data, out, spoken / "lexicon.txt") == 0
    assert align("compare", out, out) == 0
    assert "100.0%" in capsys.readouterr().out
    cut = tmp_path / "cut"
    shutil.copytree(out / "alignment", cut)
    ark = cut / "labels.ark"
    ark.write_bytes(ark.read_bytes()[:-40])
    last = AlignmentDir(cut).utts[-1]
    assert align("compare", out, cut) == 0  # the rest goes on
    told = capsys.readouterr().out
    assert "1 utterances cannot be read" in told and last in told and "3 utterances in both" in told
    refused(capsys, 3, ["compare", out, tmp_path / "none"], "none")
    other = few(4, "other")
    rows = {f"x{u}": v for u, v in read_table(other / "wav.scp").items()}
    write_table(other / "wav.scp", rows)
    write_table(other / "text", {f"x{u}": t for u, t in read_table(other / "text").items()})
    assert align("apply", out, other, tmp_path / "b", "--nj", "1") == 0
    refused(capsys, 3, ["compare", out, tmp_path / "b"], "share no utterance")


def test_a_second_run_in_the_same_folder_waits_its_turn(few, spoken, tmp_path, capsys):
    from espnet_ext.recipe.lock import hold

    data, out = few(2), tmp_path / "out"
    with hold(out / "work/lock", print):
        refused(capsys, 3, ["train", data, out, *QUICK], "another run is at work")
    assert train(data, out, spoken / "lexicon.txt") == 0
    capsys.readouterr()
    assert train(data, out, spoken / "lexicon.txt") == 0
    assert "mono: finished by an earlier run" in capsys.readouterr().out
    report = json.loads((out / "alignment/align_report.json").read_text())
    assert report["extra"]["passes_of_an_earlier_run"] == ["mono"]
