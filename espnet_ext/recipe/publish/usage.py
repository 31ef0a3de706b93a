# SPDX-License-Identifier: Apache-2.0
"""How a published model is used: the lines of stage 10, for the hub and for a downloaded folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_ext.packed import META
from espnet_ext.yamlfile import read

STOCK, OURS = "espnet2.bin.asr_inference", "espnet_ext.espnet.speech2text"
_SHELL = re.compile(r"([\w ]+): (espnet-ext .*)")


def markdown(told: Sequence[str], archive: str, repo: str, folder: Path) -> list[str]:
    """Return what stage 10 says of a model as Markdown.

    Args:
        told: Its lines: a heading ends with a colon, and Python follows, or a shell command.
        archive: The path that they name.
        repo: The name on the hub that takes its place.
        folder: The published one, with ``meta.yaml``.
    """
    out: list[str] = []
    for heading, code in _blocks([line.replace(archive, repo) for line in told]):
        shell = heading if code is None else None
        if shell is not None:
            about, command = _SHELL.fullmatch(shell).groups()
            out += [f"{_capital(about)}:", "", "```bash", command, "```", ""]
            continue
        out += [_capital(heading), "", *_python(code)]
        if any(STOCK in line for line in code):
            meta = read(folder / META)
            out += ["The same from a downloaded folder, started in that folder:", ""]
            out += _python([_from_files(line, meta) for line in code])
            out += ["And with espnet_ext, which takes the name, a folder or an archive:", ""]
            out += _python([line.replace(STOCK, OURS) for line in code])
    return [*out, f"Where `{repo}` was downloaded, its folder takes the place of the name for all "
            "classes and commands of espnet_ext.", ""]  # fmt: skip


def _blocks(lines: Sequence[str]) -> list[tuple[str, list[str] | None]]:
    """Return headings with their lines of Python, and shell commands with None."""
    blocks: list[tuple[str, list[str] | None]] = []
    for line in lines:
        if _SHELL.fullmatch(line):
            blocks.append((line, None))
        elif line.endswith(":"):
            blocks.append((line, []))
        elif blocks and blocks[-1][1] is not None:
            blocks[-1][1].append(line)
    return blocks


def _from_files(line: str, meta: dict[str, Any]) -> str:
    config, model = meta["yaml_files"]["asr_train_config"], meta["files"]["asr_model_file"]
    return re.sub(r'\.from_pretrained\("[^"]*"', f'("{config}", "{model}"', line)


def _python(lines: Sequence[str]) -> list[str]:
    return ["```python", *lines, "```", ""]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
