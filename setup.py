# SPDX-License-Identifier: Apache-2.0
"""A wheel also holds the files of the project that the command uses; pyproject.toml has the rest.

They go to ``espnet_ext/shipped`` under the names they have here, so that the repository keeps one
copy; espnet_ext/installation.py finds them.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
SHIPPED = (
    "conf/**/*.yaml",
    "egs2/TEMPLATE/**/*",
    "egs2/an4/bl_just1/conf/train_cpu.yaml",
    "egs2/atis/ml_lmcl1/conf/**/*",  # what templates name of other recipes
    "egs2/manifest/*/conf/**/*",
    "local/**/*",
)
MADE = {"data", "dump", "exp", "downloads", "__pycache__"}  # by a recipe that was run in place


class BuildWithShippedFiles(build_py):
    """Copies :data:`SHIPPED`, but nothing that running a recipe has left there."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a clone: the files are where they are
            return
        out = Path(self.build_lib, "espnet_ext/shipped")
        shutil.rmtree(out, ignore_errors=True)  # build/ of an earlier call
        for pattern in SHIPPED:
            for path in sorted(HERE.glob(pattern)):
                name = path.relative_to(HERE)
                if path.is_file() and not any(p in MADE or p[0] == "." for p in name.parts):
                    target = out / name
                    self.mkpath(str(target.parent))
                    shutil.copy(path, target)  # with its mode: run.sh is executable


setup(cmdclass={"build_py": BuildWithShippedFiles})
