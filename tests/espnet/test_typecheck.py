# SPDX-License-Identifier: Apache-2.0
"""ESPnet checks the types at its borders at run time; with that switched on, ours still fit."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_our_classes_pass_espnets_own_type_checks():
    env = {**os.environ, "ESPNET_EXT_TYPECHECK": "1"}
    command = [sys.executable, "-m", "pytest", "-x", str(HERE / "test_task.py")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
