# SPDX-License-Identifier: Apache-2.0
"""The header of an alignment directory: what its classes are, and where its frames lie in time."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from espnet_ext.errors import DataError

FORMAT = "espnet_ext alignment 1"
FILE = "header.json"  # in an alignment directory
UNITS = ("senone", "phone", "phone_state", "triphone", "pdf")


@dataclass(frozen=True)
class Header:
    """What an alignment's classes are, and where its frames lie.

    Args:
        unit: One of UNITS; "phone_state" is a state of a phone without context.
        num_classes: K; labels lie in ``[0, K)``.
        frame_shift_s: Time from a frame to the next.
        first_frame_centre_s: Centre of frame 0.
        silence_ids: Classes that stand for silence.
        source: What made the alignment.
        source_train_data: What its model was trained on.
        phones: Names; the index is the phone id, silence first.
        times: The pass of the aligner that the times in files are of; classes, phones and words of
            frames are of the last one (see ``source``).
        long_phones: Those whose labels come from two units of three states each.
    """

    unit: str
    num_classes: int
    frame_shift_s: float = 0.01
    first_frame_centre_s: float = 0.005
    silence_ids: tuple[int, ...] = ()
    source: str = ""
    source_train_data: str = ""
    phones: tuple[str, ...] = ()
    long_phones: tuple[str, ...] = ()
    times: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "silence_ids", tuple(int(i) for i in self.silence_ids))
        object.__setattr__(self, "phones", tuple(self.phones))
        object.__setattr__(self, "long_phones", tuple(self.long_phones))
        if self.unit not in UNITS or self.num_classes < 1 or not self.frame_shift_s > 0:
            raise DataError(
                f"unit '{self.unit}', {self.num_classes} classes, every {self.frame_shift_s} s",
                "alignment header", f"the unit is one of {', '.join(UNITS)}; numbers are positive",
            )  # fmt: skip

    def centres_s(self, frames: int) -> np.ndarray:
        """Return ``(T,)`` centres of the frames in seconds."""
        return self.first_frame_centre_s + self.frame_shift_s * np.arange(frames)

    def to_json(self) -> dict[str, object]:
        """Return the content of ``header.json``."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read ``header.json``, or that of a folder.

        Raises:
            DataError: It is missing or of another format.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            known = {k: content[k] for k in cls.__dataclass_fields__ if k in content}
            if content["format"] != FORMAT:
                raise ValueError(f"format '{content['format']}'")
            return cls(**known)
        except FileNotFoundError:
            raise DataError(
                "there is no alignment here: header.json is missing", path.parent,
                "make it with 'espnet-ext align', or run the recipe's stage 3",
            ) from None  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DataError(f"not an alignment header of format '{FORMAT}' ({e})", path) from e
