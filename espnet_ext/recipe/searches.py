# SPDX-License-Identifier: Apache-2.0
"""Further searches of ``espnet-ext evidence``: presets by which every run is decoded as well.

What a search reads and a preset makes, ``exp/PRESET/...``, as a language model, is made first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext import yamlfile
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe import config, decoding, experiments, options, presets, runner
from espnet_ext.recipe.experiment import Experiment, Overrides
from espnet_ext.recipe.stages import PHASES, Context, find
from espnet_ext.recipe.steps.decode import search_files

RECIPE = Path("recipe.yaml")


@dataclass(frozen=True)
class Searches:
    """The presets of the searches, their options, and the presets that make what they read."""

    names: tuple[str, ...] = ()
    overrides: tuple[Overrides, ...] = ()
    before: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return what the plan tells of them."""
        if not self.names:
            return []
        made = "".join(f"; before all: ./run.sh --preset {name}" for name in self.before)
        return [f"every run is decoded by {', '.join(self.names)} as well{made}"]

    def prepare(
        self, runs: Sequence[Experiment], passed_on: Sequence[str], opts: options.Options
    ) -> int:
        """Make what the searches read, and check their options; return an exit code.

        Raises:
            UsageError: ESPnet's search lacks an option, or the language model has other tokens.
        """
        own = {key.replace("_", "-") for key, _ in opts.overrides if _is_own(key)}
        data_only = options.without(list(passed_on), own)
        for name in self.before:
            if code := runner.main(["--preset", name, *data_only]):
                return code
        for search in self.overrides:
            recipe = config.load(RECIPE, [*runs[0].overrides, *search])
            ctx = Context(recipe, opts, find("decode"))
            if check := decoding.check_of(ctx):
                check(ctx)
        return 0


def of(names: Sequence[str], path: Path, last_stage: str) -> Searches:
    """Return the searches that an evidence file names.

    Raises:
        UsageError: There is no such preset, it sets more than the search, or no run is scored.
    """
    if not names:
        return Searches()
    where = f"{path}: searches"
    if find(last_stage).number < find("score").number:
        raise UsageError(f"last_stage is '{last_stage}': nothing is decoded", where, "omit one")
    raw = yamlfile.read_extended(RECIPE, "recipe.yaml")
    known, found = raw.get(presets.SECTION) or {}, []
    for name in names:
        if name not in known:
            how = nearest(name, known) if known else "this recipe has none"
            raise UsageError(f"there is no preset '{name}'", where, how)
        pairs = [(key, experiments.as_text(v)) for key, v, _ in presets.values(raw, name)]
        for key, _ in pairs:
            if key.partition(".")[0] != "decode":
                what = f"preset '{name}' sets '{key}', which is no option of the search"
                raise UsageError(what, where, "name it in systems")
        found.append(tuple(pairs))
    before = dict.fromkeys(x for search in found for x in _makers(search, known))
    return Searches(tuple(names), tuple(found), tuple(before))


def _is_own(key: str) -> bool:
    """Whether an option is of the systems' models, not of the data that all have in common."""
    return key.partition(".")[0] in (*PHASES, "align", "decode", "score", "pack")


def _makers(search: Overrides, known: dict) -> Iterator[str]:
    """Yield the presets that make what a search reads."""
    for file in search_files(config.load(RECIPE, list(search)).decode).values():
        if file.parts[0] == "exp" and file.parts[1] in known:
            yield file.parts[1]
