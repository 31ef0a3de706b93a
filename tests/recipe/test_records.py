# SPDX-License-Identifier: Apache-2.0
"""A stage runs again when, and only when, something that it depends on changed."""

import os
from pathlib import Path

import pytest

from espnet_ext.errors import DataError
from espnet_ext.recipe import content, records, stages
from espnet_ext.recipe.stages import Plan


@pytest.fixture
def done(folder):
    """Return (context, stage, plan) of a stage that is recorded as done."""
    folder.write("in.txt", "a")
    folder.write("out.txt", "b")
    ctx = folder.context("format")
    plan = Plan(
        needs=[Path("in.txt")],
        makes=[Path("out.txt")],
        settings={"fs": 16000, "sub": {"a": 1, "b": (1, 2)}, "path": Path("x")},
    )
    records.write(ctx, ctx.stage, plan, records.current(plan), 1.25)
    return ctx, ctx.stage, plan


def fingerprint(path) -> str:
    known = content.Contents()
    try:
        return known.fingerprint(Path(path))
    finally:
        known.save()


def why(ctx, stage, plan) -> str:
    return records.why_run(ctx, stage, plan, records.current(plan))


def test_unchanged_is_up_to_date(done):
    assert why(*done) == ""
    os.utime("in.txt", (1, 1))  # content counts, not time
    assert why(*done) == ""


def test_record_says_what_was_done(done):
    record = records.read(done[0].done_path(done[1]))
    assert record["stage"] == "format"
    assert record["wall_s"] == 1.25


def test_changes_are_named(done, folder):
    _, _, plan = done
    plan.settings = {**plan.settings, "fs": 8000, "sub": {"a": 1, "b": (1, 3)}, "new": 1}
    folder.write("in.txt", "b")
    assert why(*done) == "changed: fs, new, sub.b, in.txt"


def test_a_missing_product_and_input(done):
    Path("out.txt").unlink()
    assert why(*done) == "out.txt is gone"
    Path("out.txt").write_text("b")
    Path("in.txt").unlink()
    assert why(*done) == "changed: in.txt"


def test_products_of_other_settings_are_not_gone(done):
    _, _, plan = done
    plan.settings, plan.makes = {**plan.settings, "fs": 8000}, [Path("other.txt")]
    assert why(*done) == "changed: fs"
    Path("out.txt").unlink()  # what the former settings made is not asked for
    assert why(*done) == "changed: fs"


def test_inputs_stand_for_needs(done, folder):
    _, _, plan = done
    plan.inputs = []
    assert why(*done) == "changed: in.txt"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"settings"'])
def test_a_damaged_record_is_named_and_counts_as_none(done, content):
    ctx, stage, _ = done
    ctx.done_path(stage).write_bytes(content)
    assert why(*done) == "its record .stages/format.json is damaged"
    ctx.done_path(stage).unlink()
    assert why(*done) == "first run"


def test_shared_stages_do_not_depend_on_the_experiment(folder):
    ctx = folder.context()
    ctx.recipe.name = "try2"
    assert ctx.done_path(stages.find("format")) == Path(".stages/format.json")
    assert ctx.done_path(stages.find("finetune")) == Path("exp/try2/.stages/finetune.json")


def test_fingerprint_of_a_folder(folder):
    folder.write("dir/a", "1")
    folder.write("dir/sub/b", "2")
    seen = [fingerprint(Path("dir"))]
    folder.write("dir/__pycache__/c.pyc", "3")
    assert fingerprint(Path("dir")) == seen[0]
    for name, text in (("dir/sub/b", "3"), ("dir/new", ""), ("dir/a", "")):
        folder.write(name, text)
        seen.append(fingerprint(Path("dir")))
    Path("dir/a").rename("dir/z")
    seen.append(fingerprint(Path("dir")))
    assert len(set(seen)) == 5
    assert fingerprint(Path("nowhere")) == "missing"


def test_large_files_are_known_by_size_and_time(folder, monkeypatch):
    monkeypatch.setattr(content, "HASH_WHOLE_MB", 0)
    path = folder.write("big", "12345")
    first = fingerprint(path)
    assert first.startswith("5:")
    os.utime(path, (1, 1))
    assert fingerprint(path) != first


def test_missing_need_names_the_stage_that_makes_it(folder):
    folder.recipe(format={}, tokens={"type": "char"})
    ctx = folder.context("tokens")
    plan = stages.plan(ctx, ctx.stage)
    with pytest.raises(DataError, match=r"dump/train/text(.|\n)*fix:   restore it"):
        records.check_needs(ctx, stages.find("tokens"), plan)
    plan.needs = [Path("dump/train/wav.scp")]
    with pytest.raises(DataError, match=r"dump/train/wav.scp(.|\n)*fix:   ./run.sh --stage 2"):
        records.check_needs(ctx, stages.find("tokens"), plan)
    folder.write("dump/train/wav.scp", "")
    records.check_needs(ctx, stages.find("tokens"), plan)


def test_a_moved_recipe_has_the_same_data(tmp_path, monkeypatch):
    prints = []
    for name in ("here", "there"):
        folder = tmp_path / name / "dump"
        folder.mkdir(parents=True)
        monkeypatch.chdir(folder.parent)
        (folder / "wav.scp").write_text(f"a {folder}/wav/a.flac\nb /corpus/b.flac\n")
        prints.append(fingerprint(folder / "wav.scp"))
    assert prints[0] == prints[1]
    (folder / "wav.scp").write_text("a /other/a.flac\nb /corpus/b.flac\n")
    assert fingerprint(folder / "wav.scp") != prints[1]


@pytest.fixture
def audio(folder):
    """A recipe with ``wav/{a,b}.wav`` in it and data/ and dump/ tables of them."""
    for name in "ab":
        folder.write(f"wav/{name}.wav", name * 50_000)
    for part in ("data", "dump"):
        folder.write(f"{part}/x/wav.scp", f"a {folder.path}/wav/a.wav\nb wav/b.wav\n")
    return folder


def prints() -> list[str]:
    return [fingerprint(f"{part}/x/wav.scp") for part in ("data", "dump")]


def test_audio_that_is_replaced_under_its_path_is_a_change(audio):
    before = prints()
    assert prints() == before
    size = Path("wav/b.wav").stat().st_size
    Path("wav/b.wav").write_text("c" * size)  # same size, other content
    changed = prints()
    assert changed[0] != before[0] and changed[1] != before[1]
    Path("wav/b.wav").write_text("b" * size)
    assert prints() == before
    Path("wav/b.wav").write_text("b" * (size - 7))
    assert prints()[1] not in (before[1], changed[1])
    Path("wav/b.wav").unlink()
    assert prints()[1] not in (before[1], changed[1])


def test_audio_that_is_the_same_is_not_read_again(audio, monkeypatch):
    before = prints()
    monkeypatch.setattr(content, "_sample", lambda *_: 1 / 0)
    assert prints() == before
    os.utime("wav/a.wav", (1, 1))
    with pytest.raises(ZeroDivisionError):
        prints()


def test_audio_that_moves_changes_what_formatting_reads_only(audio):
    before = prints()
    Path("wav").rename("there")
    for part in ("data", "dump"):
        audio.write(f"{part}/x/wav.scp", "a there/a.wav\nb there/b.wav\n")
    after = prints()
    assert after[0] != before[0] and after[1] == before[1]


def test_a_damaged_product_is_made_again_and_an_edited_list_is_kept(folder):
    for name in ("data/x/text", "dump/x/text"):
        folder.write(name, "a 1\nb 2\nc 3\n")
    folder.write("exp/m/model.pth", "12345")
    folder.write("RESULTS.md", "1")
    ctx = folder.context("format")
    plan = Plan(makes=[*map(Path, ("data/x/text", "dump/x/text", "exp/m", "RESULTS.md"))])
    records.write(ctx, ctx.stage, plan, records.current(plan), 1.0)
    done = ctx, ctx.stage, plan
    folder.write("RESULTS.md", "another experiment wrote it")
    assert why(*done) == ""
    folder.write("dump/x/text", "a 1\nb 2\n")
    assert why(*done) == "dump/x/text has 2 lines, 3 were made"
    folder.write("dump/x/text", "a 1\nb 2\nc 3\n")
    folder.write("data/x/text", "a 1\nc corrected\n")
    assert why(*done) == ""
    assert records.edited(ctx, ctx.stage) == ["data/x/text has 2 lines, 3 were made"]
    folder.write("data/x/text", "a 1\nc corr")
    assert why(*done) == "data/x/text has 1 lines, 3 were made"
    folder.write("data/x/text", "a 1\nb 2\nc 3\n")
    folder.write("exp/m/model.pth", "123")
    assert why(*done) == "exp/m/model.pth is not what the stage made"
    folder.write("exp/m/model.pth", "12345")
    folder.write("exp/m/more", "x")
    assert why(*done) == ""


def test_formatted_audio_that_is_lost_or_cut_is_made_again(audio):
    ctx = audio.context("format")
    audio.write("dump/x/wav.scp", "a wav/a.wav\nb wav/b.wav\n")
    plan = Plan(makes=[Path("dump/x/wav.scp")])
    records.write(ctx, ctx.stage, plan, records.current(plan), 1.0)
    assert why(ctx, ctx.stage, plan) == ""
    audio.write("wav/a.wav", "short")
    assert "the audio of dump/x/wav.scp is not" in why(ctx, ctx.stage, plan)


def test_transcripts_of_a_corpus_count_and_its_audio_does_not(folder):
    folder.write("corpus/etc/trans.txt", "a 1")
    folder.write("corpus/wav/a.wav", "1")
    ctx, plan = folder.context("prepare"), Plan(corpora={"AN4": Path("corpus")})
    records.write(ctx, ctx.stage, plan, records.current(plan), 1.0)
    done = ctx, ctx.stage, plan
    folder.write("corpus/wav/a.wav", "22")
    assert why(*done) == ""
    folder.write("corpus/etc/trans.txt", "a 2")
    assert why(*done) == "changed: lists of AN4"
    Path("corpus").rename("gone")  # what was made of it is still good
    assert why(*done) == ""


def test_tables_name_files_of_the_recipe_relative_to_it(folder):
    table = folder.write("t", f"a {folder.path}/x y.wav\nb sox {folder.path}/b.wav - |\nc /c.wav\n")
    content.make_relative(table)
    assert table.read_text() == "a x y.wav\nb sox b.wav - |\nc /c.wav\n"


def test_experiments_that_have_what_a_new_name_lacks_are_named(folder):
    ctx = folder.context("decode")
    file = Path("finetune/valid.acc.ave.pth")
    plan = Plan(needs=[ctx.exp / file], makes=[])
    for name in ("method_s1", "other"):
        folder.write(f"exp/{name}/{file if name != 'other' else 'finetune/1epoch.pth'}", "")
    with pytest.raises(DataError) as e:
        records.check_needs(ctx, ctx.stage, plan)
    assert e.value.how.endswith("; or take an experiment that has it: --name method_s1")
    folder.write(f"exp/{ctx.recipe.name}/.stages/finetune.json", "{}")  # its own file is lost
    with pytest.raises(DataError) as e:
        records.check_needs(ctx, ctx.stage, plan)
    assert "--name method_s1" not in e.value.how
