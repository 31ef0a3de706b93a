# SPDX-License-Identifier: Apache-2.0
"""Import of a Kaldi experiment: formats, numbering, paths, words, damage."""

import gzip

import numpy as np
import pytest
from kaldi_fixtures import (
    AH,
    CHAIN,
    NAMES,
    SIL,
    WORDS,
    N,
    archive,
    experiment,
    model,
    path,
    pdf_of,
    text_of,
    tree,
)

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.formats.import_command import main_import_kaldi
from espnet_ext.align.kaldi.ali import PathError, PhoneSplitter, iter_alignments
from espnet_ext.align.kaldi.importer import import_kaldi
from espnet_ext.align.kaldi.model import read_model
from espnet_ext.align.kaldi.tree import KaldiTree
from espnet_ext.errors import DataError, UsageError


def put(tmp_path, data: bytes, name: str = "x.mdl"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


@pytest.mark.parametrize("binary", [True, False])
def test_model_numbers_transitions_in_tuple_order(tmp_path, binary):
    got = read_model(put(tmp_path, model(binary)))
    m = got.transitions
    # 5 silences of 4*4+2 transitions; 8 speech phones of 3*2, AH twice (two sets of tied states).
    assert m.num_transition_ids == 5 * 18 + 4 * 12 + 4 * 6
    assert got.gaussians.tolist() == [1, 2] * 7 and got.num_pdfs == 14
    first = [m.phone, m.hmm_state, m.pdf, m.target, m.is_self_loop, m.is_final]
    rows = [[int(a[i]) for a in first] for i in (1, 2, 5, 6, 17, 18, 91, 92, 93, 101, 102)]
    assert rows == [
        [SIL, 0, 0, 0, 1, 0], [SIL, 0, 0, 1, 0, 0], [SIL, 1, 1, 1, 1, 0], [SIL, 1, 1, 2, 0, 0],
        [SIL, 4, 4, 4, 1, 0], [SIL, 4, 4, 5, 0, 1],
        [AH, 0, 5, 0, 1, 0], [AH, 0, 5, 1, 0, 0], [AH, 0, 8, 0, 1, 0],
        [AH, 2, 10, 2, 1, 0], [AH, 2, 10, 3, 0, 1],
    ]  # fmt: skip
    assert m.log_probs[17:19] == pytest.approx(np.log([0.75, 0.25]), abs=1e-5)


@pytest.mark.parametrize("binary", [True, False])
def test_chain_model_gives_self_loops_their_own_pdf(tmp_path, binary):
    hmms = {1: CHAIN, 2: CHAIN}
    raw = model(binary, hmms, [(1, 0, 0, 2), (2, 0, 1, 3)], gmm=False)  # a network follows
    got = read_model(put(tmp_path, raw))
    assert got.gaussians is None and got.num_pdfs == 4
    assert got.transitions.pdf[1:].tolist() == [2, 0, 3, 1]
    assert got.transitions.is_self_loop[1:].tolist() == [True, False] * 2
    split = PhoneSplitter(got.transitions)
    for ids in ([2, 1, 1, 4, 2], [1, 1, 2, 4, 2]):  # self-loops last, and first
        assert split(np.array(ids)).phones.tolist() == [1, 2, 1]
        assert split(np.array(ids)).bounds.tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize("binary", [True, False])
def test_tree_answers_for_every_context(tmp_path, binary):
    t = KaldiTree.read(put(tmp_path, tree(binary), "tree"))
    assert (t.width, t.centre, t.num_pdfs) == (3, 1, 14)
    for left in (0, SIL, 5, AH, N):
        assert [t.pdf_of((left, AH + 1, N), s) for s in range(3)] == [
            pdf_of(left, AH + 1, s) for s in range(3)
        ]
    assert t.pdfs(AH, 0) == {5, 8} and t.pdfs(SIL, 3) == {3}
    assert t.pdf_of((0, 0, 0), 0) is None and t.pdf_of((0, 99, 0), 0) is None


@pytest.mark.parametrize("read", [read_model, KaldiTree.read])
def test_cut_files_are_data_errors(tmp_path, read):
    write = model if read is read_model else tree
    for raw in (write(True), write(False)):
        for cut in (0, 1, 30, len(raw) // 3, len(raw) // 2, len(raw) - 10):
            with pytest.raises(DataError, match=r"x\.mdl"):
                read(put(tmp_path, raw[:cut]))


@pytest.mark.parametrize("reordered", [True, False])
def test_paths_are_cut_into_phones(tmp_path, reordered):
    m = read_model(put(tmp_path, model(True))).transitions
    split, rng = PhoneSplitter(m), np.random.default_rng(0)
    for _ in range(50):
        phones = [int(p) for p in rng.choice([SIL, AH, AH + 3, N], rng.integers(1, 9))]
        ids, pdfs, bounds = path(phones, rng, reordered)
        got = split(ids)
        assert got.complete
        assert got.phones.tolist() == phones  # the same phone twice in a row stays two
        assert got.bounds.tolist() == bounds.tolist()
        assert m.pdf[ids].tolist() == pdfs.tolist()


def test_wrong_paths_are_refused(tmp_path):
    m = read_model(put(tmp_path, model(True))).transitions
    split = PhoneSplitter(m)
    forward = [92, 98, 102]  # AH: 0 -> 1 -> 2 -> out, of two sets of tied states
    assert m.is_final[102] and not m.is_self_loop[forward].any()
    assert split(np.array(forward)).complete
    for bad, message in (
        ([0], "transition id 0 in frame 0"),
        ([92, 163], "transition id 163 in frame 1; the model has 1..162"),
        ([92, 102], "92 is followed by 102 in frame 1"),
        ([92, 91, 101, 98, 102], "self-loop in frame 2"),
        ([92, 98, 102, 98], "102 is followed by 98"),
        ([], "empty"),
    ):
        with pytest.raises(PathError, match=message):
            split(np.array(bad, np.int32))
    for partial in ([92, 98], [98, 102]):
        assert not split(np.array(partial)).complete
        assert split(np.array(partial)).bounds.tolist() == [0, 2]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("reordered", [True, False])
def test_import_of_an_experiment(tmp_path, binary, reordered):
    truth = experiment(tmp_path / "exp", binary=binary, reordered=reordered)
    summary = import_kaldi(
        tmp_path / "exp", tmp_path / "out", text=text_of(truth, tmp_path), textgrid=True
    )
    got = AlignmentDir(tmp_path / "out")
    assert got.header.phones == ("SIL", "AH", "N")
    assert (got.header.num_classes, got.header.silence_ids) == (14, (0, 1, 2, 3, 4))
    assert got.header.first_frame_centre_s == 0.0125
    assert not summary.warnings and summary.utterances == len(got.utts) == len(truth) == 6
    for utt, (words, phones, _, pdfs, bounds) in truth.items():
        assert got.labels(utt).tolist() == pdfs.tolist()
        ids = [0 if p == SIL else 1 if p < N else 2 for p in phones]
        assert got.frame_phones(utt).tolist() == np.repeat(ids, np.diff(bounds)).tolist()
        assert [w.name for w in got.words[utt]] == words
        assert got.phones[utt][1].start_s == pytest.approx(bounds[1] * 0.01 + 0.0075)
        inside = got.frame_words(utt) >= 0
        assert (inside == (got.frame_phones(utt) != 0)).all()
        assert got.frame_words(utt).max() == len(words) - 1


def test_words_by_pronunciation_where_phones_tell_no_place(tmp_path):
    truth = experiment(tmp_path / "exp")
    lang = tmp_path / "lang"
    (lang / "phones").mkdir(parents=True)
    plain = [n if n[0] in "<#" else f"p{i}" for i, n in enumerate(NAMES)]
    plain[SIL] = "SIL"
    for folder in (lang, tmp_path / "exp"):
        (folder / "phones.txt").write_text("".join(f"{n} {i}\n" for i, n in enumerate(plain)))
    lexicon = "".join(f"{w} {w} {' '.join(f'p{p}' for p in ps)}\n" for w, ps in WORDS.items())
    (lang / "phones" / "align_lexicon.txt").write_text("<eps> <eps> SIL\n" + lexicon)
    text = text_of(truth, tmp_path)
    summary = import_kaldi(tmp_path / "exp", tmp_path / "a", lang=lang, text=text)
    by_place = tmp_path / "b"
    (tmp_path / "exp" / "phones.txt").unlink()
    (lang / "phones.txt").write_text("".join(f"{n} {i}\n" for i, n in enumerate(NAMES)))
    import_kaldi(tmp_path / "exp", by_place, lang=lang, text=text)
    assert not summary.warnings
    a, b = AlignmentDir(tmp_path / "a"), AlignmentDir(by_place)
    for utt in truth:
        assert a.frame_words(utt).tolist() == b.frame_words(utt).tolist()
        assert a.words[utt] == b.words[utt]


def test_words_are_left_out_where_the_transcript_differs(tmp_path):
    truth = experiment(tmp_path / "exp")
    text = text_of(truth, tmp_path)
    text.write_text(text.read_text().replace("j1-u0 ", "j1-u0 extra ") + "zz on an\n")
    summary = import_kaldi(tmp_path / "exp", tmp_path / "out", text=text)
    got = AlignmentDir(tmp_path / "out")
    assert got.words["j1-u0"] == [] and set(got.frame_words("j1-u0")) == {-1}
    assert len(got.words["j1-u1"]) == 4
    assert "j1-u0: 4 words in the alignment, 5 in" in "\n".join(summary.lines())
    assert got.skipped == {"zz": ("no alignment", "not in any alignment file")}


def test_a_damaged_archive_does_not_stop_the_others(tmp_path):
    truth = experiment(tmp_path / "exp", jobs=3)
    raw = (tmp_path / "exp" / "ali.1.gz").read_bytes()
    ids = {u: row[2] for u, row in truth.items() if u[:2] == "j2"}
    (tmp_path / "exp" / "ali.1.gz").write_bytes(raw[: len(raw) // 2])
    (tmp_path / "exp" / "ali.2.gz").unlink()
    (tmp_path / "exp" / "ali.2").write_bytes(archive(ids, True)[:-7])  # plain, and cut
    text = text_of(truth, tmp_path)
    summary = import_kaldi(tmp_path / "exp", tmp_path / "out", text=text)
    damaged = summary.warnings["alignment file damaged"]
    assert len(damaged) == 2 and "ali.1.gz" in damaged[0]
    assert "after 'j2-u1' (2 good utterances)" in damaged[1]
    got = AlignmentDir(tmp_path / "out")
    assert {"j2-u0", "j2-u1", "j3-u0", "j3-u1", "j3-u2"} <= set(got.utts)
    assert {*got.utts, *got.skipped} == set(truth)  # none is lost without a word


def test_missing_jobs_and_lattices_are_named(tmp_path):
    experiment(tmp_path / "exp", jobs=3)
    (tmp_path / "exp" / "ali.2.gz").unlink()
    with pytest.raises(DataError, match=r"1 of 3 jobs have no alignment: ali\.2\.gz"):
        import_kaldi(tmp_path / "exp", tmp_path / "out")
    for job in (1, 3):
        (tmp_path / "exp" / f"ali.{job}.gz").rename(tmp_path / "exp" / f"lat.{job}.gz")
    with pytest.raises(DataError, match="lattices"):
        import_kaldi(tmp_path / "exp", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_model_behind_a_link_of_another_machine(tmp_path):
    truth = experiment(tmp_path / "exp")
    final = tmp_path / "exp" / "final.mdl"
    final.unlink()
    final.symlink_to("/nowhere/exp/tri1/35.mdl")
    (tmp_path / "exp" / "40.mdl").write_bytes(b"of a run that was cut short")
    summary = import_kaldi(tmp_path / "exp", tmp_path / "out")
    assert summary.facts["model"] == tmp_path / "exp" / "35.mdl"
    assert summary.utterances == len(truth)
    for name in ("35.mdl", "40.mdl"):
        (tmp_path / "exp" / name).unlink()
    with pytest.raises(DataError, match=r"/nowhere/exp/tri1/35\.mdl, which is not there"):
        import_kaldi(tmp_path / "exp", tmp_path / "out")


def test_ids_of_another_model_are_named(tmp_path):
    experiment(tmp_path / "exp", jobs=1)
    rows = {"good": path([SIL, AH + 3], np.random.default_rng(0))[0], "bad": np.array([1, 999])}
    (tmp_path / "exp" / "ali.1.gz").write_bytes(gzip.compress(archive(rows, False)))
    import_kaldi(tmp_path / "exp", tmp_path / "out")
    reason, detail = AlignmentDir(tmp_path / "out").skipped["bad"]
    assert (reason, detail[:28]) == ("not a path of the model", "transition id 999 in frame 1")
    rows.pop("good")
    (tmp_path / "exp" / "ali.1.gz").write_bytes(gzip.compress(archive(rows, True)))
    with pytest.raises(DataError, match="no utterance can be imported: bad: transition id 999"):
        import_kaldi(tmp_path / "exp", tmp_path / "out2")


def test_a_tree_of_another_model_is_a_warning(tmp_path):
    experiment(tmp_path / "exp")
    raw = tree(False).replace(b"CE 13 ", b"CE 12 ")
    (tmp_path / "exp" / "tree").write_bytes(raw)
    summary = import_kaldi(tmp_path / "exp", tmp_path / "out")
    assert "does not give phone 10 the tied state 13" in "\n".join(summary.lines())


def test_grid_and_lengths(tmp_path, capsys):
    truth = experiment(tmp_path / "exp")
    data, exp = tmp_path / "data", tmp_path / "exp"
    data.mkdir()
    (exp / "frame_subsampling_factor").write_text("3\n")
    frames = {u: len(row[2]) for u, row in truth.items()}
    durations = {u: 0.03 * n + 0.005 for u, n in frames.items()} | {"j1-u0": 60.0}
    (data / "utt2dur").write_text("".join(f"{u} {s:.3f}\n" for u, s in durations.items()))
    out = tmp_path / "out"
    argv = [str(exp), str(out), "--data", str(data), "--no-snip-edges"]
    assert main_import_kaldi(argv) == 0
    assert "skipped: 1 (another segmentation)" in capsys.readouterr().out
    got = AlignmentDir(out)
    assert got.header.frame_shift_s == pytest.approx(0.03)
    assert got.header.first_frame_centre_s == 0.005
    assert "j1-u0" in got.skipped and len(got.utts) == 5


def test_scp_points_into_archives_that_were_moved(tmp_path):
    rows = {"a": np.array([1, 2, 3]), "b": np.array([4])}
    raw = archive(rows, True)
    (tmp_path / "ali.ark").write_bytes(raw)
    scp = tmp_path / "ali.scp"
    scp.write_text(f"b /old/ali.ark:{raw.index(b'b ') + 2}\na\t/old/ali.ark:2\n")
    assert {u: v.tolist() for u, v in iter_alignments(scp)} == {"a": [1, 2, 3], "b": [4]}
    for raw, message in ((b"a 1 2\nb\n", "without a vector"), (b"a 1 2\nb 3 x\n", "integers")):
        (tmp_path / "ali.ark").write_bytes(raw)
        with pytest.raises(DataError, match=f"after 'a' .1 good utterances.: .*{message}"):
            list(iter_alignments(tmp_path / "ali.ark"))
    scp.write_text("a gunzip -c ali.1.gz |\n")
    with pytest.raises(DataError, match="commands are not run"):
        list(iter_alignments(scp))


def test_the_experiment_itself_is_not_replaced(tmp_path):
    text = text_of(experiment(tmp_path / "exp"), tmp_path / "exp")
    for out in (tmp_path / "exp", tmp_path):
        with pytest.raises(UsageError, match="which is read"):
            import_kaldi(tmp_path / "exp", out, text=text)
    assert (tmp_path / "exp" / "final.mdl").is_file()
