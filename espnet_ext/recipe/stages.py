# SPDX-License-Identifier: Apache-2.0
"""The one list of stages. A stage is data; its code is ``recipe/steps/<module>.py``."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.schema import PHASES as PHASES
from espnet_ext.recipe.schema import Recipe


@dataclass(frozen=True)
class Stage:
    """A row of the list: ``section`` of recipe.yaml switches it on."""

    number: int
    name: str
    does: str
    module: str
    shared: bool = False  # its products do not depend on the experiment's name

    @property
    def section(self) -> str:
        return self.name

    def code(self, recipe: Recipe) -> ModuleType:
        """Import the stage's code: functions ``plan(ctx)`` and ``run(ctx, plan)``.

        Raises:
            UsageError: recipe.yaml names a module that does not exist.
        """
        section = getattr(recipe, self.section)
        own = section.get("code") if isinstance(section, dict) else getattr(section, "code", "")
        name = own or f"espnet_ext.recipe.steps.{self.module}"
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as e:
            if not own or (e.name and not f"{own}.".startswith(f"{e.name}.")):
                raise
            raise UsageError(f"there is no module '{own}'", f"{self.section}.code") from None


STAGES = (
    Stage(1, "prepare", "local/data.sh makes Kaldi-style data/<set>", "prepare", shared=True),
    Stage(2, "format", "check, cut, resample, filter: dump/<set>", "format", shared=True),
    Stage(3, "align", "hybrid triphone alignment of the training audio", "align", shared=True),
    Stage(4, "tokens", "token list (BPE, characters, words, tags)", "tokens", shared=True),
    Stage(5, "pretrain", "training phase 1", "train"),
    Stage(6, "midtrain", "training phase 2", "train"),
    Stage(7, "finetune", "training phase 3: the final model", "train"),
    Stage(8, "decode", "inference on each set", "decode"),
    Stage(9, "score", "metrics, run record, RESULTS.md", "score"),
    Stage(10, "pack", "one archive of the final model, and the lines that load it", "pack"),
)


@dataclass
class Context:
    """What a stage may know. All paths are relative to the recipe's folder, the current one."""

    recipe: Recipe
    options: Options
    stage: Stage | None = None

    @property
    def exp(self) -> Path:
        return Path("exp") / self.recipe.name

    def phase_dir(self, phase: str) -> Path:
        return self.exp / phase

    def done_path(self, stage: Stage) -> Path:
        """Return the record of a stage; products that stand side by side have one each."""
        base = Path(".stages") if stage.shared else self.exp / ".stages"
        if getattr(self.recipe, stage.section) is None:
            return base / f"{stage.name}.json"
        variant = getattr(stage.code(self.recipe), "variant", lambda ctx: "")(self)
        return base / (f"{stage.name}.{variant}.json" if variant else f"{stage.name}.json")


@dataclass
class Plan:
    """What a stage would do; made without torch and without side effects.

    Attributes:
        needs: Files that must exist before.
        makes: Files that exist afterwards; one missing makes the stage run again.
        settings: Configuration values that the products depend on.
        inputs: Files whose content the products depend on (default: ``needs``).
        corpora: ``{name: folder}`` of which transcripts and lists count, not the audio.
        disk_mb: Estimate of the space taken.
        stock: Commands that do the same, with ESPnet's own programs where it has them, to be pasted
            in the recipe's folder.
        off: Why the stage has nothing to do; empty if it has.
        does: What it does with this configuration; empty: what the list of stages says.
        notes: What else a person should know of it; ``--dry-run`` tells.
    """

    needs: list[Path] = field(default_factory=list)
    makes: list[Path] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    inputs: list[Path] | None = None
    corpora: dict[str, Path] = field(default_factory=dict)
    disk_mb: float = 0.0
    stock: list[str] = field(default_factory=list)
    off: str = ""
    does: str = ""
    notes: list[str] = field(default_factory=list)


def find(text: str) -> Stage:
    """Return the stage with that number or name."""
    for stage in STAGES:
        if text in (str(stage.number), stage.name):
            return stage
    names = [s.name for s in STAGES]
    raise UsageError(
        f"there is no stage '{text}'", None, f"{nearest(text, names)} (1-{len(STAGES)} or a name)"
    )


def formats_audio(recipe: Recipe) -> bool:
    """Whether stage 2 makes audio as the standard one does: that one, or code that calls it."""
    if recipe.format is None:
        return False
    return getattr(find("format").code(recipe), "FORMATS_AUDIO", False)


def select(first: str, last: str) -> tuple[Stage, ...]:
    """Return the stages from ``first`` to ``last``; empty text means the ends."""
    a = find(first) if first else STAGES[0]
    b = find(last) if last else STAGES[-1]
    if a.number > b.number:
        raise UsageError(
            f"--stage {first} comes after --stop-stage {last}: nothing to run",
            None,
            "swap them, or omit --stop-stage",
        )
    return STAGES[a.number - 1 : b.number]


def plan(ctx: Context, stage: Stage) -> Plan:
    """Return the stage's plan; ``off`` is set when recipe.yaml has no such section."""
    if getattr(ctx.recipe, stage.section) is None:
        return Plan(off=f"recipe.yaml has no '{stage.section}' section")
    ctx.stage = stage
    return stage.code(ctx.recipe).plan(ctx)
