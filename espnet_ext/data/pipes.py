# SPDX-License-Identifier: Apache-2.0
"""Piped ``wav.scp`` entries (``sph2pipe -f wav a.sph |``), run without a shell."""

import re
import shlex
import shutil
import signal
import subprocess
import tempfile

from espnet_ext.errors import DataError, SetupError

_SHELL_WORD = re.compile(r"^(\d*[<>].*|&.*|.*[;&]|\$\(.*|`.*)$")


def is_pipe(entry: str) -> bool:
    """Tell whether a ``wav.scp`` value is a command to run rather than a path."""
    return entry.rstrip().endswith("|")


def parse_pipe(entry: str, where: object = None) -> list[list[str]]:
    """Split ``a b | c d |`` into argument lists.

    Args:
        entry: Value of a ``wav.scp`` line that ends in ``|``.
        where: What an error message names as the place.

    Returns:
        One argument list per process, in the order of the pipe.

    Raises:
        DataError: The command is empty, badly quoted, or needs a shell (redirection, ``;``, ...).
    """
    how = "write the command as plain programs joined by '|', or convert the audio beforehand"
    parts = []
    for part in entry.rstrip().removesuffix("|").split("|"):
        try:
            words = shlex.split(part)
        except ValueError as e:
            raise DataError(f"the command '{entry}' is badly quoted ({e})", where, how) from None
        if not words:
            raise DataError(f"the command '{entry}' has an empty part", where, how)
        shell = [w for w in words if _SHELL_WORD.match(w)]
        if shell:
            raise DataError(f"the command '{entry}' needs a shell for '{shell[0]}'", where, how)
        parts.append(words)
    return parts


def missing_program(entry: str) -> str | None:
    """Return the first program of the pipe that is not on PATH, or None."""
    return next((p[0] for p in parse_pipe(entry) if shutil.which(p[0]) is None), None)


def run_pipe(entry: str, where: object = None) -> bytes:
    """Run a piped entry and return the bytes it writes.

    Args:
        entry: Value of a ``wav.scp`` line that ends in ``|``.
        where: What an error message names as the place.

    Raises:
        DataError: The command fails or writes nothing.
        SetupError: A program of the command is not installed.
    """
    parts = parse_pipe(entry, where)
    # A file, not a pipe: nobody would drain the stderr of the first processes.
    with tempfile.TemporaryFile() as errors:
        procs = _start(parts, errors, where)
        data = procs[-1].communicate()[0]
        codes = [p.wait() for p in procs]
        errors.seek(0)
        said = errors.read(2000).decode("utf-8", "replace").strip()
    # A reader that stops early (head) kills its writer by SIGPIPE; that is no failure.
    bad = [c for c in codes[:-1] if c not in (0, -signal.SIGPIPE)] + [c for c in codes[-1:] if c]
    if bad or not data:
        what = f"exits with {bad[0]}" if bad else "writes nothing"
        raise DataError(f"the command '{entry}' {what}: {said}", where, "run it by hand")
    return data


def _start(parts: list[list[str]], errors, where: object) -> list[subprocess.Popen]:
    procs: list[subprocess.Popen] = []
    stdin = subprocess.DEVNULL
    for words in parts:
        try:
            proc = subprocess.Popen(words, stdin=stdin, stdout=subprocess.PIPE, stderr=errors)
        except OSError as e:
            for p in procs:
                p.kill()
                p.communicate()
            raise SetupError(
                f"'{words[0]}' cannot be started ({e.strerror})", where, f"install {words[0]}"
            ) from None
        if procs:
            procs[-1].stdout.close()  # else the writer never sees SIGPIPE
            procs[-1].stdout = None
        stdin = proc.stdout
        procs.append(proc)
    return procs
