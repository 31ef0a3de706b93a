# SPDX-License-Identifier: Apache-2.0
"""Stage 3 on folders as stage 2 leaves them: labels for every utterance, copies too."""

import shutil

import numpy as np
import soundfile

from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.options import from_dict
from espnet_ext.align.stage import align_sets
from espnet_ext.data.tables import read_table, write_table


def formatted(folder, speeds=()):
    """Turn a data folder into one of dump/: lengths, and the names of speed copies."""
    tables = {t: read_table(folder / t) for t in ("wav.scp", "text", "utt2spk")}
    lengths = {u: soundfile.info(p).frames for u, p in tables["wav.scp"].items()}
    for speed in speeds:
        for utt in list(tables["text"]):
            for table in tables.values():
                table[f"sp{speed}-{utt}"] = table[utt]  # the audio is never read
            lengths[f"sp{speed}-{utt}"] = round(lengths[utt] / speed)
    for name, rows in (*tables.items(), ("utt2num_samples", lengths)):
        write_table(folder / name, rows)
    return lengths


def copies(utt):
    name, _, rest = utt.partition("-")
    return (rest, float(name[2:])) if name.startswith("sp") else (utt, 1.0)


def targets(folder):
    from omniio import kaldi

    return {u: np.array(y) for u, y in kaldi.load_scp_sequential(str(folder / "targets.scp"))}


def test_every_utterance_of_every_set_has_labels(few, spoken, tmp_path):
    lengths = {"train": formatted(few(6, "dump/train"), speeds=[0.9])}
    dev = few(6, "dev")  # the same: no phone is new
    texts = read_table(dev / "text")
    lost = min(texts)
    write_table(dev / "text", texts | {lost: "no-such-word here"})
    (tmp_path / "dump").mkdir(exist_ok=True)
    dev.rename(tmp_path / "dump/dev")
    lengths["dev"] = formatted(tmp_path / "dump/dev")
    o = from_dict({
        "lexicon": str(spoken / "lexicon.txt"), "passes": ["mono", "tri"], "keep": ["mono"],
        "mono": {"iterations": 2, "realign": [1], "gaussians": 140},
        "tri": {"iterations": 1, "realign": [], "leaves": 140}, "textgrid": False,
    })  # fmt: skip
    lines = []
    align_sets(tmp_path / "dump", "train", ["dev"], o, map, lines.append, copies)
    for name in ("train", "dev"):
        for sub in ("", "mono"):
            folder = tmp_path / "dump" / name / "align" / sub
            labels = targets(folder)
            assert list(labels) == sorted(lengths[name])
            assert all(len(y) == round(lengths[name][u] / 160) for u, y in labels.items())
            assert {u for u, y in labels.items() if (y == -1).all()} == (
                {lost} if name == "dev" else set()
            )
            assert max(y.max() for y in labels.values()) < AlignmentDir(folder).header.num_classes
            assert np.isin(-1, list(labels.values())[-1]) == (list(labels)[-1] == lost)
    assert lost in (tmp_path / "dump/dev/align/unlabelled.tsv").read_text()
    assert any("1 " in line and "no labels" in line for line in lines)

    # The same set by that aligner, which is there already and was trained on another machine: its
    # own lexicon, no GPU, equal labels, and nothing is trained. align.fs is not the dump's rate.
    about = tmp_path / "dump/align/model/model.json"
    about.write_text(about.read_text().replace('"device": "cpu"', '"device": "cuda"'))
    assert '"device": "cuda"' in about.read_text()
    (tmp_path / "again").mkdir()
    shutil.copytree(tmp_path / "dump/dev", tmp_path / "again/dev")
    shutil.rmtree(tmp_path / "again/dev/align")
    given = from_dict({
        "model": str(tmp_path / "dump/align/model"), "textgrid": False, "fs": 8000, "sil_prob": 0.4,
        "hybrid": {"device": "cpu", "epochs": 4},
    })  # fmt: skip
    align_sets(tmp_path / "again", "dev", [], given, map, lines.append, copies)
    made = [targets(tmp_path / top / "dev/align") for top in ("dump", "again")]
    assert made[0].keys() == made[1].keys()
    assert all((made[0][u] == made[1][u]).all() for u in made[0])
    assert not (tmp_path / "again" / "align" / "work" / "train").exists()
    assert any("trained on" in line for line in lines)
    assert any("not used: sil_prob, hybrid; " in line for line in lines)


def test_tags_are_never_aligned(few, spoken, tmp_path):
    folder = few(4, "dump/train")
    texts = read_table(folder / "text")
    write_table(folder / "plain", texts)
    write_table(folder / "text", {u: f"<intent> > <slot> {text} >" for u, text in texts.items()})
    formatted(folder)
    o = from_dict({
        "text": "plain", "passes": ["mono"], "textgrid": False,
        "mono": {"iterations": 1, "realign": [], "gaussians": 120},
    })  # fmt: skip
    align_sets(tmp_path / "dump", "train", [], o, map, lambda line: None)
    folder = folder / "align"
    assert AlignmentDir(folder).skipped == {}
    said = {line.split()[4] for line in (folder / "words.ctm").read_text().splitlines()}
    assert said == {word for text in texts.values() for word in text.split()}
    assert set(AlignmentDir(folder).header.phones[1:]) <= set("abcdefghijklmnopqrstuvwxyz")
