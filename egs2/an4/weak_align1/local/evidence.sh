#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate the table of RESULTS.md: the method, its paired baseline and two controls, three seeds each.
# 12 runs of some 10 minutes on one core. Started again, it goes on; options are passed on to run.sh.
#   AN4=/path local/evidence.sh [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}"
case "${AN4:-/}" in /*) ;; *) export AN4="$ESPNET_EXT_CALLED_FROM/$AN4" ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for seed in 1 2 3; do
    for group in baseline weak_tri shuffled one_hot_weighted; do
        case "$group" in
            shuffled) aux=(--finetune.args.aux.label_source shuffled) ;;
            *) aux=(--finetune.args.aux.preset "$group") ;;
        esac
        ./run.sh --name "${group}_s$seed" --group "$group" --seed "$seed" "${aux[@]}" \
            --stop-stage score "$@"
    done
done
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-../../../.venv}/bin/python}"
exec "$python" -m espnet_ext.cli results .
