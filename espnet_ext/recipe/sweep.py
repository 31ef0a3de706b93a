# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext sweep FILE.yaml [--dry-run] [--values 0.1,0.2] [--seeds 1,2]
                        [--jobs N] [OPTIONS]

Run a grid of experiments of the recipe in this folder, then draw the curve. FILE.yaml holds:

  name: lr                             # names experiments, groups and results/sweep_lr.png
  key: finetune.args.optim_conf.lr     # the swept key of recipe.yaml
  values: [0.001, 0.002]               # numbers, or names (mono, tri): an axis of categories
  x: [10, 20]                          # optional: where the values stand on the axis
  seeds: [1, 2, 3]                     # default: [1]
  curves: {key: finetune.args.encoder_conf.num_blocks, values: [2, 4]}    # optional
                                       # or {systems: {NAME: {KEY: VALUE, ...}, ...}}
  base: {finetune.args.max_epoch: 5}   # optional: further keys, the same for every run
  evidence: ../evidence.yaml           # optional: its base, which the keys of this file go over
  system: bljust                       # optional: and the keys of this system of it
  set: dev                             # default: data.valid
  metric: wer                          # default: the first of score.metrics of recipe.yaml
  also: [cer]                          # optional: further metrics, a picture each
  method: greedy_ctc                   # default: decode.method, or the inference model
  x_label: learning rate               # default: the key
  last_stage: score                    # default

A text value may hold {seed}, for a file of another run of the same seed. Finished runs are up to
date, so a sweep that was stopped is simply started again. With --values or --seeds only these are
run, and there is a table but no picture. With --jobs N, N runs are at work at a time; their output
is in exp/NAME/log/run.log. OPTIONS are --nj, --ngpu, --executor and --debug.
"""

import shlex
import sys
from pathlib import Path

from espnet_ext.recipe import experiments, options
from espnet_ext.recipe.console import say
from espnet_ext.recipe.sweep_grid import check, expand, load, narrowed
from espnet_ext.recipe.sweep_results import report

OWN = ("values", "seeds", "jobs")  # options of this command alone


def main(argv: list[str] | None = None) -> int:
    """Run a sweep in the current directory; return the exit code of the first run that fails.

    Raises:
        UsageError: The command line or FILE.yaml asks for something that does not exist.
        DataError: The runs were scored on different references.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    file = Path(argv[0])
    how = "keys of recipe.yaml go below 'base:' in the file"
    opts = experiments.parse(argv, "sweep", OWN, how)
    sweep = load(file)
    part = narrowed(sweep, experiments.listed(opts, "values"), experiments.seeds(opts))
    whole = part == sweep
    runs = expand(part, file)
    part = check(part, runs, file)
    passed_on = options.without(argv[1:], {"dry-run", *OWN})
    experiments.build_all(runs, opts)
    for line in experiments.plan_lines(runs, passed_on) if opts.dry_run else ():
        say(line)
    if opts.dry_run:
        return 0
    again = f"espnet-ext sweep {shlex.join(argv)}"
    if code := experiments.run_all(runs, passed_on, f"sweep {sweep.name}", again, opts):
        return code
    # A picture of a part would take the place of that of the whole.
    report(part, runs, draw=whole)
    return 0
