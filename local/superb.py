# SPDX-License-Identifier: Apache-2.0
"""Sets of SUPERB: keywords, intents, phones, diarisation.

usage: python local/superb.py OUT [--tasks ks ic pr sd]

Writes TASK_train, TASK_dev and TASK_test for each task, and the list of them, superb/tasks. Without
--tasks, those whose corpora are given are made and the others are listed as skipped. The
environment variables that name the corpora are described at the head of local/superb_ks.py, _ic.py,
_pr.py and _sd.py.
"""

import argparse
import os
import sys
from pathlib import Path

import superb_ic
import superb_ks
import superb_pr
import superb_sd
from segmented import write_skipped
from superb_common import SuperbSet

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, exit_code

READERS = {"ks": superb_ks, "ic": superb_ic, "pr": superb_pr, "sd": superb_sd}
PARTS = ("train", "dev", "test")


def main() -> None:
    """Write the sets of the tasks, their list, and one list of what is left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=READERS)
    args = parser.parse_args()
    missing = {} if args.tasks else not_given()
    tasks = list(dict.fromkeys(args.tasks or [t for t in READERS if t not in missing]))
    if not tasks:
        told = "; ".join(f"{task}: {why}" for task, why in missing.items())
        how = "see the README of egs2/superb/multistage1"
        raise DataError(f"no task has its corpora ({told})", "environment", how)
    for task, why in missing.items():
        print(f"{task}: skipped, {why}")
    made = [s for task in tasks for s in READERS[task].read()]
    for one in made:
        one.write(args.out)
    write_table(
        args.out / "superb" / "tasks", {t: " ".join(f"{t}_{p}" for p in PARTS) for t in tasks}
    )
    left = [SuperbSet(task, skipped=[("-", "task", why)]) for task, why in missing.items()]
    write_skipped(args.out, [*made, *left])


def not_given() -> dict[str, str]:
    """Return the tasks that lack a corpus, and which."""
    found = {}
    for task, reader in READERS.items():
        if lacks := [v for v in reader.VARIABLES if not os.environ.get(v)]:
            found[task] = f"{' and '.join(lacks)} not set"
    return found


if __name__ == "__main__":
    sys.exit(exit_code(main))
