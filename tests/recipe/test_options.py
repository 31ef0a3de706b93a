# SPDX-License-Identifier: Apache-2.0
"""The command line: every spelling, every misuse, and values that stay text."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import UsageError
from espnet_ext.recipe import config, options
from espnet_ext.recipe.schema import Recipe

KEYS = {f.name for f in dataclasses.fields(Recipe)}


def parse(*argv: str) -> options.Options:
    return options.parse(list(argv), KEYS)


@pytest.mark.parametrize(
    "argv",
    [
        ("--stage", "3", "--stop-stage", "decode"),
        ("--stage=3", "--stop-stage=decode"),
        ("--stage=3", "--stop_stage=decode"),
        ("--stop_stage", "decode", "--stage", "3"),
    ],
)
def test_spellings(argv):
    opts = parse(*argv)
    assert (opts.stage, opts.stop_stage) == ("3", "decode")
    assert opts.argv == list(argv)


def test_flags_numbers_and_defaults():
    opts = parse("--dry_run", "--list", "--debug", "--nj", "3", "--ngpu=0", "--num_procs", "2")
    assert (opts.dry_run, opts.list_only, opts.debug, opts.force) == (True, True, True, False)
    assert (opts.nj, opts.ngpu, opts.num_procs, opts.num_nodes) == (3, 0, 2, 1)
    empty = parse()
    assert (empty.stage, empty.nj, empty.ngpu, empty.executor) == ("", None, None, "local")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--stage"], "--stage needs a value"),
        (["--stage", "--stop-stage", "2"], "--stage needs a value"),
        (["--stage="], "--stage needs a value"),
        (["--stop_stage", " "], "--stop_stage needs a value"),
        (["--title"], "--title needs a value"),
        (["--name", "--force"], "--name needs a value"),
        (["3"], "'3' is not an option"),
        (["-stage", "3"], "'-stage' is not an option"),
        (["--"], "'--' is not an option"),
        (["--stage", "1", "2"], "'2' is not an option"),
        (["--force=1"], "--force takes no value"),
        (["--dry_run="], "--dry-run takes no value"),
        (["--nj", "0"], "--nj must be a whole number from 1, not '0'"),
        (["--nj", "-1"], "--nj must be a whole number from 1, not '-1'"),
        (["--nj=abc"], "not 'abc'"),
        (["--nj="], "not ''"),
        (["--nj", "1.5"], "not '1.5'"),
        (["--ngpu", "-1"], "--ngpu must be a whole number from 0"),
        (["--stagee", "3"], "did you mean 'stage'?"),
        (["--finetun.config", "x"], "unknown option --finetun.config"),
        (["--stop-stages", "3"], "did you mean 'stop-stage'?"),
        (["--="], "unknown option"),
    ],
)
def test_misuse(argv, says):
    with pytest.raises(UsageError) as e:
        parse(*argv)
    assert says in str(e.value)
    assert e.value.exit_code == 2


@pytest.fixture(scope="module")
def recipe_yaml(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "recipe.yaml"
    path.write_text("title: old\nfinetune: {config: conf/train.yaml}\n")
    return path


# What can stand in argv: any text without NUL; the shell's and YAML's special texts more often.
SPECIAL = ["$(touch X)", "`touch X`", "; touch X", "'", '"', "!!python/object:os.system", "--x"]
SPECIAL += ["a: b", "%TAG", "2001-99-99", "...", "010", "1_0", ".", "- a", "*a", "\n", "null "]
TEXT = st.sampled_from(SPECIAL) | st.text(st.characters(exclude_categories=["Cs"])).map(
    lambda s: s.replace("\0", "")
)


@given(TEXT)
def test_title_arrives_unchanged(recipe_yaml, text):
    opts = parse(f"--title={text}")
    assert config.load(recipe_yaml, opts.overrides).title == text
    if not text.startswith("--"):
        opts = parse("--title", text)
        assert config.load(recipe_yaml, opts.overrides).title == text


@given(TEXT)
def test_free_value_is_text_or_plain_data(recipe_yaml, text):
    opts = parse(f"--finetune.args.x={text}")
    try:
        value = config.load(recipe_yaml, opts.overrides).finetune.args["x"]
    except UsageError:
        assert text[0] in "[{"
        return
    if isinstance(value, bool):
        assert text == str(value).lower()
    elif isinstance(value, int | float):
        assert value == type(value)(text)
    elif value is None:
        assert text in ("null", "none")
    elif isinstance(value, list | dict):
        assert text[0] in "[{"
    else:
        assert value == text


@pytest.mark.parametrize("text", SPECIAL)
def test_special_texts_are_never_evaluated(recipe_yaml, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    opts = parse(f"--finetune.args.x={text}", f"--title={text}", f"--prepare.args={text}")
    recipe = config.load(recipe_yaml, opts.overrides)
    assert recipe.finetune.args["x"] == (10 if text == "010" else text)
    assert recipe.title == text
    assert recipe.prepare.args == [text]
    assert list(Path.cwd().iterdir()) == []


def test_without():
    argv = [
        "--stage",
        "3",
        "--nj=2",
        "--stop_stage=4",
        "--debug",
        "--title",
        "a b",
        "--stop-stage",
        "5",
    ]
    kept = options.without(argv, {"stage", "stop-stage"})
    assert kept == ["--nj=2", "--debug", "--title", "a b"]
    assert options.without(argv, {"title", "debug"})[-2:] == ["--stop-stage", "5"]
    assert options.without(["--title=--stage", "--list"], {"stage", "list"}) == ["--title=--stage"]
