# SPDX-License-Identifier: Apache-2.0
"""Options of a command of ``espnet-ext``: misuse is told as everywhere else."""

import argparse
import re
from collections.abc import Callable
from typing import Any

from espnet_ext.errors import UsageError, nearest


class Parser(argparse.ArgumentParser):
    """A parser without a help of its own, which takes no shortened options."""

    def __init__(self, prog: str):
        super().__init__(prog=prog, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> Any:
        raise UsageError(message, self.prog, f"{self.prog} --help")


def parse(p: Parser, argv: list[str]) -> argparse.Namespace:
    """Return the values of the options.

    Raises:
        UsageError: An option that does not exist (the nearest is named), without its value, or
            one argument too many.
    """
    args, unknown = p.parse_known_args(argv)
    options = [x for x in unknown if x.startswith("-")]
    if options:
        name, known = options[0].partition("=")[0], re.findall(r"--[\w-]+", p.format_help())
        raise UsageError(f"there is no option '{name}'", p.prog, nearest(name, known))
    if unknown:
        raise UsageError(f"'{unknown[0]}' is one argument too many", p.prog, f"{p.prog} --help")
    return args


def count(text: str) -> int:
    """Return a whole number from 1, as the ``type`` of an option."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, not '{text}'")
    return int(text)


def number(what: str, fits: Callable[[float], bool]) -> Callable[[str], float]:
    """Return the ``type`` of an option that takes a number.

    Args:
        what: As the message names it: ``a number above 0``.
        fits: Whether a number can be taken; it must be false for NaN.
    """

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not fits(value):
            raise argparse.ArgumentTypeError(f"must be {what}, not '{text}'")
        return value

    return read


share = number("a number from 0 to 1", lambda value: 0 <= value <= 1)


def asks_for_help(argv: list[str]) -> bool:
    """Whether the command's help is asked for."""
    return "--help" in argv or "-h" in argv
