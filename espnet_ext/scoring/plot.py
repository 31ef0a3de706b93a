# SPDX-License-Identifier: Apache-2.0
"""What all pictures share: colours, a figure without a window system, bytes that do not change."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import SetupError
from espnet_ext.files import atomic_path
from espnet_ext.installation import install

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe-Ito without yellow: told apart by colour-blind readers; markers and styles tell in print.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vPX"
STYLES = ("-", "--", "-.", ":")


def new_figure(path: Path | str, inches: tuple[float, float], dpi: int = 130) -> "Figure":
    """Return an empty figure.

    Args:
        path: File that it is for, for the message.
        inches: Width and height.
        dpi: Pixels per inch.

    Raises:
        SetupError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SetupError("drawing needs matplotlib", path, install(extra="plot")) from None
    # A bare Figure draws with Agg: no window system, no state shared with the caller's pyplot.
    return Figure(figsize=inches, dpi=dpi, layout="constrained")


def save(figure: "Figure", path: Path | str, note: str = "") -> Path:
    """Write a figure as PNG; equal figures give equal bytes.

    Args:
        figure: What is drawn.
        path: File to write.
        note: Kept in the file as its comment; see :func:`note_of`.
    """
    from PIL import Image, PngImagePlugin

    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    # Pictures are kept by git: a palette makes them a third of the size, and looks the same.
    small = Image.open(drawn).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    about = PngImagePlugin.PngInfo()
    if note:
        about.add_text("Comment", note)
    with atomic_path(path) as tmp:
        small.save(tmp, format="png", optimize=True, pnginfo=about)
    return Path(path)


def note_of(path: Path | str) -> str:
    """Return the note that a picture was saved with; empty where it has none."""
    from PIL import Image

    with Image.open(path) as picture:
        return picture.info.get("Comment", "")


def plain_axes(axes: "Axes") -> None:
    """Leave two spines and a light grid."""
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def literal(text: str) -> str:
    """Keep a dollar sign in a name from starting mathematical text."""
    return text.replace("$", r"\$")
