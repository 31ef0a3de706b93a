# SPDX-License-Identifier: Apache-2.0
"""The parts of the method are usable where ESPnet is not installed: no import leads to it."""

import subprocess
import sys
from pathlib import Path

PARTS = (
    "audio_visual", "masking", "mae_loss", "clr_loss", "clr_tokens", "decoder", "video_encoder",
    "video_patches", "audio_parts", "options", "measure", "clip_retrieval", "crop", "preprocess",
    "recognition.cache", "recognition.options", "superb.heads", "superb.pit_loss",
)  # fmt: skip
CODE = """
import importlib, sys
for name in ("espnet", "espnet2", "espnet_ext.espnet"):
    sys.modules[name] = None  # an import of it fails
for name in sys.argv[1:]:
    importlib.import_module(f"espnet_ext.multistage.{name}")
assert "espnet2" not in {m.partition(".")[0] for m, x in sys.modules.items() if x is not None}
"""


def test_no_part_needs_espnet_or_its_adapter():
    root = Path(__file__).resolve().parents[2]
    made = subprocess.run(
        [sys.executable, "-c", CODE, *PARTS], cwd=root, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
