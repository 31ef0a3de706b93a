# SPDX-License-Identifier: Apache-2.0
"""Stage 2: texts are checked first, sets formatted as usual, plain texts embedded once."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from tiny_text import make_bert

from espnet_ext.data.tables import read_table
from espnet_ext.dual_task.stages import format as stage
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.recipe import config, options, preflight, records, stages
from espnet_ext.recipe.stages import Context, find
from espnet_ext.text.sentence_store import SentenceStore

ROWS = {  # utterance: seconds, tagged text, plain text
    "train": [(1.0, "je <go> > <city> le mans >", "je le mans"), (1.2, "roma", "Roma")],
    "also": [(1.0, "vorrei <city> roma >", "vorrei roma"), (0.2, "<city> une >", "une")],
    "dev": [(1.0, "à <city> roma >", "à roma"), (0.9, "a <day> x >", "a x")],
}  # fmt: skip
STREAMS = [{"name": "speech", "file": "wav.scp", "type": "sound"},
           {"name": "text", "file": "text", "type": "text"},
           {"name": "sentence", "file": "plain", "type": "text", "batch": False}]  # fmt: skip


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe's folder with data and a sentence encoder; return ``context(**sections)``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SENTENCE_ENCODER", raising=False)
    monkeypatch.delenv("ESPNET_EXT_CALLED_FROM", raising=False)
    for name in ("train", "also", "dev"):
        write_set(name, ROWS[name])
    make_bert(Path("data/sentence_encoder"))
    told = []
    for module in (stage, stage.sentences, stage.standard):
        monkeypatch.setattr(module, "say", told.append)

    def context(train="train", fs=16000, tokens=(), pretrain=None, **args):
        sections = {
            "data": {"train": "train", "valid": "dev", "test": ["dev"], "also": ["also"],
                     "files": ["wav.scp", "text", "utt2spk", "plain"]},
            "format": {"code": stage.__name__, "ctc_stride": 4, "args": args, "fs": fs},
            "tokens": {"type": "char", "tagged": True, "also": True, **dict(tokens)},
            "pretrain": pretrain,
            "finetune": {"config": "c.yaml", "train": train, "streams": STREAMS},
        }  # fmt: skip
        Path("recipe.yaml").write_text(yaml.safe_dump(sections))
        ctx = Context(config.load(Path("recipe.yaml")), options.parse(["--ngpu", "0"], set()))
        ctx.stage = find("format")
        return ctx

    context.told = told
    return context


def write_set(name, rows, meaning=True):
    folder, rng = Path("data") / name, np.random.default_rng(1)
    (folder / "raw").mkdir(parents=True, exist_ok=True)
    tables = {f: [] for f in ("wav.scp", "text", "plain", "utt2spk", "utt2lang", "meaning")}
    for i, (seconds, text, plain) in enumerate(rows):
        utt, path = f"{name}{i}", (folder / f"raw/{i}.wav").absolute()
        soundfile.write(path, 0.3 * rng.standard_normal(int(16000 * seconds)), 16000)
        values = {"wav.scp": path, "text": text, "plain": plain, "utt2spk": utt, "utt2lang": "fr",
                  "meaning": f"m{i}"}  # fmt: skip
        for file, value in values.items():
            tables[file].append(f"{utt} {value}".rstrip() + "\n")
    for file, lines in tables.items():
        (folder / file).write_text("".join(lines), encoding="utf-8")


def run(ctx):
    """Run the stage as the runner does; return why."""
    plan = stage.plan(ctx)
    now = records.current(plan)
    why = records.why_run(ctx, ctx.stage, plan, now)
    if why:
        records.check_needs(ctx, ctx.stage, plan)
        stage.run(ctx, plan)
        assert all(p.exists() for p in stage.plan(ctx).makes)
        records.write(ctx, ctx.stage, stage.plan(ctx), now, 0.0)
    return why


def test_sets_are_formatted_and_all_plain_texts_embedded(recipe):
    ctx = recipe()
    assert run(ctx) == "first run"
    store = SentenceStore("dump/sentences", width=16)
    for name in ("train", "also", "dev"):
        plain = read_table(f"dump/{name}/plain")
        assert plain and all(text in store for text in plain.values())
        assert read_table(f"dump/{name}/utt2lang").keys() == plain.keys()
        assert read_table(f"dump/{name}/meaning").keys() == plain.keys()
    assert read_table("dump/train/plain")["train1"] == "Roma"  # the case is kept
    assert "roma" not in store or not np.array_equal(store["roma"], store["Roma"])
    assert any("mean cosine" in line for line in recipe.told)
    assert any("dev has 1 tag(s) that no training set has (<day>)" in line for line in recipe.told)
    assert run(recipe()) == ""


def test_targets_too_long_for_their_frames_are_listed_by_symbols_not_by_letters_of_tags(recipe):
    """18 symbols fit into the frames of 0.75 s; 28 letters would need 1.1 s."""
    run(recipe())
    assert list(read_table("dump/also/text")) == ["also0"]
    dropped = Path("dump/also/dropped.tsv").read_text()
    assert "also1" in dropped
    write_set("train", [(0.75, "<une_ville> " + "ab" * 7 + " >", "ab" * 7)])
    run(recipe())
    assert list(read_table("dump/train/text")) == ["train0"]


def test_another_encoder_makes_the_vectors_again_another_training_set_does_not(recipe, monkeypatch):
    run(recipe())
    first = SentenceStore("dump/sentences")
    assert run(recipe(train="also")) == ""  # the sets are the same, whichever a phase reads
    for file in ("train", "also", "dev"):
        table = "".join(f"{u} 1 2\n" for u in read_table(f"data/{file}/plain"))
        Path(f"data/{file}/phones").write_text(table)
    phones = {"name": "phones", "file": "phones", "type": "text_int", "batch": False}
    pretrain = {"config": "c.yaml", "streams": [*STREAMS, phones]}
    assert "changed" in run(recipe())  # there are new files
    assert run(recipe(pretrain=pretrain)) == ""  # which are in dump/ whether a phase reads them
    assert read_table("dump/train/phones") == read_table("data/train/phones")
    make_bert(Path("other"), seed=4, width=8)
    monkeypatch.setenv("SENTENCE_ENCODER", "other")
    assert "changed" in run(recipe())
    second = SentenceStore("dump/sentences")
    assert second.width == 8 and second.about.fingerprint != first.about.fingerprint
    monkeypatch.delenv("SENTENCE_ENCODER")
    assert run(recipe()) == ""  # unset means as before
    monkeypatch.setenv("SENTENCE_ENCODER", "none")
    assert "changed" in run(recipe())
    assert SentenceStore("dump/sentences").about == first.about
    assert "pooling" in run(recipe(pooling="mean"))
    make_bert(Path("data/sentence_encoder"), seed=9)
    assert "changed" in run(recipe(pooling="mean"))


def test_candidates_are_embedded_and_judge_the_encoder(recipe):
    lines = ["meaning\tlanguage\ttext", "m0\tfr\tune chambre", "m0\tit\tuna camera"]
    Path("data/candidates.tsv").write_text("\n".join(lines) + "\n")
    run(recipe())
    assert "una camera" in SentenceStore("dump/sentences")
    assert any("nearest text is a translation: 1.000 (fr->it" in line for line in recipe.told)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("je <city> le mans", "<city> is not closed"),
        ("je le mans >", "closes nothing"),
        ("<city> le <day> mans > >", "stands within <city>"),
        ("je <city le mans >", "is no tag"),
    ],
)
def test_tags_are_checked_before_anything_else(recipe, text, words):
    write_set("dev", [(1.0, "roma", "roma"), (1.0, text, "je le mans")])
    with pytest.raises(DataError, match=words) as e:
        run(recipe())
    assert str(e.value.where).startswith("data/dev/text:2, utterance dev1, word ")
    assert not Path("dump").exists()


def test_a_tag_that_a_given_list_lacks_is_named(recipe):
    tokens = ["<blank>", "<unk>", "<city>", "<go>", ">", "<space>", *"abcehjlmnorsuvix", "à"]
    Path("list.txt").write_text("".join(f"{t}\n" for t in [*tokens, "<sos/eos>"]))
    with pytest.raises(DataError, match="<day> is not in the list of symbols") as e:
        run(recipe(tokens={"file": "list.txt"}))
    assert "data/dev/text:2, utterance dev1, word 2" in str(e.value.where)


def test_plain_texts_have_no_tags_and_are_there(recipe):
    write_set("dev", [(1.0, "à <city> roma >", "à <city> roma >")])
    with pytest.raises(DataError, match="the plain text has a tag") as e:
        run(recipe())
    assert e.value.where == "data/dev/plain:1, utterance dev0"
    write_set("dev", [(1.0, "à <city> roma >", "à milano")])
    run(recipe())
    assert any("1 plain texts of dev are not the words" in line for line in recipe.told)
    Path("data/dev/plain").unlink()
    with pytest.raises(DataError, match="needs a missing file") as e:
        run(recipe())
    assert e.value.where == Path("data/dev/plain")


def test_an_encoder_that_cannot_be_used_is_told_before_a_stage_runs(recipe, monkeypatch):
    make_bert(Path("other"))
    Path("other/model.safetensors").unlink()
    monkeypatch.setenv("SENTENCE_ENCODER", "other")
    with pytest.raises(DataError, match=r"no model\.safetensors"):
        stage.plan(recipe())
    monkeypatch.setenv("SENTENCE_ENCODER", "none")
    with pytest.raises(UsageError, match="names no sentence encoder"):
        stage.plan(recipe(sentence_encoder=""))
    with pytest.raises(DataError, match="there is no sentence encoder") as e:
        run(recipe(sentence_encoder="data/elsewhere"))
    assert "--stage prepare" in e.value.how
    for wrong, words in (({"pooling": "meen"}, "mean"), ({"poolin": "x"}, "did you mean")):
        with pytest.raises(UsageError) as u:
            stage.plan(recipe(**wrong))
        assert words in str(u.value)
    monkeypatch.setattr(stage.sentences, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match="need the package transformers"):
        stage.plan(recipe())


def test_code_that_calls_the_standard_stage_keeps_the_checks_of_audio(recipe):
    ctx = recipe(fs=8000)
    Path("c.yaml").write_text("frontend_conf: {fs: 16k}\n")
    assert stages.formats_audio(ctx.recipe)
    plans = [(s, stages.plan(ctx, s)) for s in (find("finetune"),)]
    found = {name: e for name, e in preflight._problems(ctx, plans) if e}
    assert "the front end is for 16000 Hz" in str(found["finetune audio"])
    unknown = recipe(train="trian")
    found = dict(preflight._problems(unknown, []))
    assert "did you mean 'train'?" in str(found["names of sets"])
