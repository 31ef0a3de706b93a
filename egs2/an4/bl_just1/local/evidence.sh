#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate the table of RESULTS.md: BL-JUST and its baselines, each with as many forward-backward
# passes, and supervised training on its labelled batches alone, three seeds each: 15 runs of some 10
# minutes on one core. Started again, it goes on; options are passed on to run.sh.
#   AN4=/path local/evidence.sh [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}"
case "${AN4:-/}" in /*) ;; *) export AN4="$ESPNET_EXT_CALLED_FROM/$AN4" ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for seed in 1 2 3; do
    for group in bljust pt_ft weighted_sum supervised supervised_short; do
        case "$group" in
            supervised_short) schedule=supervised budget=batches ;; # the labelled batches of BL-JUST
            *) schedule="$group" budget=passes ;;
        esac
        ./run.sh --name "${group}_s$seed" --group "$group" --seed "$seed" \
            --finetune.args.bl_just.schedule "$schedule" --finetune.args.bl_just.budget "$budget" \
            --stop-stage score "$@"
    done
done
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-../../../.venv}/bin/python}"
exec "$python" -m espnet_ext.cli results .
