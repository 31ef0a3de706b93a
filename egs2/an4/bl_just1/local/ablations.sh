#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# BL-JUST with one thing changed at a time, one seed each (SEEDS="1 2 3" for three). Compare them with
# bljust of local/evidence.sh; a removed phase is a smaller budget, and the results page says so.
#   AN4=/path [SEEDS="1 2 3"] local/ablations.sh [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}"
case "${AN4:-/}" in /*) ;; *) export AN4="$ESPNET_EXT_CALLED_FROM/$AN4" ;; esac
cd "$(dirname "${BASH_SOURCE[0]}")/.."

run() { # name, key of bl_just, value, options
    local name="$1" key="$2" value="$3"
    shift 3
    for seed in ${SEEDS:-1}; do
        ./run.sh --name "${name}_s$seed" --group "$name" --seed "$seed" \
            --finetune.args.bl_just.schedule bljust "--finetune.args.bl_just.$key" "$value" \
            --stop-stage score "$@"
    done
}

run no_penalty gamma_max 0 "$@"
run no_exploration explore_steps 0 "$@"
run no_final final_steps 0 "$@"
run explore_first explore_when first "$@"
run gamma_per_step gamma_unit step "$@"
run gamma_reference gamma_ramp reference "$@"
run gamma_constant gamma_ramp constant "$@"
run eta_one eta_scale one "$@"
run levels_reversed upper_level unsupervised "$@"
run wav2vec2 unsup_loss wav2vec2 "$@"
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-../../../.venv}/bin/python}"
exec "$python" -m espnet_ext.cli results .
