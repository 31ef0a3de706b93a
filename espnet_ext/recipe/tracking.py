# SPDX-License-Identifier: Apache-2.0
"""``--track``: also show a training's curves in TensorBoard, Weights & Biases or MLflow.

TensorBoard and Weights & Biases are ESPnet's own writers, MLflow is
:mod:`espnet_ext.espnet.track`. Nothing here imports any of them.
"""

import importlib.util
import netrc
import os
from pathlib import Path

from espnet_ext.errors import SetupError, UsageError, nearest
from espnet_ext.installation import install

TRACKERS = ("tensorboard", "wandb", "mlflow")
KEY_HOST = "api.wandb.ai"


def check(tracker: str) -> None:
    """Raise what would keep a tracker from working.

    Raises:
        UsageError: There is no such tracker.
        SetupError: Its package is not installed.
    """
    if not tracker:
        return
    if tracker not in TRACKERS:
        raise UsageError(f"there is no tracker '{tracker}'", "--track", nearest(tracker, TRACKERS))
    if not _installed(tracker):
        raise SetupError(
            f"the package '{tracker}' is not installed", f"--track {tracker}",
            f"{install(tracker)}, or omit --track",
        )  # fmt: skip
    local = not os.environ.get("MLFLOW_TRACKING_URI")
    if tracker == "mlflow" and local and not _installed("sqlalchemy"):
        raise SetupError(
            "mlflow-skinny cannot keep runs on this machine", "--track mlflow",
            f"{install('mlflow')}, or set MLFLOW_TRACKING_URI to a server",
        )  # fmt: skip


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def options(tracker: str, exp: Path, phase: str) -> list[str]:
    """Return ESPnet's options for a tracker, to stand after all others.

    Args:
        tracker: One of :data:`TRACKERS`; empty: what the configuration says.
        exp: Folder of the experiment; its name and the phase are the run's name.
        phase: For example ``finetune``.
    """
    if not tracker:
        return []
    if tracker == "tensorboard":
        return ["--use_tensorboard", "true"]
    project, name = Path.cwd().parent.name + "_" + Path.cwd().name, f"{exp.name}/{phase}"
    if tracker == "mlflow":
        return ["--mlflow_experiment", project, "--mlflow_run", name]
    return ["--use_wandb", "true", "--wandb_project", project, "--wandb_name", name]


def prepare_wandb() -> str:
    """Keep Weights & Biases from the network where no key is known; return what to say of it.

    Else it would ask on a terminal, and elsewhere ESPnet would switch it off without a word.
    """
    if "WANDB_MODE" in os.environ or os.environ.get("WANDB_API_KEY") or _key_in_netrc():
        return ""
    os.environ["WANDB_MODE"] = "offline"
    return (
        "wandb: no key is known, so runs are kept in wandb/ below exp/; 'wandb sync FOLDER' sends "
        "them later. WANDB_MODE=online or 'wandb login' sends them at once"
    )


def _key_in_netrc() -> bool:
    host = os.environ.get("WANDB_BASE_URL", KEY_HOST).partition("//")[2] or KEY_HOST
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
