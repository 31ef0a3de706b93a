# SPDX-License-Identifier: Apache-2.0
"""Completion of ``run.sh`` and ``espnet-ext`` for bash and zsh: a script with all words in it."""

from collections.abc import Iterable

from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe.keys import FREE, all_keys
from espnet_ext.recipe.options import FLAGS, NUMBERS, TEXTS
from espnet_ext.recipe.stages import STAGES

SHELLS = ("bash", "zsh")
# zsh takes bash's script through its own compatibility layer.
_ZSH = "autoload -U +X compinit && compinit -u\nautoload -U +X bashcompinit && bashcompinit\n"
# What the help of each command tells, which a test compares. To read it here would import the
# commands, and the script is made whenever a shell starts.
COMMAND_OPTIONS = {
    "data": "--from-cuts --to-cuts --alignment --allow-pipes",
    "doctor": "--data --fix --full --channel --stream --allow-pipes",
    "embed": "--model --out --retrieve --top --sentence-encoder --device --batch-s --longest-s",
    "evidence": "--dry-run --systems --seeds --jobs --nj --ngpu --executor --debug",
    "new": "--from --fs --lang",
    "probe": "--model --task --data --dev --train --test --out --rate --updates --evaluations "
    "--batch --width --accumulate --seed --device --cache --cache-gb --chunk-s",
    "publish": "--licence --corpus-licence --language --out --push --private",
    "report": "--out --worst --set --alignment --aligner --max-mb",
    "results": "--page",
    "sweep": "--dry-run --values --seeds --jobs --nj --ngpu --executor --debug",
    "transcribe": "--asr --asr-model --asr-config --beam --ctc-weight --nbest --device --nj",
    "upstream": "--espnet --base --worktree --layout --check --smoke --force",
}
_ARM = """\
        {command})
            if [ "${{cur#-}}" != "$cur" ]; then
                COMPREPLY=($(compgen -W "{options} --help" -- "$cur")); return
            fi ;;
"""
_SCRIPT = """\
# Completion of run.sh and espnet-ext; load it with: eval "$(espnet-ext completion {shell})"
{zsh}_espnet_ext_run() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}"
    case "$prev" in
        --stage | --stop-stage | --stop_stage)
            COMPREPLY=($(compgen -W "{stages}" -- "$cur")); return ;;
        --executor)
            COMPREPLY=($(compgen -W "local dask" -- "$cur") $(compgen -f -- "$cur")); return ;;
        --help)
            COMPREPLY=($(compgen -W "{keys}" -- "$cur")); return ;;
    esac
    if [ "${{cur#-}}" != "$cur" ]; then
        COMPREPLY=($(compgen -W "{options}" -- "$cur"))
    else
        COMPREPLY=($(compgen -f -- "$cur"))
    fi
}}
_espnet_ext() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$cur")); return
    fi
    case "${{COMP_WORDS[1]}}" in
        recipe | train | decode | score) _espnet_ext_run; return ;;
        completion) COMPREPLY=($(compgen -W "{shells}" -- "$cur")); return ;;
{arms}    esac
    COMPREPLY=($(compgen -f -- "$cur"))
}}
complete -o filenames -F _espnet_ext_run run.sh
complete -o filenames -F _espnet_ext espnet-ext
"""


def script(shell: str, commands: Iterable[str]) -> str:
    """Return the completion script of a shell.

    Args:
        shell: ``bash`` or ``zsh``.
        commands: Of ``espnet-ext``.

    Raises:
        UsageError: There is none for this shell.
    """
    if shell not in SHELLS:
        raise UsageError(f"there is no completion for '{shell}'", None, nearest(shell, SHELLS))
    keys = all_keys()
    leaves = [k.name for k in keys if k.section is None and k.name not in FREE]
    options = [*sorted(FLAGS | TEXTS | NUMBERS), *leaves, *(f"{p}." for p in FREE)]
    return _SCRIPT.format(
        shell=shell,
        zsh=_ZSH if shell == "zsh" else "",
        stages=" ".join(s.name for s in STAGES),
        keys=" ".join(k.name for k in keys),
        options=" ".join(f"--{x}" for x in options),
        commands=" ".join(sorted(commands)),
        shells=" ".join(SHELLS),
        arms="".join(_ARM.format(command=c, options=o) for c, o in COMMAND_OPTIONS.items()),
    )
