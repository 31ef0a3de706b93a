# SPDX-License-Identifier: Apache-2.0
"""The Kathleen voice: both layouts, sets without a common prompt, damage, and the real corpus."""

import itertools
import os
from pathlib import Path

import pytest
import soundfile
from kathleen_tree import CMUDICT, make_release, make_table, sentences
from recipe_tree import ROOT, load_local

from espnet_ext.data.tables import read_table
from espnet_ext.installation import install
from espnet_ext.recipe import config

kathleen = load_local("kathleen")
REAL = Path(os.environ.get("KATHLEEN") or ROOT.parent / "shared/data/kathleen")
REAL_DICTIONARY = Path(os.environ.get("CMUDICT") or ROOT.parent / "shared/data/cmudict")
SMALL = ("--test-minutes", 0.08, "--dev-minutes", 0.05, "--labelled-minutes", 0.05)
PARTS = ("train", "dev", "test")
ALL = (*PARTS, "train_0.05min", "train_rest", "train_25", "train_50")


@pytest.fixture
def prepare(run_local, tmp_path):
    """Return ``prepare(corpus, name, *options, code=0) -> (what it printed, its folder)``."""

    def run(corpus, name, *argv, code=0, **variables):
        out = tmp_path / name
        told = run_local(kathleen, out, *SMALL, *argv, code=code, KATHLEEN=corpus, **variables)
        return told, out

    return run


def texts(folder):
    return read_table(folder / "text")


def prompts(ids):
    return {u.split("_")[1].split("-")[0] for u in ids}


def check_sets(out, few):
    """Check what must hold of the sets of any corpus."""
    ids = {p: set(texts(out / p)) for p in PARTS}
    for a, b in itertools.combinations(PARTS, 2):
        assert not prompts(ids[a]) & prompts(ids[b])
        assert not {*texts(out / a).values()} & {*texts(out / b).values()}
    assert len(prompts(ids["test"])) == len(ids["test"]) == len({*texts(out / "test").values()})
    rest = set(read_table(out / "train_rest/wav.scp"))
    assert not (out / "train_rest/text").exists()
    labelled = set(texts(out / few))
    assert labelled | rest == ids["train"] and not labelled & rest
    assert labelled < set(texts(out / "train_25")) < set(texts(out / "train_50")) < ids["train"]
    listed = [x.split("\t")[:2] for x in (out / "skipped.tsv").read_text().splitlines()[1:]]
    further = [utt for utt, reason in listed if reason == "further reading of a test prompt"]
    assert prompts(further) <= prompts(ids["test"])
    return {p: len(x) for p, x in ids.items()}, len(listed)


def test_both_layouts_give_the_same_sets(prepare, tmp_path):
    made = sentences()
    told, table = prepare(make_table(tmp_path / "a", made), "from_table")
    other, release = prepare(make_release(tmp_path / "b", made), "from_release")
    assert told == other
    for name in ALL:
        for file in ("text", "utt2spk", "spk2utt"):
            if (name, file) != ("train_rest", "text"):
                assert (table / name / file).read_bytes() == (release / name / file).read_bytes()
    sizes, skipped = check_sets(table, "train_0.05min")
    assert sum(sizes.values()) + skipped == sum(map(len, made.values()))
    assert f"{sum(map(len, made.values()))} utterances read" in told and "1620" in told
    # The second reading of b0002 has the words of a0003, so all of both are in one set.
    assert any({"a0003", "b0002"} <= prompts(texts(table / p)) for p in PARTS)
    words = {u: t for p in PARTS for u, t in texts(table / p).items()}
    assert words["kathleen-arctic_a0001-1"] == "TOM'S WOLF DOG THE BUS MET 'EM CAT'S SHIP"
    wav = read_table(release / "train_rest/wav.scp").popitem()[1]
    assert Path(wav).is_absolute() and soundfile.info(wav).channels == 2


def test_another_reading_leaves_the_other_prompts_where_they_are():
    """A hash of the prompt decides the order: nothing else of the corpus may change it."""

    def order(made):
        rows = [
            kathleen.Reading(f"kathleen-arctic_{p}-{i}", p, i, t.upper(), Path(), "", 1.0)
            for p, ts in made.items()
            for i, t in enumerate(ts, 1)
        ]
        return [g[0].prompt for g in kathleen.group_prompts(rows)]

    made = {p: [f"{p} {t}" for t in ts] for p, ts in sentences().items()}
    fewer = {p: ts[:1] for p, ts in list(made.items())[::-1] if p != "a0009"}
    assert [p for p in order(made) if p != "a0009"] == order(fewer)


def test_some_damage_is_listed_and_much_is_refused(prepare, tmp_path):
    made = sentences(120)
    root = make_release(tmp_path / "corpus", made)
    broken, silent = (root / f"data/arctic_{p}_999999997.wav" for p in ("a0007", "a0009"))
    broken.write_bytes(broken.read_bytes()[:1000])
    silent.with_suffix(".txt").unlink()
    told, out = prepare(root, "some")
    assert "kathleen-arctic_a0007-1: broken audio" in told and str(broken) in told
    assert "kathleen-arctic_a0009-1: no transcript" in told and "2 not usable" in told
    sizes, skipped = check_sets(out, "train_0.05min")
    assert sum(sizes.values()) + skipped == sum(map(len, made.values()))
    for path in sorted((root / "data").glob("*.wav"))[:3]:
        path.unlink()
    told, out = prepare(root, "much", code=3)
    assert "5 of 240 utterances are not usable" in told and "kathleen-arctic_a000" in told
    assert not out.exists()


UTT = "kathleen-arctic_a0001-1"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([f"{UTT}\ta0001\tA cat."] * 2, "transcripts.tsv:3"),
        ([f"{UTT}\ta0002\tA cat."], "transcripts.tsv:2"),
        ([f"{UTT} a0001 A cat."], "transcripts.tsv:2"),
        ([f"{UTT}\ta0001\tA cat.\tmore"], "transcripts.tsv:2"),
        ([], "0.00 minutes are left"),
    ],
)
def test_a_bad_table_is_told_with_its_line(prepare, tmp_path, lines, told):
    table = tmp_path / "corpus/transcripts.tsv"
    table.parent.mkdir()
    table.write_text("\n".join(["id\tprompt\ttext", *lines]) + "\n")
    assert told in prepare(tmp_path / "corpus", "out", code=3)[0]


def test_digits_are_not_guessed(prepare, tmp_path):
    made = sentences(120) | {"b0600": ["He had 2 dogs."], "b0602": ["--"]}
    told, _ = prepare(make_table(tmp_path / "corpus", made), "out")
    assert "kathleen-arctic_b0600-1: text that is no words" in told and "2 dogs" in told
    assert "kathleen-arctic_b0602-1" in told


def test_lexicon(prepare, tmp_path, monkeypatch):
    root = make_table(tmp_path / "corpus", sentences(), "wav")
    dictionary = tmp_path / "cmudict.dict"
    dictionary.write_text(CMUDICT)
    told, out = prepare(root, "out", "--lexicon", CMUDICT=tmp_path)
    lexicon = (out / "lexicon.txt").read_text().splitlines()
    assert {"TOM T AA M", "FIRE F AY ER", "FIRE F AY R", "TOM'S T AA M Z", "CAT'S K AE T S"} <= {
        *lexicon
    }
    assert "2 words composed" in told and "WOLF" in told and "SAW S AO" in lexicon
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    told, _ = prepare(root, "none", "--lexicon", code=3, CMUDICT=None)
    assert "CMUDICT" in told and install("cmudict==1.1.3") in told
    told, _ = prepare(root, "none", "--lexicon", code=3, CMUDICT=tmp_path / "lost")
    assert "CMUDICT names no pronouncing dictionary" in told


def test_endings():
    lexicon = kathleen.write_lexicon.__globals__
    assert [lexicon["ending"](p) for p in ("S", "CH", "T", "G", "OW")] == [
        ("IH", "Z"), ("IH", "Z"), ("S",), ("Z",), ("Z",),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--test-minutes", 9), 3, "left for training"),
        (("--dev-minutes", 0), 2, "--dev-minutes"),
        (("--labelled-minutes", "nan"), 2, "--labelled-minutes"),
    ],
)
def test_sets_that_cannot_be(prepare, tmp_path, options, code, told):
    root = make_table(tmp_path / "corpus", sentences())
    assert told in prepare(root, "out", *options, code=code)[0]


def test_hidden_texts_are_in_no_set_that_bl_just_reads(prepare, tmp_path):
    """What the recipe names is what local/kathleen.py makes with the recipe's own options."""
    recipe = config.load(ROOT / "egs2/kathleen/bl_just1/recipe.yaml")
    assert recipe.data.train == "train_10min" and recipe.data.also == ["train_rest"]
    assert recipe.finetune.extra_data["u"].set == "train_rest"
    root = make_table(tmp_path / "corpus", sentences(120))
    _, out = prepare(root, "out", "--labelled-minutes", 0.3)
    assert (out / "train_0.3min/text").is_file() and not (out / "train_rest/text").exists()
    assert not {*texts(out / "train_0.3min")} & {*read_table(out / "train_rest/wav.scp")}


def test_a_folder_that_is_another_corpus(prepare, tmp_path):
    told, _ = prepare(tmp_path, "out", code=3)
    assert "not the Kathleen corpus" in told and "git clone" in told


def test_from_the_release_to_formatted_audio(recipe_copy, tmp_path):
    recipe = recipe_copy("kathleen/weak_align1", tmp_path / "tree")
    (tmp_path / "cmudict.dict").write_text(CMUDICT)
    env = {"KATHLEEN": str(make_release(tmp_path / "corpus", sentences())),
           "CMUDICT": str(tmp_path / "cmudict.dict")}  # fmt: skip
    args = f"--prepare.args=[--lexicon, {', '.join(repr(str(x)) for x in SMALL)}]"
    out = recipe.run(args, "--prepare.disk_mb=1", "--stop-stage", "2", env=env)
    assert "(note: the whole corpus has 1620)" in out
    for part in PARTS:
        wavs = read_table(recipe.path / f"dump/{part}/wav.scp")
        assert set(wavs) == set(texts(recipe.path / "data" / part))
        got = soundfile.info(recipe.path / next(iter(wavs.values())))
        assert (got.samplerate, got.channels) == (16000, 1)
    env["CMUDICT"] = str(tmp_path / "elsewhere")
    assert "CMUDICT" in recipe.run(args, "--stop-stage", "1", code=3, env=env)
    out = recipe.run(code=3, env={"KATHLEEN": str(tmp_path / "tree")})
    assert "does not look like the Kathleen voice" in out and "stage 1" not in out


@pytest.mark.skipif(not REAL.is_dir(), reason="KATHLEEN=/path is needed to test on the corpus")
def test_the_split_of_the_whole_corpus(run_local, tmp_path):
    out = tmp_path / "data"
    dictionary = REAL_DICTIONARY if REAL_DICTIONARY.exists() else None
    extra = ["--lexicon"] if dictionary else []
    told = run_local(kathleen, out, *extra, KATHLEEN=REAL.resolve(), CMUDICT=dictionary)
    sizes, skipped = check_sets(out, "train_10min")
    assert sizes == {"train": 1200, "dev": 144, "test": 205} and skipped == 71
    assert "test: 205 utterances, 10.0 min" in told and "dev: 144 utterances, 7.0 min" in told
    assert not extra or "8 words (11 of" in told
