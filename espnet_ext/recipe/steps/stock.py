# SPDX-License-Identifier: Apache-2.0
"""Commands that do what a stage does by ESPnet's own programs, where these can load the model."""

import shlex
from pathlib import Path
from typing import Any

from espnet_ext.espnet import stock
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps.train import config_of


def lacks(ctx: Context, phase: str) -> str:
    """Return what stock ESPnet lacks for the model of a phase; an empty text if it can load it.

    It is asked of the model that is there and of the one that would be trained: what loads both
    kinds is right in either case.
    """
    trained = stock.lacks_of(ctx.phase_dir(phase) / "config.yaml")
    return trained or stock.lacks(config_of(ctx, phase))


def told(lack: str, phase: str) -> list[str]:
    """Return the notes of a plan on the model of a phase; none if stock ESPnet lacks nothing."""
    return [f"the model of {phase}: {stock.refusal(lack)}"] if lack else []


def inference(
    kind: str, files: tuple[Path, Path], data: Path, out: Path, options: dict[str, Any], lack: str
) -> str:
    """Return the command of ESPnet's inference for a set.

    Args:
        kind: ``asr`` or ``st``.
        files: Configuration of the training, and the checkpoint.
        data: Folder of the set.
        out: The results go to a folder of the set's name below it.
        options: Of the search.
        lack: What stock ESPnet lacks for the model: our loader is put before its program then.
    """
    own = ["espnet_ext.espnet.inference", kind]
    argv = ["python", "-m", *(own if lack else [f"espnet2.bin.{kind}_inference"]), "--ngpu", "0"]
    argv += [f"--{kind}_train_config", str(files[0]), f"--{kind}_model_file", str(files[1])]
    argv += ["--data_path_and_name_and_type", f"{data}/wav.scp,speech,sound"]
    argv += ["--output_dir", str(out / data.name)]
    argv += [x for k, v in options.items() for x in (f"--{k}", str(v))]
    return shlex.join(argv)
