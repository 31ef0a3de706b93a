# SPDX-License-Identifier: Apache-2.0
"""Checks of an ESPnet2 recipe: files that must equal the template's, entries, configurations."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.installation import install
from espnet_ext.upstream.checks import FAILED, MISSING, OK, Branch, Check, installed, run
from espnet_ext.upstream.dynamic import tests

SAME = ("cmd.sh", "conf/slurm.conf", "conf/queue.conf", "conf/pbs.conf")


def copies(branch: Branch) -> Check:
    """Check that what must be equal in all recipes is equal to the template's."""
    template, here = branch.folder / "egs2/TEMPLATE/asr1", branch.folder / branch.recipe
    wrong = [
        name
        for name in SAME
        if (template / name).is_file()
        and (not (here / name).is_file() or (here / name).read_bytes()
             != (template / name).read_bytes())
    ]  # fmt: skip
    return Check("copies of egs2/TEMPLATE", FAILED if wrong else OK, ", ".join(wrong))


def entries(branch: Branch) -> Check:
    """Check that the corpus stands in egs2/README.md and in db.sh."""
    corpus = branch.recipe.split("/")[1]
    page, table = branch.folder / "egs2/README.md", branch.folder / "egs2/TEMPLATE/asr1/db.sh"
    wrong = []
    if not page.is_file() or corpus not in page.read_text(encoding="utf-8").lower():
        wrong.append(f"egs2/README.md has no row of {corpus}")
    if not table.is_file() or f"{corpus.upper()}=" not in table.read_text(encoding="utf-8").upper():
        wrong.append(f"db.sh has no {corpus.upper()}")
    return Check("entries in egs2/README.md and db.sh", FAILED if wrong else OK, "\n".join(wrong))


def dry_run(branch: Branch) -> Check:
    """Build the model of each training configuration, as ESPnet's CI does."""
    name = "asr_train --dry_run of each configuration"
    if not installed("espnet2"):
        return Check(name, MISSING, install("espnet"))
    configs = [p for p in branch.files(".yaml") if "/conf/train" in p or "/tuning/train" in p]
    with tempfile.TemporaryDirectory() as folder:
        tokens = Path(folder) / "tokens"
        tokens.write_text("<blank>\n", encoding="utf-8")
        for config in configs:
            command = [sys.executable, "-m", "espnet2.bin.asr_train", "--config", config,
                       "--iterator_type", "none", "--dry_run", "true", "--output_dir",
                       f"{folder}/out", "--token_list", str(tokens)]  # fmt: skip
            status, text = run(branch, command)
            if status:
                return Check(name, FAILED, text)
    return Check(name, OK, f"{len(configs)} built")


def all_checks(branch: Branch) -> Iterator[Check]:
    """Yield the checks besides those that only read the files."""
    yield copies(branch)
    yield entries(branch)
    if any(p.startswith("test/") for p in branch.paths):
        yield tests(branch)
    yield dry_run(branch)
