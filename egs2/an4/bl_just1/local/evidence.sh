#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate the table of RESULTS.md: BL-JUST and its baselines, each with as many forward-backward
# passes, three seeds each. Started again, it goes on; options are passed on to run.sh.
#   AN4=/path local/evidence.sh [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}"
case "${AN4:-/}" in /*) ;; *) export AN4="$ESPNET_EXT_CALLED_FROM/$AN4" ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for seed in 1 2 3; do
    for schedule in supervised pt_ft weighted_sum bljust; do
        ./run.sh --name "${schedule}_s$seed" --group "$schedule" --seed "$seed" \
            --finetune.args.bl_just.schedule "$schedule" --finetune.args.bl_just.budget passes \
            --stop-stage score "$@"
    done
done
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-../../../.venv}/bin/python}"
exec "$python" -m espnet_ext.cli results .
