# SPDX-License-Identifier: Apache-2.0
"""A branch in a git worktree of the checkout: the checkout's own branch and files stay as they are.

Nothing is committed or pushed: the files are staged, so that the commit has its author's name.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.files import write_text
from espnet_ext.upstream.tree import Tree

BODY = "PR_BODY.md"  # beside the files of the branch, not one of them


def git(folder: Path, *args: str) -> str:
    """Return what git prints.

    Raises:
        SetupError: There is no git.
        DataError: It fails; the message is git's.
    """
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise SetupError("git is not installed", None, "install git") from None
    if done.returncode:
        raise DataError(f"git {' '.join(args[:2])}: {done.stderr.strip()}", folder)
    return done.stdout.strip()


def checkout_root(given: Path, layout: str) -> Path:
    """Return the top folder of a checkout of ESPnet.

    Raises:
        DataError: It is none, or has no such layout.
    """
    if not given.is_dir():
        raise DataError("there is no such folder", given, "--espnet names a checkout of ESPnet")
    root = Path(git(given, "rev-parse", "--show-toplevel"))
    needs = {"egs3": ("egs3", "espnet3"), "egs2": ("egs2/TEMPLATE/asr1", "espnet2")}[layout]
    missing = [name for name in needs if not (root / name).is_dir()]
    if missing:
        raise DataError(
            f"not a checkout of ESPnet with the layout {layout}: there is no {missing[0]}", root,
            "git clone https://github.com/espnet/espnet",
        )  # fmt: skip
    return root


def default_worktree(root: Path, branch: str) -> Path:
    """Return the folder beside the checkout."""
    return root.with_name(f"{root.name}-{branch.replace('/', '-')}")


def worktree_of(root: Path, branch: str) -> Path | None:
    """Return the worktree that has a branch checked out."""
    folder = None
    for line in git(root, "worktree", "list", "--porcelain").splitlines():
        key, _, value = line.partition(" ")
        if key == "worktree":
            folder = Path(value)
        elif line == f"branch refs/heads/{branch}":
            return folder
    return None


def branch_exists(root: Path, branch: str) -> bool:
    """Whether the checkout has a branch of that name."""
    return bool(git(root, "branch", "--list", branch))


def check_free(root: Path, branch: str, folder: Path, force: bool) -> None:
    """Check that a branch and a worktree of these names can be made.

    Args:
        root: Of the checkout.
        branch: Its name.
        folder: Of the worktree.
        force: What is there may be removed.

    Raises:
        UsageError: They exist.
    """
    there, known = worktree_of(root, branch), branch_exists(root, branch)
    if there == root:
        raise UsageError(f"the checkout itself is on {branch}", root, "git switch another one")
    if known and not force:
        steps = [f"git -C {root} worktree remove --force {there}"] if there else []
        steps.append(f"git -C {root} branch -D {branch}")
        raise UsageError(
            f"the branch {branch} exists", there or root,
            "--check checks it again; --force makes it anew; or remove it: " + " && ".join(steps),
        )  # fmt: skip
    if folder.exists() and folder != there:
        raise UsageError("the folder of the worktree exists", folder, "--worktree DIR")


def add(root: Path, branch: str, folder: Path, base: str) -> None:
    """Make the branch and its worktree, in place of those of these names.

    Args:
        root: Of the checkout.
        branch: Its name.
        folder: Of the worktree.
        base: What it starts from.
    """
    if there := worktree_of(root, branch):
        git(root, "worktree", "remove", "--force", str(there))
    if branch_exists(root, branch):
        git(root, "branch", "-D", branch)
    git(root, "worktree", "add", "-q", "-b", branch, str(folder), base)
    git(root, "config", _base_key(branch), git(folder, "rev-parse", "HEAD"))


def write(tree: Tree, folder: Path) -> None:
    """Write all files, copies and links."""
    for name, text in tree.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        if name.endswith(".sh"):
            path.chmod(0o755)
    for name, source in tree.copies.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((folder / source).read_bytes())
        path.chmod((folder / source).stat().st_mode)
    for name, target in tree.links.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        os.symlink(target, path)


def stage(folder: Path, paths: Sequence[str]) -> None:
    """Stage files for the commit."""
    git(folder, "add", "--", *paths)


def base_of(folder: Path) -> str:
    """Return where the branch starts, the later one of two commits.

    They are what it was made from, and the last that it shares with the checkout's own branch: it
    may have been rebased since.
    """
    own = git(folder, "worktree", "list", "--porcelain").split("HEAD ")[1].split()[0]
    branch = git(folder, "branch", "--show-current")
    made_from = git(folder, "config", "--default", "", "--get", _base_key(branch))
    shared = [git(folder, "merge-base", "HEAD", x) for x in (own, made_from) if x]
    return min(shared, key=lambda x: int(git(folder, "rev-list", "--count", f"{x}..HEAD")))


def _base_key(branch: str) -> str:
    return f"branch.{branch}.espnetExtBase"  # git removes it with the branch


def changed(folder: Path) -> list[tuple[str, int]]:
    """Return ``(path, added and removed lines)`` of all that differs from where the branch starts.

    A binary file has -1 lines. Files that git does not know yet are not seen.
    """
    found = []
    for row in git(folder, "diff", "--numstat", "--no-renames", base_of(folder)).splitlines():
        added, removed, path = row.split("\t")
        found.append((path, -1 if added == "-" else int(added) + int(removed)))
    return found


def known_before(folder: Path, paths: Sequence[str]) -> set[str]:
    """Return those of the paths that ESPnet has already."""
    if not paths:
        return set()
    return set(git(folder, "ls-tree", "-r", "--name-only", base_of(folder), *paths).splitlines())
