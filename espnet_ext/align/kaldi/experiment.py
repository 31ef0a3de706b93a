# SPDX-License-Identifier: Apache-2.0
"""Where things lie in a Kaldi experiment, and where its frames lie in time."""

import re
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import DataError, UsageError

WINDOW_S = 0.025  # Kaldi's analysis window
SHIFT_S = 0.01
_NUMBERED = re.compile(r"(\d+)\.mdl")


@dataclass(frozen=True)
class Grid:
    """Where Kaldi's frames lie in time.

    Args:
        shift_s: Time between frames of the features.
        factor: Features per frame of the alignment (chain models: 3).
        snip_edges: Frames lie wholly inside the audio, as by Kaldi's default.
    """

    shift_s: float
    factor: int
    snip_edges: bool

    @classmethod
    def of(
        cls, folder: Path, shift_s: float | None, factor: int | None, snip_edges: bool
    ) -> "Grid":
        """Return the grid of an experiment; what is None comes from its files, if there.

        Raises:
            UsageError: The shift or the factor is not positive.
        """
        if shift_s is None:
            shift_s = read_number(folder / "frame_shift", SHIFT_S)
        if factor is None:
            factor = int(read_number(folder / "frame_subsampling_factor", 1))
        if not shift_s > 0 or factor < 1:
            raise UsageError(f"a frame shift of {shift_s} s, {factor} features a frame", folder)
        return cls(shift_s, factor, snip_edges)

    @property
    def step_s(self) -> float:
        return self.shift_s * self.factor

    @property
    def first_centre_s(self) -> float:
        return WINDOW_S / 2 if self.snip_edges else self.shift_s / 2

    def start_s(self, frame: int) -> float:
        """Return the time half-way between the centres of frames ``frame - 1`` and ``frame``."""
        return max(0.0, self.first_centre_s + (frame - 0.5) * self.step_s)

    def frames(self, duration_s: float) -> int:
        """Return the number of features of so much audio."""
        if self.snip_edges:
            return 1 + int((duration_s - WINDOW_S) / self.shift_s + 1e-6)
        return int(duration_s / self.shift_s + 0.5)


def find_model(folder: Path | str, model: Path | str | None = None) -> Path:
    """Return the model file of an experiment.

    ``final.mdl`` is often a link to ``35.mdl`` by a path of another machine: then the file of that
    name here is taken. All models of an experiment number transitions alike, so ``final.alimdl``
    and the last numbered model serve as well.

    Raises:
        DataError: There is none.
    """
    if model is not None:
        path = Path(model)
        return find_model(path) if path.is_dir() else path
    folder = Path(folder)
    final = folder / "final.mdl"
    if final.is_file():
        return final
    broken = final.is_symlink()
    names = [Path(final.readlink()).name] if broken else []
    numbers = sorted(
        (int(m[1]) for p in folder.glob("*.mdl") if (m := _NUMBERED.fullmatch(p.name))),
        reverse=True,
    )
    names += ["final.alimdl", *(f"{n}.mdl" for n in numbers), "0.trans_mdl"]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    what = f"final.mdl points to {final.readlink()}, which is not there" if broken else \
        "final.mdl is missing"  # fmt: skip
    raise DataError(what, folder, "give the model that made the alignments (--model)")


def read_number(path: Path, default: float) -> float:
    """Return the number in a file, or the default if there is no file."""
    if not path.is_file():
        return default
    try:
        value = float(path.read_text(encoding="ascii"))
    except ValueError:
        value = 0.0
    if not value > 0:
        raise DataError(f"{path.name} holds no positive number", path)
    return value
