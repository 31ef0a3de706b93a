# SPDX-License-Identifier: Apache-2.0
"""Completion offers what the parsers take, and of a command what its help tells."""

import re
import subprocess

import pytest

from espnet_ext import cli
from espnet_ext.recipe import completion, keys, options

# Their options are those of run.sh, of commands of their own, or none.
WITHOUT_A_TABLE = {
    "recipe",
    *cli.STAGES,
    "align",
    "simulate-asr",
    "completion",
    "schema",
    "version",
}
OF_OTHERS = {"--doctor", "--help"}  # run.sh's, in the help of new and doctor


def complete(script: str, function: str, *words: str) -> list[str]:
    """Return what bash offers for the last of ``words``."""
    command = f"""{script}
COMP_WORDS=({" ".join(repr(w) for w in words)}); COMP_CWORD={len(words) - 1}
{function}; printf '%s\\n' "${{COMPREPLY[@]}}"
complete -p run.sh espnet-ext >/dev/null
"""
    done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["run.sh", "--stage", "fi"], ["finetune"]),
        (["run.sh", "--stop-stage", "p"], ["prepare", "pretrain", "pack"]),
        (["run.sh", "--format.m"], ["--format.min_s", "--format.max_s"]),
        (["run.sh", "--nu"], ["--num-nodes", "--num-procs"]),
        (["run.sh", "--help", "tokens.t"], ["tokens.type", "tokens.tagged", "tokens.text"]),
        (["run.sh", "--finetune.ar"], ["--finetune.args."]),
        (["espnet-ext", "swe"], ["sweep"]),
        (["espnet-ext", "completion", "z"], ["zsh"]),
        (["espnet-ext", "recipe", "--stage", "dec"], ["decode"]),
        (["espnet-ext", "sweep", "--dr"], ["--dry-run"]),
        (["espnet-ext", "doctor", "--f"], ["--fix", "--full"]),
    ],
)
def test_completion_in_bash(words, offered):
    script = completion.script("bash", cli.COMMANDS)
    function = "_espnet_ext_run" if words[0] == "run.sh" else "_espnet_ext"
    assert complete(script, function, *words) == offered


def test_completion_offers_what_the_parser_takes():
    script = completion.script("bash", cli.COMMANDS)
    offered = complete(script, "_espnet_ext_run", "run.sh", "--")
    known = {k.name for k in keys.all_keys()} | options.FLAGS | options.TEXTS | options.NUMBERS
    assert len(offered) > 100
    for option in offered:
        assert option.removeprefix("--").rstrip(".") in known, option


@pytest.mark.parametrize("command", completion.COMMAND_OPTIONS)
def test_options_of_commands_are_those_of_their_help(command, capsys):
    assert cli.main([command, "--help"]) == 0
    told = set(re.findall(r"(?<!\w)--[a-z][a-z-]*", capsys.readouterr().out)) - OF_OTHERS
    assert set(completion.COMMAND_OPTIONS[command].split()) == told


def test_no_command_is_forgotten():
    assert set(cli.COMMANDS) == completion.COMMAND_OPTIONS.keys() | WITHOUT_A_TABLE
