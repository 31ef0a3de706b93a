# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext new egs2/CORPUS/METHOD [--from [NAME=]DIR ...] [--fs HZ] [--lang CODE]

Make a recipe for another corpus from egs2/TEMPLATE/METHOD. METHOD is asr1, weak_align1, bl_just1,
ml_lmcl1, dual_task1 or multistage1; CORPUS has small letters, digits and _.

  --from [NAME=]DIR ...  data folders that exist, one for each set (or the folder that holds them
                         all): the recipe takes its data from there and runs at once. NAME is the
                         set, where DIR is called otherwise: --from train=/data/tr05 dev=/data/dt05
                         test=/data/et05; further test sets are test_NAME
  --fs HZ                sampling rate of the models (default: 16000)
  --lang CODE            language of the speech, e.g. en

The values that only you know are EDIT in recipe.yaml; './run.sh --doctor' lists them. EDIT in a
comment marks what a corpus may want otherwise.
"""

import os
import re
from pathlib import Path

from espnet_ext import installation
from espnet_ext.commandline import Parser, asks_for_help, parse
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe import config, new_files, new_sets

CORPUS = re.compile(r"[a-z][a-z0-9_]*")
# Their variable, e.g. PATH, has another meaning for the shell or for recipes.
TAKEN = ("display", "editor", "home", "lang", "mail", "path", "pwd", "python", "shell", "template",
         "term", "test", "tmpdir", "user", "valid")  # fmt: skip
TEMPLATES = "egs2/TEMPLATE"
RATES_HZ = range(4000, 48001)


def main(argv: list[str]) -> int:
    """Make the recipe that the options ask for and tell how to go on.

    Raises:
        UsageError: A wrong name or option, the folder exists, or this is no clone.
        DataError: A folder of ``--from`` cannot be used.
    """
    if asks_for_help(argv):
        print(__doc__.rstrip())
        return 0
    p = Parser("espnet-ext new")
    p.add_argument("recipe")
    p.add_argument("--from", nargs="+", default=[], dest="folders")
    p.add_argument("--fs", type=int)
    p.add_argument("--lang", default="")
    args = parse(p, argv)
    root, tree, alone = places(Path.cwd())
    corpus, method = names(args.recipe, tree)
    target = root / "egs2" / corpus / method
    if target.exists():
        raise UsageError("the folder exists", target, "take another name, or remove it")
    if args.fs is not None and args.fs not in RATES_HZ:
        how = f"{RATES_HZ[0]} to {RATES_HZ[-1]}, for example 8000"
        raise UsageError(f"the sampling rate cannot be {args.fs} Hz", "--fs", how)
    template = tree / TEMPLATES / method
    if args.fs and "wav.scp" not in config.load(template / "recipe.yaml").data.files:
        raise UsageError(f"{method} reads no audio", "--fs", "leave the option out")
    sets = new_sets.read(args.folders, template) if args.folders else {}
    values = new_files.Values(corpus, sets, args.fs, args.lang)
    made = new_files.make(target, template, values, alone)
    tell(target, made, bool(sets))
    return 0


def places(here: Path) -> tuple[Path, Path, bool]:
    """Return where recipes go, where the templates are, and whether there is no clone around.

    Raises:
        UsageError: The package is that of a clone, and the current folder is outside of it.
    """
    shipped = installation.project_file(TEMPLATES).parents[1]
    for folder in (here, *here.parents):
        if (folder / "egs2").is_dir() and (folder / "utils/recipe.sh").is_file():
            own = (folder / TEMPLATES).is_dir()
            return folder, folder if own else shipped, False
    if own_clone := installation.clone():
        raise UsageError("this folder is not inside the clone", here, f"cd {own_clone}")
    return here, shipped, True


def names(recipe: str, tree: Path) -> tuple[str, str]:
    """Return corpus and method of ``egs2/CORPUS/METHOD``.

    Raises:
        UsageError: It has another form, or one of the two is not usable.
    """
    parts = recipe.strip("/").split("/")
    if parts[:1] == ["egs2"]:
        parts = parts[1:]
    if len(parts) != 2:
        raise UsageError(f"'{recipe}' names no recipe", None, "egs2/CORPUS/METHOD, egs2/mine/asr1")
    corpus, method = parts
    methods = [p.parent.name for p in tree.glob(f"{TEMPLATES}/*/recipe.yaml")]
    if method not in methods:
        raise UsageError(f"there is no method '{method}'", recipe, nearest(method, methods))
    if not CORPUS.fullmatch(corpus) or corpus in TAKEN:
        why = "has a meaning of its own" if corpus in TAKEN else "cannot name a corpus"
        how = "small letters, digits and _, a letter first, for example my_corpus"
        raise UsageError(f"'{corpus}' {why}", recipe, how)
    return corpus, method


def tell(target: Path, made: list[str], ready: bool) -> None:
    """Print what was made and the next three commands."""
    print(f"made {os.path.relpath(target)}: {', '.join(made)}")
    print("next:")
    commands = ["./run.sh --doctor", "./run.sh"]
    if not ready:
        corpus = config.load(target / "recipe.yaml").corpus
        variable = " ".join(f"{name}=/path" for name in (corpus.env, *corpus.more_env))
        commands = ["grep -rn EDIT .  # the questions, each beside its value",
                    f"{variable} ./run.sh --doctor  # what is still open"]  # fmt: skip
    for command in (f"cd {os.path.relpath(target)}", *commands):
        print(f"  {command}")
