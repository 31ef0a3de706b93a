# SPDX-License-Identifier: Apache-2.0
"""A stage runs again when, and only when, something that it depends on changed."""

import os
from pathlib import Path

import pytest

from espnet_ext.errors import DataError
from espnet_ext.recipe import records, stages
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
    records.write(ctx, ctx.stage, records.current(plan), 1.25)
    return ctx, ctx.stage, plan


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
    Path("out.txt").touch()
    Path("in.txt").unlink()
    assert why(*done) == "changed: in.txt"


def test_inputs_stand_for_needs(done, folder):
    _, _, plan = done
    plan.inputs = []
    assert why(*done) == "changed: in.txt"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe{}", b'{"settings"'])
def test_corrupt_record_is_no_record(done, content):
    ctx, stage, _ = done
    ctx.done_path(stage).write_bytes(content)
    assert why(*done) == "not done yet"


def test_shared_stages_do_not_depend_on_the_experiment(folder):
    ctx = folder.context()
    ctx.recipe.name = "try2"
    assert ctx.done_path(stages.find("format")) == Path(".stages/format.json")
    assert ctx.done_path(stages.find("finetune")) == Path("exp/try2/.stages/finetune.json")


def test_fingerprint_of_a_folder(folder):
    folder.write("dir/a", "1")
    folder.write("dir/sub/b", "2")
    seen = [records.fingerprint(Path("dir"))]
    folder.write("dir/__pycache__/c.pyc", "3")
    assert records.fingerprint(Path("dir")) == seen[0]
    for name, text in (("dir/sub/b", "3"), ("dir/new", ""), ("dir/a", "")):
        folder.write(name, text)
        seen.append(records.fingerprint(Path("dir")))
    Path("dir/a").rename("dir/z")
    seen.append(records.fingerprint(Path("dir")))
    assert len(set(seen)) == 5
    assert records.fingerprint(Path("nowhere")) == "missing"


def test_large_files_are_known_by_size_and_time(folder, monkeypatch):
    monkeypatch.setattr(records, "HASH_WHOLE_MB", 0)
    path = folder.write("big", "12345")
    first = records.fingerprint(path)
    assert first.startswith("5:")
    os.utime(path, (1, 1))
    assert records.fingerprint(path) != first


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
        prints.append(records.fingerprint(folder / "wav.scp"))
    assert prints[0] == prints[1]
    (folder / "wav.scp").write_text("a /other/a.flac\nb /corpus/b.flac\n")
    assert records.fingerprint(folder / "wav.scp") != prints[1]
