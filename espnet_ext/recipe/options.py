# SPDX-License-Identifier: Apache-2.0
"""The command line of ``run.sh``. Nothing here imports torch, and no value is ever evaluated.

usage: ./run.sh [--stage N|NAME] [--stop-stage N|NAME] [options] [--KEY VALUE ...]

  --stage N         first stage to run (number or name; default: the first)
  --stop-stage N    last stage to run (default: the last)
  --list            show the stages and what recipe.yaml switches on
  --dry-run         show what each stage needs, makes and takes on disk, and the stock commands
  --doctor          check machine, environment, configuration and data, then stop
  --wait            wait for other runs of this folder that are in the way, then begin
  --force           run the stages of the range even if they are up to date
  --nj N            CPU-parallel jobs (default: the number of cores)
  --executor KIND   local, dask, or a YAML file for a cluster (conf/dask_slurm.yaml)
  --ngpu N          GPUs for training and decoding (default: 1 if there is one, else 0)
  --num-nodes N     machines for training; N > 1 starts it by Slurm (conf/slurm.yaml)
  --num-procs N     processes per machine for training on CPUs (gloo; default: 1)
  --preset NAME     a named set of options of recipe.yaml; --list names them
  --track TRACKER   show the curves of training: tensorboard, wandb or mlflow
  --debug           show the traceback of a failure
  -h, --help        this text, and all keys; --help KEY tells of one (--help format.fs)

Any value of recipe.yaml can be set as --KEY VALUE, for example
  --finetune.config conf/train.yaml   --finetune.args.max_epoch 30   --name try2   --seed 2
Options are written --stop-stage, --stop_stage or --stop-stage=N alike.
"""

from dataclasses import dataclass, field

from espnet_ext.errors import UsageError, nearest

FLAGS = {"list", "dry-run", "doctor", "wait", "force", "debug", "help"}
TEXTS = {"stage", "stop-stage", "executor", "track"}
NUMBERS = {"nj", "ngpu", "num-nodes", "num-procs"}


@dataclass
class Options:
    """What the command line said; numbers are None where it said nothing."""

    stage: str = ""
    stop_stage: str = ""
    list_only: bool = False
    dry_run: bool = False
    doctor: bool = False
    wait: bool = False
    force: bool = False
    debug: bool = False
    help: bool = False
    help_key: str = ""
    nj: int | None = None
    ngpu: int | None = None
    num_nodes: int = 1
    num_procs: int = 1
    executor: str = "local"
    track: str = ""
    overrides: list[tuple[str, str]] = field(default_factory=list)
    argv: list[str] = field(default_factory=list)


def parse(argv: list[str], recipe_keys: set[str]) -> Options:
    """Parse the command line.

    Args:
        argv: The arguments, without the program's name.
        recipe_keys: Top-level keys of recipe.yaml; ``--KEY`` and ``--KEY.x`` override them.

    Raises:
        UsageError: Unknown option, missing or unusable value, an argument that is no option.
    """
    opts, rest = Options(argv=list(argv)), list(argv)
    while rest:
        arg = rest.pop(0)
        arg = "--help" if arg == "-h" else arg
        if not arg.startswith("--") or arg == "--":
            raise UsageError(f"'{arg}' is not an option", None, "options start with --; see --help")
        key, eq, value = arg[2:].partition("=")
        name = key.replace("_", "-")
        if name == "help" and (eq or (rest and not rest[0].startswith("-"))):
            opts.help, opts.help_key = True, value if eq else rest.pop(0)
            continue
        if name in FLAGS:
            if eq:
                raise UsageError(f"--{name} takes no value", arg)
            setattr(opts, "list_only" if name == "list" else name.replace("-", "_"), True)
            continue
        known = name in TEXTS | NUMBERS
        if not known and key.split(".")[0] not in recipe_keys:
            raise UsageError(f"unknown option --{key}", None, _suggest(key, recipe_keys))
        if not eq:
            if not rest or rest[0].startswith("--"):
                raise UsageError(
                    f"--{key} needs a value", None, f"write --{key} VALUE or --{key}=VALUE"
                )
            value = rest.pop(0)
        if name in TEXTS and not value.strip():
            raise UsageError(f"--{key} needs a value", arg, "its value is empty: omit the option")
        if name in NUMBERS:
            setattr(opts, name.replace("-", "_"), _count(name, value))
        elif name in TEXTS:
            setattr(opts, name.replace("-", "_"), value)
        else:
            opts.overrides.append((key, value))
    return opts


def _suggest(key: str, recipe_keys: set[str]) -> str:
    """Return the option that is meant: an option of run.sh, or a key with a wrong first part."""
    own = FLAGS | TEXTS | NUMBERS
    if not recipe_keys:
        return nearest(key, own)
    from espnet_ext.recipe.keys import all_keys, suggest

    return suggest(key, own | {k.name for k in all_keys()})


def _count(name: str, value: str) -> int:
    least = 0 if name == "ngpu" else 1
    if not value.isdecimal() or int(value) < least:
        raise UsageError(f"--{name} must be a whole number from {least}, not '{value}'")
    return int(value)


def without(argv: list[str], names: set[str]) -> list[str]:
    """Return ``argv`` without the options ``names`` (and their values)."""
    keep, rest = [], list(argv)
    while rest:
        arg = rest.pop(0)
        key, eq, _ = arg[2:].partition("=")
        name = key.replace("_", "-")
        has_value = not eq and name not in FLAGS
        if name not in names:
            keep += [arg, rest.pop(0)] if has_value else [arg]
        elif has_value:
            rest.pop(0)
    return keep
