# SPDX-License-Identifier: Apache-2.0
"""The method as a package of its own: which parts of which modules are vendored."""

from espnet_ext.upstream.templating import template
from espnet_ext.upstream.vendor import File, Piece, vendored

_ROOM = "espnet_ext.weak_align"
# Options have another name there.
RENAMED = {'"aux.layer"': '"align_conf.layer"'}


def method_files(base: str) -> dict[str, str]:
    """Return the vendored modules below ``base``, by file name."""
    files = (
        File("loss", (Piece(f"{_ROOM}.loss", leave=("loss_floor",)),)),
        File("labels", (Piece(f"{_ROOM}.labels", leave=("stretch",)),)),
        File(
            "taps",
            (
                Piece(
                    "espnet_ext.frames",
                    ("Step", "POOL2", "skip", "stride_of", "length_after", "offset_of", "Features"),
                ),
                Piece(f"{_ROOM}.geometry"),
                Piece(f"{_ROOM}.taps", leave=("layer_number",)),
            ),
            front=template("weak_align/errors.py", {}),
            provides=("UsageError", "nearest"),
        ),
    )
    return vendored(files, base, RENAMED)
