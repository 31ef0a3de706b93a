# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext doctor --data DIR [--data DIR ...] [options]

--data DIR          a Kaldi-style data folder; several: what they share is told, too. Name the
                    training set first
--fix               repair what is safe; the originals are kept in .backup-<n>
--full              read all audio; default: up to 8 hours of it
--channel N         channel of the audio that will be used, from 0; default: the average of all
--stream FILE=TYPE  a further stream, e.g. lips.scp=video; video.scp is known, and in a recipe's
                    folder so are the streams of recipe.yaml
--allow-pipes       accept commands in wav.scp

A folder without audio that has text_manual, text_asr and label, as the text recipes make it, is
checked for missing, double and empty lines; --fix does not touch it.

Without options: the recipe in this folder, as './run.sh --doctor'; elsewhere this machine.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from espnet_ext.data.check import check_dir, report
from espnet_ext.data.fix import fix_dir
from espnet_ext.data.overlap import overlaps
from espnet_ext.data.streams import AUDIO, USUAL
from espnet_ext.data.text_set import USUAL_TEXTS, check_texts
from espnet_ext.errors import UsageError

OFTEN = {"video.scp": "video"}  # checked where it is, without being asked for
_VALUES = ("--data", "--channel", "--stream")
_FLAGS = ("--fix", "--full", "--allow-pipes")


def main(argv: list[str], known: Callable[[Path], Mapping[str, str]] | None = None) -> int:
    """Check data folders and print what was found.

    Args:
        argv: The command line, without ``doctor``.
        known: Tells the streams of a folder, ``{file: type}``, where a recipe knows them.

    Returns:
        The exit code: 3 if there is an error.
    """
    if set(argv) & {"-h", "--help"}:
        print(__doc__.rstrip())
        return 0
    values, flags = _parse(argv)
    if not values["--data"]:
        raise UsageError("there is no folder to check", None, "give --data DIR")
    folders = [Path(folder) for folder in values["--data"]]
    streams = {}
    for text in values["--stream"]:
        file, equals, kind = text.partition("=")
        if not (file and equals and kind):
            raise UsageError(f"'{text}' is not FILE=TYPE", "--stream", "video.scp=module:object")
        streams[file] = kind
    channel = _channel(values["--channel"])
    bad = False
    for folder in folders:
        if len(folders) > 1:
            print(f"{folder}:")
        often = {file: kind for file, kind in OFTEN.items() if (folder / file).exists()}
        own = {**often, **((known and known(folder)) or USUAL), **streams}
        bad |= _one(folder, own, channel, flags)
    if len(folders) > 1:
        for line in overlaps({str(folder): folder for folder in folders}):
            print(f"warning: {line}")
    return 3 if bad else 0


def _one(folder: Path, streams: dict[str, str], channel: int | None, flags: set[str]) -> bool:
    if files := _texts(folder, streams):
        findings = check_texts(folder, files)
        print(report(findings))
        return any(f.level == "error" for f in findings)
    pipes = "--allow-pipes" in flags
    if "--fix" in flags:
        for line in fix_dir(folder, allow_pipes=pipes, streams=streams):
            print(line)
    findings = check_dir(
        folder,
        need_text=(folder / "text").exists(),
        allow_pipes=pipes,
        audio="full" if "--full" in flags else "content",
        channel=channel,
        streams=streams,
    )
    print(report(findings))
    return any(f.level == "error" for f in findings)


def _texts(folder: Path, streams: dict[str, str]) -> list[str]:
    """Return the tables of a set that has texts and no audio; none for any other set."""
    if AUDIO not in streams:  # as recipe.yaml says
        return [f for f, kind in streams.items() if kind == "text" and f not in USUAL]
    usual = [f for f in (AUDIO, "segments", "text", *USUAL_TEXTS[:2]) if (folder / f).exists()]
    return [*USUAL_TEXTS] if usual and usual[0] in USUAL_TEXTS else []


def _parse(argv: list[str]) -> tuple[dict[str, list[str]], set[str]]:
    values: dict[str, list[str]] = {name: [] for name in _VALUES}
    flags, rest = set(), list(argv)
    while rest:
        arg = rest.pop(0)
        name, equals, value = arg.partition("=")
        if arg in _FLAGS:
            flags.add(arg)
        elif name in _VALUES and equals:
            values[name].append(value)
        elif arg in _VALUES and rest:
            values[arg].append(rest.pop(0))
        else:
            how = "espnet-ext doctor --help"
            if not arg.startswith("-"):
                how = f"a data folder is given as --data {arg}; {how}"
            raise UsageError(f"doctor does not know '{arg}'", None, how)
    return values, flags


def _channel(given: list[str]) -> int | None:
    if not given:
        return None
    if not given[-1].isdecimal():
        raise UsageError(f"'{given[-1]}' is not a channel", "--channel", "a number from 0")
    return int(given[-1])
