# SPDX-License-Identifier: Apache-2.0
"""MLflow, for which ESPnet has no writer, and the end of what its own writers leave open.

Trackers are the user's choice and no dependencies of this package: they are imported by name,
where an option asks for one.
"""

import argparse
import importlib
import itertools
import os
import sys
from pathlib import Path
from typing import Any

RUN_ID = "mlflow_run_id.txt"
_PARAMS = 100  # that a request may have
_LETTERS = 500  # that a value may have


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of MLflow."""
    group = parser.add_argument_group("MLflow (espnet_ext)")
    group.add_argument("--mlflow_experiment", help="name of the experiment; none: no MLflow")
    group.add_argument("--mlflow_run", help="name of the run")


def start(args: argparse.Namespace) -> Any:
    """Start a run in MLflow, or go on with the one of the output folder.

    Where it is kept is for ``MLFLOW_TRACKING_URI`` to say, else ``mlflow.db`` beside the phase.

    Returns:
        The run; None if no experiment is named.
    """
    if not getattr(args, "mlflow_experiment", None):
        return None
    mlflow = importlib.import_module("mlflow")
    out = Path(args.output_dir).resolve()
    out.mkdir(parents=True, exist_ok=True)
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(f"sqlite:///{out.parent / 'mlflow.db'}")
    mlflow.set_experiment(args.mlflow_experiment)
    known = out / RUN_ID
    if known.exists():
        return mlflow.start_run(run_id=known.read_text(encoding="utf-8").strip())
    run = mlflow.start_run(run_name=args.mlflow_run)
    known.write_text(run.info.run_id + "\n", encoding="utf-8")
    for part in itertools.batched(vars(args).items(), _PARAMS):
        mlflow.log_params({k: str(v)[:_LETTERS] for k, v in part})
    return run


def log_epoch(epoch: int, **parts: dict[str, float]) -> None:
    """Log the means of an epoch, ``train/loss`` and so on, if a run is open in this process."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is not None and mlflow.active_run() is not None:
        named = {f"{part}/{k}": v for part, means in parts.items() for k, v in means.items()}
        mlflow.log_metrics(named, step=epoch)


def finish(args: argparse.Namespace, run: Any) -> None:
    """End the runs of this process: another training may follow in it."""
    if run is not None:
        importlib.import_module("mlflow").end_run()
    if getattr(args, "use_wandb", False):
        importlib.import_module("wandb").finish()
