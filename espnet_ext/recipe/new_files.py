# SPDX-License-Identifier: Apache-2.0
"""The files of a new recipe: those of a template, and what these name of other recipes.

A template names a file of another recipe where both are the same, ``config:
../../manifest/dual_task1/conf/finetune.yaml``: the new recipe gets a copy, ``conf/finetune.yaml``.
Outside of a clone the scripts of ``local/`` that it needs are copied as well.
"""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.files import atomic_dir
from espnet_ext.recipe import config, new_sets

TEMPLATE, MANIFEST = "TEMPLATE", "MANIFEST"  # stand for the corpus and its variable in templates
GUIDE = "egs2/TEMPLATE/README.md"
COMMENTS = 32  # column of comments in recipe.yaml
USUAL_HZ = 16000  # of the templates
ENGLISH = ("en", "eng", "english")
OWN_OPTIONS = ("bl_just1",)  # its script has an option for each set
TELL_LANGUAGE = ("dual_task1",)  # to its script
OTHER_SET = {"dev": "valid"}  # names of those options
_NAMED = re.compile(r"(?:\.\./)+[\w./-]+\.(?:yaml|py|sh)")
_OWN = re.compile(r"(?<![\w./])local/\w+\.py")
_IMPORTS = re.compile(r"^(?:from|import) (\w+)", re.M)
# What the recipe reads: lists, or folders of --from.
_LISTS = re.compile(r"<!-- lists -->\n(.*?)\n<!-- from: (.*?) -->\n", re.S)
_STAGE_1 = re.compile(r"^# Stage 1\. EDIT: .*$", re.M)  # on the scripts that read lists
_FRONTEND = re.compile(r"^frontend_conf: \{fs: 16k, n_fft: 512, win_length: 400, hop_length: (\d+)",
                       re.M)  # fmt: skip


@dataclass(frozen=True)
class Values:
    """What a new recipe is made for.

    Attributes:
        corpus: Its name.
        sets: Data folders that exist, by set; empty: the corpus is read from its lists.
        fs_hz: Sampling rate of the models; None: that of the template.
        language: Of the speech; empty: not told.
    """

    corpus: str
    sets: dict[str, Path]
    fs_hz: int | None = None
    language: str = ""

    @property
    def variable(self) -> str:
        """Name of the environment's variable with the path of the corpus."""
        return self.corpus.upper()

    def filled(self, text: str) -> str:
        """Return a text of a template for this corpus."""
        text = re.sub(rf"\b{MANIFEST}\b", self.variable, text)
        return re.sub(rf"(?<!egs2/){TEMPLATE}", self.corpus, text)


def make(target: Path, template: Path, values: Values, alone: bool) -> list[str]:
    """Write the folder of a recipe; return the names of its files.

    Args:
        target: It must not exist.
        template: ``egs2/TEMPLATE/METHOD``.
        values: What it is made for.
        alone: There is no clone around the recipe.
    """
    with atomic_dir(target) as out:
        files = _Files(template, out, values, alone)
        for path in template.glob("conf/*.yaml"):
            files.write(f"conf/{path.name}", at_rate(_text(path), values.fs_hz or USUAL_HZ))
        recipe = files.brought(_text(template / "recipe.yaml"))
        recipe = _without_paths(_recipe(recipe, template, values), template, values)
        files.write("recipe.yaml", recipe)
        files.write("local/data.sh", files.brought(_script(template, bool(values.sets))))
        readme, run = _text(template / "README.md"), _text(template / "run.sh")
        if alone:
            run = run.replace("../../../utils/recipe.sh", "espnet-ext recipe")
            readme = readme.replace(GUIDE, "STEPS.md")
            files.write("STEPS.md", _text(template.parent / "README.md"))
        readme = _LISTS.sub(lambda m: f"{m[2 if values.sets else 1]}\n", readme)
        files.write("README.md", _without_paths(readme, template, values))
        files.write("run.sh", run)
        return sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())


class _Files:
    """The folder in the making."""

    def __init__(self, template: Path, out: Path, values: Values, alone: bool):
        self.template, self.out, self.values, self.alone = template, out, values, alone

    def write(self, name: str, text: str) -> None:
        """Write a file of the recipe."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.values.filled(text), encoding="utf-8")
        path.chmod(0o755 if path.suffix == ".sh" else 0o644)

    def brought(self, text: str) -> str:
        """Copy the files that a text names; return the text with their names in the new recipe."""
        return "".join(map(self._brought_line, text.splitlines(keepends=True)))

    def _brought_line(self, line: str) -> str:
        code, mark, comment = line.partition("#")
        for name in _OWN.findall(code):
            if (self.template / name).is_file():
                self._copy(self.template / name, name)
        return _NAMED.sub(lambda m: self._named(m[0]), code) + mark + comment

    def _named(self, name: str) -> str:
        source = (self.template / name).resolve()
        if not source.is_file():
            return name  # not a file of the repository
        here = "/".join(source.parts[-2:])
        if source.is_relative_to(self.template.parents[1].resolve()):  # egs2
            self._copy(source, here)
        elif self.alone:
            self._copy_script(source)
        else:
            return name
        return here

    def _copy(self, source: Path, here: str) -> None:
        text = source.read_text(encoding="utf-8")
        self.write(here, at_rate(text, self.values.fs_hz or USUAL_HZ))

    def _copy_script(self, source: Path) -> None:
        """Copy a script of ``local/`` as it is, and those beside it that it imports."""
        target = self.out / "local" / source.name
        if target.exists() or not source.is_file():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        for module in _IMPORTS.findall(source.read_text(encoding="utf-8")):
            self._copy_script(source.with_name(f"{module}.py"))


def at_rate(conf: str, fs_hz: int) -> str:
    """Return a training configuration with the front end of another sampling rate.

    Window and shift stay the same in seconds; the FFT is the shortest power of two that holds the
    window.
    """

    def scaled(match: re.Match) -> str:
        window, shift = (round(n * fs_hz / USUAL_HZ) for n in (400, int(match[1])))
        points = 1 << (window - 1).bit_length()
        return (f"frontend_conf: {{fs: {fs_hz}, n_fft: {points}, win_length: {window}, "
                f"hop_length: {shift}")  # fmt: skip

    return conf if fs_hz == USUAL_HZ else _FRONTEND.sub(scaled, conf)


def _without_paths(text: str, template: Path, values: Values) -> str:
    """Return a text whose commands name no path of the corpus, where its folders are known."""
    corpus = config.load(template / "recipe.yaml").corpus
    variables = "|".join([corpus.env, *corpus.more_env])
    return re.sub(rf"\[?\b(?:{variables})=/\S+ ", "", text) if values.sets else text


def _script(template: Path, existing: bool) -> str:
    """Return the text of local/data.sh."""
    if existing and template.name not in (*OWN_OPTIONS, *TELL_LANGUAGE):
        return _text(template.parent / "asr1/local/from.sh")
    return _text(template / "local/data.sh")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _recipe(text: str, template: Path, values: Values) -> str:
    """Return recipe.yaml with what is known of the corpus."""
    for name, stands_for in ((values.corpus, TEMPLATE), (values.variable, MANIFEST)):
        key = "corpus.name" if stands_for == TEMPLATE else "corpus.env"
        if f"  {key[7:]}: {stands_for} " in text:
            text = set_value(text, key, name)
    if values.fs_hz:
        text = set_value(text, "format.fs", str(values.fs_hz))
    if values.language:
        text = set_value(text, "corpus.language", json.dumps(values.language))
        if "\n  oov: " in text and values.language.lower() in ENGLISH:
            text = set_value(text, "align.oov", "espeak")
    if not values.sets:
        return text
    for key in ("env", "layout", *(["language"] if not values.language else [])):
        text = set_value(text, f"corpus.{key}", '""')
    text = set_value(text, "corpus.licence", "not told")
    text = set_value(text, "corpus.source", "folders in prepare.args")
    text = re.sub(r"^  more_env: .*\n", "", text, flags=re.M)
    text = _STAGE_1.sub("# Stage 1 takes the folders that args name.", text)
    recipe = config.load(template / "recipe.yaml")
    tests = new_sets.tests(values.sets, recipe.data)
    text = text.replace("test: [test]", f"test: [{', '.join(tests)}]", 1) if tests else text
    args = [*recipe.prepare.args, *_folder_args(template.name, values)]
    return set_value(text, "prepare.args", json.dumps(args, ensure_ascii=False))


def _folder_args(method: str, values: Values) -> list[str]:
    """Return the arguments of local/data.sh that name existing folders."""
    if method in OWN_OPTIONS:
        return [x for name, folder in values.sets.items()
                for x in (f"--{OTHER_SET.get(name, name)}", str(folder))]  # fmt: skip
    args = ["--from", *(f"{name}={folder}" for name, folder in values.sets.items())]
    one = method in TELL_LANGUAGE and len(values.language.split()) == 1  # else utt2lang has them
    return [*args, "--language", values.language] if one else args


def set_value(text: str, key: str, value: str) -> str:
    """Return YAML with another value of ``section.key``, which has a line of its own.

    Comments stay, in their column where the value leaves room.

    Raises:
        KeyError: There is no such line.
    """
    section, name = key.split(".")
    before = rf"^{section}:.*\n(?:(?: .*|#.*)?\n)*?  {name}: "
    line = re.compile(rf"({before})([^#\n]*?)( *)(#.*)?$", re.M)

    def changed(match: re.Match) -> str:
        start = len(match[1].rpartition("\n")[2])
        width = min(len(match[2]) + len(match[3]), COMMENTS - start)
        room = max(1, width - len(value)) if match[4] else 0
        return match[1] + value + " " * room + (match[4] or "")

    new, count = line.subn(changed, text, count=1)
    if not count:
        raise KeyError(key)
    return new
