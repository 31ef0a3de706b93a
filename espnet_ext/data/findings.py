# SPDX-License-Identifier: Apache-2.0
"""What a check of a data directory has to say, and how it is shown."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong or odd.

    Args:
        level: ``error`` or ``warning``.
        file: Path of the file.
        line: Line number from 1; None where the whole file is meant.
        utt: Utterance, recording or speaker id where known.
        what: What is wrong.
        how: How to fix it.
        fixable: True when :func:`espnet_ext.data.fix.fix_dir` repairs it.
    """

    level: str
    file: str
    line: int | None
    utt: str | None
    what: str
    how: str
    fixable: bool = False

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        who = f"{self.utt}: " if self.utt else ""
        return printable(f"{where}: {who}{self.what} — {self.how}")


class Findings:
    """Collects findings, at most ``limit`` of each level; the rest is only counted."""

    def __init__(self, limit: int):
        self.limit = limit
        self.kept: dict[str, list[Finding]] = {"error": [], "warning": []}
        self.more: dict[str, list[bool]] = {}  # level -> [all of the uncounted are fixable, count]

    def add(self, finding: Finding) -> None:
        """Keep or count one finding."""
        kept = self.kept[finding.level]
        if len(kept) < self.limit:
            kept.append(finding)
            return
        fixable, count = self.more.get(finding.level, (True, 0))
        self.more[finding.level] = (fixable and finding.fixable, count + 1)

    def result(self, where: str) -> list[Finding]:
        """Return errors, then warnings, each with a last line for those over the limit."""
        out = []
        for level, kept in self.kept.items():
            out += kept
            if level in self.more:
                fixable, count = self.more[level]
                what = f"+{count} more {level}s, not listed"
                out.append(
                    Finding(level, where, None, None, what, "fix those listed first", fixable)
                )
        return out


def report(findings: Iterable[Finding], limit: int = 30) -> str:
    """Return findings as text, errors first, ``limit`` lines and then ``+N more``."""
    ordered = sorted(findings, key=lambda f: f.level != "error")
    if not ordered:
        return "no findings"
    lines = [f"{f.level}: {f}" for f in ordered[:limit]]
    if len(ordered) > limit:
        lines.append(f"+{len(ordered) - limit} more")
    errors = sum(f.level == "error" for f in ordered)
    fixable = sum(f.fixable for f in ordered)
    counts = ((errors, "error"), (len(ordered) - errors, "warning"))
    said = ", ".join(f"{n} {level}{'' if n == 1 else 's'}" for n, level in counts)
    lines.append(f"{said}; {fixable} fixable by --fix")
    return "\n".join(lines)


def printable(text: str) -> str:
    """Replace what a terminal cannot show (bytes that are not UTF-8, control characters)."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
