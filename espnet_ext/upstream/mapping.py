# SPDX-License-Identifier: Apache-2.0
"""ESPnet2 training options as the configurations of an ESPnet3 recipe.

Every option goes somewhere: into the model, the optimiser, the data loader, the trainer; or into
the list of deviations, where ESPnet3 means something else by it or has no such thing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from espnet_ext.errors import UsageError, nearest
from espnet_ext.frames import features_of_config

DEVIATION = "[DEVIATION]"
PARTS = ("frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder", "decoder")
OPTIMIZERS = {
    "adam": "Adam", "adamw": "AdamW", "adadelta": "Adadelta", "adagrad": "Adagrad",
    "adamax": "Adamax", "radam": "RAdam", "rmsprop": "RMSprop",
}  # fmt: skip
DECAY = {"AdamW": 0.01}  # torch's default; 0 of the others
TORCH, ESPNET = "torch.optim.lr_scheduler.", "espnet2.schedulers."
SCHEDULERS = {  # class, and when it steps
    "warmuplr": (ESPNET + "warmup_lr.WarmupLR", "step"),
    "noamlr": (ESPNET + "noam_lr.NoamLR", "step"),
    "tristagelr": (ESPNET + "tristage_lr.TristageLR", "step"),
    "warmupsteplr": (ESPNET + "warmup_step_lr.WarmupStepLR", "step"),
    "piecewiselinearwarmuplr": (
        ESPNET + "piecewise_linear_warmup_lr.PiecewiseLinearWarmupLR", "step",
    ),
    "onecyclelr": (TORCH + "OneCycleLR", "step"),
    "steplr": (TORCH + "StepLR", "epoch"),
    "multisteplr": (TORCH + "MultiStepLR", "epoch"),
    "exponentiallr": (TORCH + "ExponentialLR", "epoch"),
    "cosineannealinglr": (TORCH + "CosineAnnealingLR", "epoch"),
    "reducelronplateau": (TORCH + "ReduceLROnPlateau", "epoch"),
}  # fmt: skip
# Options of ESPnet2's own logs and files, which nobody will miss.
DROPPED = {
    "use_tensorboard", "use_matplotlib", "num_att_plot", "keep_nbest_models", "log_level",
    "create_graph_in_tensorboard", "use_preprocessor", "ngpu", "seed", "unused_parameters",
}  # fmt: skip
BATCH_TYPES = ("numel", "length", "sorted", "unsorted", "folded")


@dataclass
class Mapped:
    """The parts of ``training.yaml``.

    Attributes:
        model: Section ``model``.
        optimizer: Section ``optimizer``.
        scheduler: Section ``scheduler``.
        scheduler_interval: ``step`` or ``epoch``.
        criterion: Section ``best_model_criterion``.
        loader: ``num_workers``, and section ``batches`` of the training iterator.
        trainer: Section ``trainer``.
        top: Further keys of the top level.
        deviations: What differs from ESPnet2, by the section where it stands.
    """

    model: dict[str, Any]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    scheduler_interval: str
    criterion: list[list[Any]]
    loader: dict[str, Any]
    trainer: dict[str, Any]
    top: dict[str, Any] = field(default_factory=dict)
    deviations: dict[str, list[str]] = field(default_factory=dict)

    def deviate(self, section: str, text: str) -> None:
        """Note what differs."""
        self.deviations.setdefault(section, []).append(text)

    @property
    def average(self) -> str:
        """File name of the averaged model that inference takes."""
        monitor, count, _ = self.criterion[0]
        return f"{monitor.replace('/', '.')}.ave_{count}best.pth"


def mapped(config: Mapping[str, Any], chosen: str) -> Mapped:
    """Return the parts of training.yaml.

    Args:
        config: ESPnet2's training options.
        chosen: Name of the model that decoding takes, e.g. ``valid.acc.ave.pth``: with several
            criteria it tells which of them comes first.

    Raises:
        UsageError: An option has no counterpart, and leaving it out would train something else.
    """
    left = dict(config)
    result = Mapped(
        model=_model(left),
        optimizer=_optimizer(left),
        scheduler={}, scheduler_interval="step",
        criterion=_criterion(left, chosen),
        loader={}, trainer={},
    )  # fmt: skip
    result.scheduler, result.scheduler_interval = _scheduler(left)
    if left.get("init") is not None:
        result.model["init"] = left["init"]
    left.pop("init", None)
    _batches(left, config, result)
    _trainer(left, result)
    if left.pop("patience", None) is not None:
        result.deviate("trainer", "no early stopping: ESPnet3's trainer has no `patience`")
    for key in sorted(set(left) - DROPPED):
        result.deviate("trainer", f"`{key}: {left[key]}` of ESPnet2 has no counterpart")
    return result


def _model(left: dict[str, Any]) -> dict[str, Any]:
    """Take what builds the model."""
    model: dict[str, Any] = {}
    if left.get("input_size") is not None:
        model["input_size"] = left["input_size"]
    left.pop("input_size", None)
    for part in PARTS:
        name, conf = left.pop(part, ...), left.pop(f"{part}_conf", None)
        if name is ...:
            name = "default" if part == "frontend" and "input_size" not in model else None
            if conf is None and name is None:
                continue
        if name is not None:
            model[part] = name
            model[f"{part}_conf"] = dict(conf or {})
    kind = left.pop("model", None) or "espnet"
    if kind != "espnet":
        raise UsageError(f"there is no mapping of model '{kind}'", "model", "model: espnet")
    model["model"] = kind
    model["model_conf"] = dict(left.pop("model_conf", None) or {})
    if left.get("ctc_conf"):
        model["ctc_conf"] = dict(left["ctc_conf"])
    left.pop("ctc_conf", None)
    return model


def _optimizer(left: dict[str, Any]) -> dict[str, Any]:
    name = str(left.pop("optim", "adadelta")).lower()
    if name not in OPTIMIZERS:
        raise UsageError(f"there is no mapping of optim '{name}'", "optim",
                         nearest(name, OPTIMIZERS))  # fmt: skip
    conf = dict(left.pop("optim_conf", None) or {})
    if "lr" not in conf:
        raise UsageError("the learning rate is not given", "optim_conf.lr")
    # Options of the template would remain where none is given here.
    conf.setdefault("weight_decay", DECAY.get(OPTIMIZERS[name], 0.0))
    return {"_target_": f"torch.optim.{OPTIMIZERS[name]}", **conf}


def _scheduler(left: dict[str, Any]) -> tuple[dict[str, Any], str]:
    name, conf = left.pop("scheduler", None), left.pop("scheduler_conf", None) or {}
    if name is None:  # ESPnet3 wants one
        return {"_target_": TORCH + "ConstantLR", "factor": 1.0}, "step"
    name = str(name).lower()
    if name not in SCHEDULERS:
        raise UsageError(f"there is no mapping of scheduler '{name}'", "scheduler",
                         nearest(name, SCHEDULERS))  # fmt: skip
    target, interval = SCHEDULERS[name]
    return {"_target_": target, **conf}, interval


def _criterion(left: dict[str, Any], chosen: str) -> list[list[Any]]:
    """Return ``[[valid/acc, 10, max], ...]``, that of the chosen model first."""
    counts = left.pop("keep_nbest_models", 10)
    count = max(counts) if isinstance(counts, list) else counts
    given = left.pop("best_model_criterion", [["valid", "acc", "max"]])
    found = [[f"{part}/{key}", count, mode] for part, key, mode in given]
    found.sort(key=lambda c: not chosen.startswith(c[0].replace("/", ".") + "."))
    return found


def _batches(left: dict[str, Any], config: Mapping[str, Any], result: Mapped) -> None:
    """Take how batches are made: ESPnet2 counts samples, ESPnet3 feature values."""
    kind = left.pop("batch_type", "folded")
    size, bins = left.pop("batch_size", 20), left.pop("batch_bins", 1_000_000)
    folds = left.pop("fold_length", [])
    left.pop("valid_batch_type", None), left.pop("valid_batch_size", None)
    left.pop("valid_batch_bins", None)
    if "num_workers" in left:
        result.loader["num_workers"] = left.pop("num_workers")
    if kind not in BATCH_TYPES:
        raise UsageError(f"there is no mapping of batch_type '{kind}'", "batch_type",
                         nearest(str(kind), BATCH_TYPES))  # fmt: skip
    batches = {"type": kind, "shape_files": ["${stats_dir}/train/feats_shape"]}
    scale, unit = feature_scale(config)
    if kind in ("numel", "length"):
        per = scale if kind == "numel" else scale / feature_width(config)
        batches["batch_bins"] = round(bins * per)
        result.deviate(
            "dataloader",
            f"`batch_bins`: {bins:,} samples of ESPnet2 are {batches['batch_bins']:,} {unit} here, "
            "where text does not count",
        )
    else:
        batches["batch_size"] = size
    if kind == "folded":
        hop_scale = scale / feature_width(config)
        length = round((folds[0] if folds else 80000) * hop_scale)
        batches["fold_lengths"] = [length]
        result.deviate("dataloader", f"`fold_lengths`: {length} frames; text lengths do not count")
    result.loader["batches"] = batches


def feature_width(config: Mapping[str, Any]) -> int:
    """Return D, values of a feature frame."""
    if config.get("input_size") is not None:
        return int(config["input_size"])
    return int((config.get("frontend_conf") or {}).get("n_mels", 80))


def feature_scale(config: Mapping[str, Any]) -> tuple[float, str]:
    """Return values of features for a sample of audio, and what they are called.

    Raises:
        UsageError: The frames of the frontend are not known.
    """
    features = features_of_config(config)
    if features is None:
        raise UsageError(
            "batch_bins cannot be converted: the frames of this frontend are not known",
            "frontend", "frontend: default, or batch_type: sorted",
        )  # fmt: skip
    width = feature_width(config)
    return width / features.hop, f"feature values (frames of {features.hop} samples x {width})"


def _trainer(left: dict[str, Any], result: Mapped) -> None:
    """Take what the trainer does."""
    trainer = result.trainer
    rules: dict[str, tuple[str, Any, Callable]] = {
        "max_epoch": ("max_epochs", 40, int),
        "accum_grad": ("accumulate_grad_batches", 1, int),
        "grad_clip": ("gradient_clip_val", 5.0, float),
        "log_interval": ("log_every_n_steps", 100, lambda n: int(n or 100)),
    }
    for key, (name, default, convert) in rules.items():
        trainer[name] = convert(left.pop(key, default))
    if left.pop("use_amp", False):
        trainer["precision"] = "bf16-mixed"
        result.deviate("trainer", "`use_amp` is `precision: bf16-mixed`")
    if trainer["accumulate_grad_batches"] > 1:
        result.deviate("trainer", "the rest of an epoch after the last full accumulation is a step")
