# SPDX-License-Identifier: Apache-2.0
"""recipe.yaml and overrides: types, unknown keys, messages; the recipes of the project load."""

from pathlib import Path

import pytest
import yaml

from espnet_ext.dual_task.stages.decode import DecodeArgs
from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.stages.format import FormatArgs
from espnet_ext.recipe import config
from espnet_ext.recipe.schema import ExtraData, Recipe
from espnet_ext.recipe.stages import PHASES
from espnet_ext.settings import build

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(ROOT.glob("egs2/*/*/recipe.yaml"))


def load(folder, text: str, *overrides: tuple[str, str]) -> Recipe:
    return config.load(folder.write("recipe.yaml", text), list(overrides))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("titel: x", "unknown key 'titel'"),
        ("titel: x", "did you mean 'title'?"),
        ("titel: x", "recipe.yaml"),
        ("format: {fss: 8000}", "unknown key 'format.fss'"),
        ("format: {fss: 8000}", "did you mean 'fs'?"),
        (
            "finetune: {config: a, streams: [{name: a, file: b, typ: c}]}",
            "'finetune.streams[0].typ'",
        ),
        ("1: x", "unknown key '1'"),
        ("format: {fs: fast}", "'format.fs' must be int, not 'fast'"),
        ("format: {fs: true}", "'format.fs' must be int, not True"),
        ("format: {min_s: true}", "'format.min_s' must be float, not True"),
        ("format: {min_s: abc}", "'format.min_s' must be a number"),
        ("format: {speeds: 1.0}", "'format.speeds' must be a list"),
        ("format: {speeds: [a]}", "'format.speeds[0]' must be a number"),
        ("format: []", "'format' must be a section"),
        ("title: 3", "'title' must be str, not 3"),
        ("title: null", "'title' must be str, not None"),
        ("finetune: {config: a, args: [1]}", "'finetune.args' must be dict"),
        (
            "finetune: {config: a, extra_data: [1]}",
            "'finetune.extra_data' must be key: value lines",
        ),
        ("finetune: {task: asr}", "'finetune.config' is missing"),
        ("finetune: {config: a, extra_data: {u: {}}}", "'finetune.extra_data.u.set' is missing"),
        ("format: {fs: -5}", "'format.fs' must be at least 100, not -5"),
        ("format: {min_s: -1}", "'format.min_s' must be at least 0, not -1"),
        ("format: {min_s: .nan}", "'format.min_s' must be a number, not nan"),
        ("format: {min_s: 5, max_s: 2}", "min_s (5) must be below max_s (2)"),
        ("format: {min_s: 40}", "min_s (40) must be below max_s (30)"),
        ("format: {speeds: [0.9, 0]}", "'format.speeds[1]' must be above 0, not 0"),
        ("format: {speeds: [1, 1.0]}", "each speed must stand once"),
        ("format: {speeds: []}", "each speed must stand once"),
        ("format: {audio_format: flc}", "one of flac, wav (did you mean 'flac'?)"),
        ("format: {ctc_stride: 0}", "'format.ctc_stride' must be at least 1"),
        ("format: {channel: -1}", "'format.channel' must be at least 0"),
        ("prepare: {disk_mb: -1}", "'prepare.disk_mb' must be at least 0"),
        ("tokens: {type: chra}", "did you mean 'char'?"),
        ("tokens: {size: 0}", "'tokens.size' must be at least 1"),
        ("tokens: {model_type: unigarm}", "did you mean 'unigram'?"),
        ("pack: {foo: 1}", "unknown key 'pack.foo'"),
        ("seed: -1", "'seed' must be at least 0, not -1"),
        ("seed: 4294967296", "'seed' must be at most"),
        ("decode: {batch_s: 0}", "'decode.batch_s' must be above 0"),
        ("data: {train: ../x}", "'data.train' must be of the form"),
        ("data: {test: [a/b]}", "'data.test[0]' must be of the form"),
        ("finetune: {config: a, model: ../x.pth}", "'finetune.model' must be of the form"),
        ("title: x\ntitle: y", "the key 'title' stands twice"),
        ("title: x\ntitle: y", "recipe.yaml:2"),
        ("expect: " + "[" * 60 + "]" * 60, "nested more than 40 levels deep"),
        ("a: b: c", "recipe.yaml:1"),
        ("title: x\nrecipe: y\nname: [a, b", "recipe.yaml:3"),
        ("title: x\n\tname: y", "recipe.yaml:2"),
        ("seed: 2001-99-99", "not valid YAML"),
        ("- a", "must hold key: value lines"),
        ("", "must hold key: value lines"),
        ("title: !!python/object/apply:os.getcwd []", "not valid YAML"),
    ],
)
def test_wrong_recipe(folder, text, says):
    with pytest.raises(UsageError) as e:
        load(folder, text)
    assert says in str(e.value)


def test_no_recipe_and_no_text(folder):
    with pytest.raises(UsageError, match="is no recipe"):
        config.load(Path("elsewhere.yaml"))
    Path("recipe.yaml").write_bytes(b"title: \xff\n")
    with pytest.raises(UsageError, match="not valid YAML"):
        config.load(Path("recipe.yaml"))


@pytest.mark.parametrize(
    ("section", "key", "cls"),
    [
        ("decode", "before", DecodeArgs),
        ("format", "normalize", FormatArgs),
        ("format", "wer_text", FormatArgs),
    ],
)
def test_a_choice_may_be_called_none(folder, section, key, cls):
    args = getattr(load(folder, "title: x", (f"{section}.args.{key}", "none")), section).args
    assert getattr(build(cls, args, "recipe.yaml", f"{section}.args"), key) == "none"
    with pytest.raises(UsageError, match=f"'{section}.args.{key}' must be one of .*none"):
        build(cls, {key: "nine"}, "recipe.yaml", f"{section}.args")


@pytest.mark.parametrize("name", ["../x", "", "a b", "..", ".x", "a/b", "-x", "a\n", "$(x)"])
def test_bad_experiment_names(folder, name):
    with pytest.raises(UsageError, match="cannot name an experiment"):
        load(folder, "title: x", ("name", name))


BASE = (
    "format: {fs: 8000}\ndecode: null\nfinetune: {config: c, args: {a: 1, optim_conf: {lr: 1}}}\n"
)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("format.fs", "16000", 16000),
        ("format.min_s", "1e-3", 0.001),
        ("format.min_s", "2", 2.0),
        ("format.allow_pipes", "true", True),
        ("format.speeds", "[0.9, 1]", [0.9, 1.0]),
        ("format.speeds", "1.1", [1.1]),
        ("data.test", "a", ["a"]),
        ("data.test", "[a, b]", ["a", "b"]),
        ("data.train", "010", "010"),
        ("decode.method", "beam", "beam"),
        ("decode.args.beam_size", "5", 5),
        ("decode.method", "null", "null"),
        ("finetune", "null", None),
        ("finetune", "", None),
        ("finetune.args.a", "1e-3", 0.001),
        ("finetune.args.a", "-2", -2),
        ("finetune.args.a", "false", False),
        ("finetune.args.a", "null", None),
        ("finetune.args.a", "", ""),
        ("align.lexicon", "", ""),
        ("finetune.args.a", "1.2.3", "1.2.3"),
        ("finetune.args.a", "2001-01-01", "2001-01-01"),
        ("finetune.args.a", "[1, x, null]", [1, "x", None]),
        ("finetune.args.optim_conf", "{lr: 0.5}", {"lr": 0.5}),
        ("finetune.args.optim_conf.lr", "2", 2),
        ("finetune.args.new.sub.key", "text", "text"),
        ("midtrain.config", "conf/m.yaml", "conf/m.yaml"),
        ("finetune.extra_data.u.set", "extra", "extra"),
    ],
)
def test_overrides(folder, key, text, value):
    recipe = load(folder, BASE, (key, text))
    node = recipe
    for part in key.split("."):
        node = node[part] if isinstance(node, dict) else getattr(node, part)
    assert node == value
    assert type(node) is type(value)


def test_override_keeps_the_rest_and_the_last_wins(folder):
    recipe = load(
        folder, BASE, ("finetune.args.a", "2"), ("finetune.args.b", "3"), ("finetune.args.a", "4")
    )
    assert recipe.finetune.args == {"a": 4, "b": 3, "optim_conf": {"lr": 1}}
    recipe = load(folder, BASE, ("finetune.extra_data.u.set", "x"))
    assert isinstance(recipe.finetune.extra_data["u"], ExtraData)
    recipe = load(folder, BASE, ("decode.method", "beam"), ("decode", "null"))
    assert recipe.decode is None


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("format.fss", "1", "did you mean 'fs'?"),
        ("format.fs", "fast", "'format.fs' must be int"),
        ("format.fs", "2001-99-99", "is not a value for --format.fs"),
        ("format", "x", "--format is a section"),
        ("decode.", "x", "unknown option --decode."),
        ("format.speeds", "[1", "is not a value for --format.speeds"),
        ("finetune.streams.speech", "x", "'finetune.streams' must be a list"),
        ("format.fs", "-5", "'format.fs' must be at least 100"),
        ("format.min_s", "nan", "'format.min_s' must be a number"),
        ("seed", "-3", "'seed' must be at least 0"),
        ("finetune.args", "{a: 1, a: 2}", "the key 'a' stands twice"),
    ],
)
def test_wrong_overrides(folder, key, text, says):
    with pytest.raises(UsageError) as e:
        load(folder, BASE, (key, text))
    assert says in str(e.value)


@pytest.mark.parametrize(
    ("key", "text", "where"),
    [
        ("format.fs", "fast", "--format.fs"),
        ("seed", "abc", "--seed"),
        ("format.speeds", "[fast]", "--format.speeds"),
    ],
)
def test_a_wrong_value_is_looked_for_where_it_was_given(folder, key, text, where):
    with pytest.raises(UsageError) as e:
        load(folder, BASE, ("title", "x"), (key, text))
    assert str(e.value.where) == where


def test_there_are_recipes():
    assert {p.parent.relative_to(ROOT / "egs2").as_posix() for p in RECIPES} >= {
        "an4/asr1",
        "synth/asr1",
    }


@pytest.mark.parametrize(
    "path", RECIPES, ids=lambda p: p.parent.relative_to(ROOT / "egs2").as_posix()
)
def test_recipes_of_the_project(path):
    recipe = config.load(path)
    if path.parts[-3] != "TEMPLATE":
        assert recipe.recipe == "/".join(path.parts[-3:-1])
    assert recipe.title
    assert (path.parent / "run.sh").stat().st_mode & 0o111
    files = [recipe.prepare.script] if recipe.prepare else []
    files += [p.config for n in PHASES if (p := getattr(recipe, n)) is not None]
    for name in files:
        assert (path.parent / name).is_file(), name
    for conf in path.parent.glob("conf/*.yaml"):
        assert isinstance(yaml.safe_load(conf.read_text(encoding="utf-8")), dict), conf


def test_a_recipe_that_extends_another(folder):
    folder.write("shared.yaml", "title: x\nformat: {fs: 8000, max_s: 9.0}\nmidtrain: {config: m}\n")
    text = "extends: shared.yaml\nrecipe: a/b\nformat: {max_s: 12.0}\nmidtrain: null\n"
    recipe = load(folder, text, ("format.min_s", "1"))
    assert (recipe.title, recipe.recipe, recipe.midtrain) == ("x", "a/b", None)
    assert (recipe.format.fs, recipe.format.max_s, recipe.format.min_s) == (8000, 12.0, 1.0)
    with pytest.raises(UsageError, match="'extends' is no option"):
        load(folder, text, ("extends", "other.yaml"))


def test_an_option_for_one_section_is_not_for_another_with_the_same_yaml_anchor(folder):
    phase = {"config": "train.yaml", "args": {"x": 0}}
    folder.recipe(pretrain=phase, finetune=phase)  # dumped as an anchor and an alias
    assert "*id" in Path("recipe.yaml").read_text()
    made = config.load(Path("recipe.yaml"), [("finetune.args.x", "1")])
    assert (made.pretrain.args, made.finetune.args) == ({"x": 0}, {"x": 1})
