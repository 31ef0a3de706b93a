# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext upstream``: write the branch, check it, tell what is missing."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext import commandline
from espnet_ext.errors import UsageError
from espnet_ext.installation import project_file
from espnet_ext.paths import absolute
from espnet_ext.upstream import worktree

if TYPE_CHECKING:  # --help is to be quick
    import argparse

    from espnet_ext.upstream.checks import Branch, Check
    from espnet_ext.upstream.plan import Plan
    from espnet_ext.upstream.tree import Tree

USAGE = """usage: espnet-ext upstream RECIPE --espnet CHECKOUT [options]

Write a recipe as a branch of ESPnet, in a git worktree beside the checkout, and run ESPnet's own
checks on it as far as they can be run offline. Nothing is committed or pushed; the checkout's own
branch and files stay as they are.

  RECIPE               folder of a recipe, or corpus/method: an4/asr1, an4/weak_align1
  --espnet CHECKOUT    a git checkout of ESPnet, the newest
  --layout egs3|egs2   layout of the recipe (default: egs3)
  --worktree DIR       folder of the worktree (default: beside the checkout)
  --base REF           what the branch starts from (default: HEAD of the checkout)
  --smoke              also train on 20 batches and score; needs the corpus, e.g. AN4=/path
  --check              check a branch that was written before; writes nothing but its PR_BODY.md
  --force              remove a branch and a worktree of the same names before

A check whose tool is not installed is listed as not available, with the command that installs it;
it never counts as passed. Formatting and style: the extra 'upstream'. Training with ESPnet3 needs
lightning besides.

Exit codes: 0 done, 2 the recipe cannot be sent (the message says why), 3 a check failed."""


def main(argv: list[str]) -> int:
    """Run the command; return the exit code."""
    if commandline.asks_for_help(argv):
        print(USAGE)
        return 0
    p = commandline.Parser("espnet-ext upstream")
    p.add_argument("recipe", metavar="RECIPE")
    p.add_argument("--espnet", required=True, metavar="CHECKOUT")
    p.add_argument("--layout", choices=("egs3", "egs2"), default="egs3")
    p.add_argument("--worktree", metavar="DIR")
    p.add_argument("--base", metavar="REF", default="HEAD")
    for flag in ("--smoke", "--check", "--force"):
        p.add_argument(flag, action="store_true")
    args = commandline.parse(p, argv)
    from espnet_ext.upstream.plan import plan, recipe_folder

    what = plan(recipe_folder(args.recipe, absolute("."), project_file(".")), args.layout)
    root = worktree.checkout_root(absolute(args.espnet), args.layout)
    folder = (
        absolute(args.worktree) if args.worktree else worktree.default_worktree(root, what.branch)
    )
    if args.check and worktree.worktree_of(root, what.branch) is None:
        raise UsageError(f"no worktree has the branch {what.branch}", root, "leave out --check")
    if not args.check:
        worktree.check_free(root, what.branch, folder, args.force)
    tree = _build(what, root)
    if not args.check:
        _write(tree, what, root, folder, args)
    return _checked(tree, what, worktree.worktree_of(root, what.branch) or folder, args.smoke)


def _build(what: "Plan", root: Path) -> "Tree":
    from espnet_ext.plugin import load_object

    return load_object(f"espnet_ext.upstream.{what.layout}:build", "--layout")(what, root)


def _write(
    tree: "Tree", what: "Plan", root: Path, folder: Path, args: "argparse.Namespace"
) -> None:
    from espnet_ext.upstream.checks import Branch, formatted

    worktree.add(root, what.branch, folder, args.base)
    worktree.write(tree, folder)
    branch = Branch(folder, tree.folder, tuple(tree.paths), what.recipe.corpus.licence)
    by = formatted(branch)
    worktree.stage(folder, tree.paths)
    print(f"branch {what.branch} in {folder}")
    print(f"recipe {tree.folder}, {len(tree.paths)} files, formatted by {by or 'nothing'}")
    for section, notes in tree.result.deviations.items():
        for note in notes:
            print(f"  deviation: {section}: {note}")


def _checked(tree: "Tree", what: "Plan", folder: Path, smoke: bool) -> int:
    from espnet_ext.upstream.checks import FAILED, MISSING, NOT_RUN, Branch, Check

    paths = tuple(path for path, _ in worktree.changed(folder))
    branch = Branch(folder, tree.folder, paths, what.recipe.corpus.licence)
    done: list[Check] = []
    for check in _checks(branch, what, smoke):
        print(check, flush=True)
        done.append(check)
    body = tree.body.replace("@CHECKS@", "\n".join(f"  - {c.name}: {c.state}" for c in done))
    size = next(c.detail for c in done if c.name == "size")
    (folder / worktree.BODY).write_text(body.replace("@COUNTS@", size), encoding="utf-8")
    failed = [c.name for c in done if c.state == FAILED]
    open_ = [c.name for c in done if c.state in (MISSING, NOT_RUN)]
    if open_:
        print(f"{len(open_)} checks were not run: {'; '.join(open_)}")
    if failed:
        print(f"{len(failed)} checks failed: {'; '.join(failed)}")
        return 3
    print(f"text of the pull request: {folder / worktree.BODY}")
    print(f"next: cd {folder}; read git diff --cached; git commit; git push YOUR-FORK HEAD")
    return 0


def _checks(branch: "Branch", what: "Plan", smoke: bool) -> Iterator["Check"]:
    from espnet_ext.upstream.checks import NOT_RUN, Check, static_checks
    from espnet_ext.upstream.dynamic import dry_run, tests
    from espnet_ext.upstream.smoke import NAME as SMOKE
    from espnet_ext.upstream.smoke import smoke as short_run

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    yield from static_checks(branch)
    if what.layout == "egs2":
        from espnet_ext.upstream.checks_egs2 import all_checks

        yield from all_checks(branch)
        yield Check(
            SMOKE, NOT_RUN, "run.sh needs Kaldi's scripts: run it where ESPnet is installed"
        )
        return
    yield tests(branch)
    yield dry_run(branch)
    yield short_run(branch, what, smoke)
