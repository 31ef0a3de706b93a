# SPDX-License-Identifier: Apache-2.0
"""Sets of SUPERB: keywords, intents, phones, diarisation.

usage: python local/superb.py OUT [--tasks ks ic pr sd]

Writes TASK_train, TASK_dev and TASK_test for each task. The environment variables that name the
corpora are described at the head of local/superb_ks.py, _ic.py, _pr.py and _sd.py.
"""

import argparse
import sys
from pathlib import Path

import superb_ic
import superb_ks
import superb_pr
import superb_sd
from segmented import write_skipped

from espnet_ext.errors import exit_code

READERS = {"ks": superb_ks, "ic": superb_ic, "pr": superb_pr, "sd": superb_sd}


def main() -> None:
    """Write the sets of the tasks that are asked for, and one list of what is left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="+", choices=READERS, default=["ks"])
    args = parser.parse_args()
    made = [s for task in dict.fromkeys(args.tasks) for s in READERS[task].read()]
    for one in made:
        one.write(args.out)
    write_skipped(args.out, made)


if __name__ == "__main__":
    sys.exit(exit_code(main))
