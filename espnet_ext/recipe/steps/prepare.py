# SPDX-License-Identifier: Apache-2.0
"""Stage 1: run the recipe's data preparation and check what it made."""

import os
import re
import shlex
import shutil
import sys
from collections import deque
from pathlib import Path

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, EspnetExtError, UsageError
from espnet_ext.paths import absolute
from espnet_ext.recipe import processes, records
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.streams import DATA, streams_of

NEEDED = "ESPNET_EXT_SETS"  # environment of local/data.sh: names of all sets that the recipe reads
BEFORE, FAILED = Path(".stages/data.before"), Path(".stages/data.failed")


def sets(ctx: Context) -> list[str]:
    """Return the names of all sets, without repetition."""
    d = ctx.recipe.data
    return list(dict.fromkeys([d.train, d.valid, *d.test, *d.also]))


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    section, corpus = ctx.recipe.prepare, ctx.recipe.corpus
    script = Path(section.script)
    before = records.read(ctx.done_path(ctx.stage)) or {}
    known = before.get("settings", {})
    # Unset after a first run means: the same as then.
    path = os.environ.get(corpus.env, known.get("corpus")) if corpus.env else None
    further = {n: os.environ.get(n, (known.get("further") or {}).get(n)) for n in corpus.more_env}
    files = ctx.recipe.data.files
    given = {corpus.env or "corpus": path, **further, **_files_of_args(section.args)}
    paths = {n: Path(p) for n, p in given.items() if p and Path(p).exists() and not _ours(p)}
    return Plan(
        needs=[script],
        makes=[DATA / s / f for s in sets(ctx) for f in files if _expected(ctx, s, f)],
        inputs=[*_sources(script), *(p for p in paths.values() if p.is_file())],
        corpora={n: p for n, p in paths.items() if p.is_dir()},
        settings={
            "args": section.args,
            "corpus": path,
            "sets": sets(ctx),
            **({"further": further} if further else {}),
        },
        disk_mb=section.disk_mb,
        stock=[shlex.join(["bash", str(script), str(DATA), *section.args])],
    )


def _ours(path: str) -> bool:
    """Whether runs write there: around the recipe, or into its products."""
    here, there = Path.cwd(), Path(path).resolve()
    ours = [here / name for name in ("data", "dump", "exp", ".stages")]
    return here.is_relative_to(there) or any(there.is_relative_to(p) for p in ours)


def _files_of_args(args: list[str]) -> dict[str, str]:
    """Return the arguments that may be paths, also in ``key=path`` and ``kind:path``.

    A script may mean a relative one from the recipe's folder, or from where run.sh was called.
    """
    found = {}
    for arg in map(str, args):
        value = arg.rpartition("=")[2] if arg.startswith("-") else arg
        here = [value, *(value.partition(mark)[2] for mark in ":=")]
        tried = [*here, *(str(absolute(v)) for v in here if v)]
        found[arg] = next((v for v in tried if v and os.path.exists(v)), value)
    return found


def _sources(script: Path) -> list[Path]:
    """Return the script, the files beside it, and the shared ones that these name or import.

    Of the shell scripts beside it only those that it names.
    """
    beside = [p for p in script.parent.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    todo, found = [script, *(p for p in sorted(beside) if p.suffix != ".sh")], []
    while todo:
        path = todo.pop(0)
        if path in found or not path.is_file():
            continue
        found.append(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".sh":
            todo += [Path(x) for x in re.findall(r"(?:\.\./)+[\w./-]+\.(?:sh|py)", text)]
            todo += [p for p in beside if p.suffix == ".sh" and p.name in text]
        elif path.suffix == ".py":
            names = re.findall(r"^\s*(?:from|import)\s+(\w+)", text, re.M)
            todo += [path.with_name(f"{name}.py") for name in names]
    return found


def _expected(ctx: Context, name: str, file: str) -> bool:
    """A set that is only a further stream may lack text."""
    return file != "text" or name not in ctx.recipe.data.also


def run(ctx: Context, plan: Plan) -> None:
    """Run local/data.sh on an empty ``data/``; what was there before comes back if it fails."""
    section = ctx.recipe.prepare
    shutil.rmtree(FAILED, ignore_errors=True)
    if BEFORE.exists():  # a killed run: what it left in data/ is half made
        shutil.rmtree(DATA, ignore_errors=True)
    elif DATA.exists():
        os.replace(DATA, BEFORE)
    try:
        _script(ctx, [section.script, str(DATA), *section.args], _remembered(ctx, plan))
        for name in sets(ctx):
            _check(ctx, DATA / name)
    except BaseException:
        if DATA.exists():
            os.replace(DATA, FAILED)
        if BEFORE.exists():
            os.replace(BEFORE, DATA)
        raise
    shutil.rmtree(BEFORE, ignore_errors=True)


def check(ctx: Context, plan: Plan) -> None:
    """Let the script tell what it finds, where it can do so without writing (``prepare.check``).

    Raises:
        EspnetExtError: It cannot prepare the data.
    """
    section = ctx.recipe.prepare
    argv = [section.script, str(DATA), *section.args, "--check"]
    _script(ctx, argv, _remembered(ctx, plan), log=False)


def _own_error(last: list[str]) -> tuple[str, str | None, str | None] | None:
    """Return what, where and how to fix of the error that the script ended with, as it said it."""
    starts = [i for i, line in enumerate(last) if line.startswith("error: ")]
    if not starts:
        return None
    rest = last[starts[-1] + 1 :]
    where, how = (
        next((x.removeprefix(name).strip() for x in rest if x.startswith(name)), None)
        for name in ("where:", "fix:")
    )
    return (last[starts[-1]].removeprefix("error: "), where, how) if how else None


def _remembered(ctx: Context, plan: Plan) -> dict[str, str]:
    """Return the corpora by variable, those of an earlier run that are unset now included."""
    given = {ctx.recipe.corpus.env: plan.settings["corpus"], **plan.settings.get("further", {})}
    return {name: path for name, path in given.items() if name and path}


def _script(ctx: Context, argv: list[str], corpora: dict[str, str], log: bool = True) -> None:
    # A script whose corpus names its sets can tell which one it lacks before it reads audio.
    own = {"PYTHON": sys.executable, "LC_ALL": "C.UTF-8", NEEDED: " ".join(sets(ctx))}
    env = {**os.environ, **corpora, **own}
    last: deque[str] = deque(maxlen=5)

    def told(line: str) -> None:
        if log:
            print(line, end="")
        say("  " + line.rstrip())
        last.append(line.strip())

    code = processes.follow(["bash", *argv], told, env)
    if code:
        if own := _own_error(list(last)):
            raise (UsageError if code == 2 else DataError)(f"{argv[0]}: {own[0]}", *own[1:])
        error = DataError if code == 3 else EspnetExtError
        corpus = ctx.recipe.corpus
        how = f"correct {argv[0]}; all it said is in the log"
        if corpus.env:
            how = f"set {corpus.env}=/path/to/{corpus.name}; {corpus.source}"
        what = f"{argv[0]} ended with {processes.how_ended(code)}: {' / '.join(last)}"
        raise error(what, argv[0], how)


def _check(ctx: Context, folder: Path) -> None:
    streams = streams_of(ctx, folder.name)
    if set(streams.values()) <= {"text"}:  # an empty text is one: a recogniser may hear nothing
        check_tables(folder, ctx.recipe.data.files)
        return
    from espnet_ext.data.check import check_dir, report
    from espnet_ext.data.fix import fix_dir

    pipes = ctx.recipe.format.allow_pipes if ctx.recipe.format else False
    need_text = _expected(ctx, folder.name, "text")
    options = {"allow_pipes": pipes, "need_text": need_text, "streams": streams}
    findings = [f for f in check_dir(folder, **options) if f.level == "error"]
    if findings and all(f.fixable for f in findings):
        for line in fix_dir(folder, allow_pipes=pipes, streams=streams):
            say(f"  {folder}: {line}")
        findings = [f for f in check_dir(folder, **options) if f.level == "error"]
    if findings:
        raise DataError(
            f"{folder} has {len(findings)} error(s):\n{report(findings)}",
            folder,
            f"correct {ctx.recipe.prepare.script}, or look at {FAILED}",
        )


def check_tables(folder: Path, files: list[str]) -> None:
    """Check a set without audio: each table has the same utterances.

    Raises:
        DataError: A table is missing, broken or empty, or differs from the first.
    """
    first = read_table(folder / files[0]).keys()
    if not first:
        raise DataError("the set contains no utterance", folder / files[0])
    for file in files[1:]:
        other = read_table(folder / file).keys()
        if differ := sorted(first ^ other):
            raise DataError(
                f"{len(first)} and {len(other)} utterances; '{differ[0]}' is in one of them only",
                f"{folder / files[0]}, {folder / file}",
                "write a line for each utterance into each file",
            )
