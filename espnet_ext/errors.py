# SPDX-License-Identifier: Apache-2.0
"""The one family of errors a user may see: what happened, where, and how to fix it.

Exit codes of every command of this package: 0 done, 1 a stage failed, 2 wrong usage,
3 data or environment not usable.
"""

import difflib
import errno
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable

from espnet_ext.installation import named_here


class EspnetExtError(Exception):
    """An error with a message meant for a person.

    Args:
        what: What went wrong, one sentence.
        where: File, ``file:line``, option or utterance id.
        how: What the user can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, where: object = None, how: str | None = None):
        self.what, self.where, self.how = what, where, how
        super().__init__(what, where, how)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where is not None:
            lines.append(f"  where: {self.where}")
        if self.how:
            lines.append(f"  fix:   {named_here(self.how)}")
        return "\n".join(lines)


class UsageError(EspnetExtError):
    """The command line or recipe.yaml asks for something that does not exist."""

    exit_code = 2


class DataError(EspnetExtError):
    """Data or a file is missing or not usable."""

    exit_code = 3


class SetupError(EspnetExtError):
    """The machine or the environment lacks something."""

    exit_code = 3


_FREE = "free some space, then start again: finished work is kept"
_SYSTEM = {
    errno.ENOSPC: ("the disk is full", _FREE),
    errno.EDQUOT: ("your disk quota is used up", _FREE),
    errno.EROFS: ("the disk is read-only", "work in a folder that can be written: copy it there"),
    errno.EACCES: ("permission denied", "change the permissions, or copy the folder to your own"),
    errno.EPERM: ("permission denied", "change the permissions, or copy the folder to your own"),
    errno.EIO: ("the disk reports an input/output error", "see dmesg; copy the data elsewhere"),
    errno.EMFILE: ("too many open files", "raise the limit, then start again: ulimit -n 4096"),
}
_NO_SPACE_BYTES = 1 << 20


def of_system(error: BaseException) -> SetupError | None:
    """Return what an error of the operating system means to the user; None if it is another one.

    Libraries wrap such errors, so their causes count; some tell of a full disk only that writing
    failed, so the free space is looked at as well.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _SYSTEM:
            what, how = _SYSTEM[cause.errno]
            return SetupError(what, cause.filename or os.getcwd(), how)
        cause = cause.__cause__ or cause.__context__
    if not isinstance(error, EspnetExtError) and shutil.disk_usage(".").free < _NO_SPACE_BYTES:
        return SetupError(_SYSTEM[errno.ENOSPC][0], os.getcwd(), _FREE)
    return None


def told(error: BaseException) -> str:
    """Return kind and text of an error; one without a text, as of ``assert``, shows its line."""
    frames = traceback.extract_tb(error.__traceback__)
    line = (frames[-1].line or "").strip() if frames else ""
    return f"{type(error).__name__}: {str(error) or line}"


def close_stdout() -> None:
    """Send what is still to be printed nowhere: the reader of a pipe (head, less) has enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def exit_code(main: Callable[[], int | None]) -> int:
    """Run ``main``; tell an error of this family on stderr instead of by a traceback.

    Returns:
        What ``main`` returns, 0 for nothing, or the exit code of the error; 130 on Ctrl-C.
    """
    try:
        return main() or 0
    except EspnetExtError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except OSError as e:
        if (known := of_system(e)) is None:
            raise
        print(f"error: {known}", file=sys.stderr)
        return known.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``did you mean 'x'?`` for the valid name closest to ``name``, or list them all."""
    valid = sorted(set(valid))
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "valid: " + ", ".join(valid)
