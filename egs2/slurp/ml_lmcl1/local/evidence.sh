#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate RESULTS.md: baselines, ML-LMCL and its ablations, five seeds each.
#   SLURP=/path [TEXT_ENCODER=/path] local/evidence.sh [--systems NAME,...] [--seeds 1,2] [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-../../../.venv}/bin/python}"
# Without the systems that train on simulated ASR text, which is a preparation of its own here.
systems=roberta_asr,roberta_manual,pooled,ml_lmcl,spokencse,spokencse_asis
systems+=,no_mutual,no_supervised_contrastive,no_distillation,no_annealing,one_way
systems+=,no_stage1,no_polarization,true_distance,no_masked_lm,no_manual
"$python" ../../../local/intent_evidence.py --systems "$systems" "$@"
exec "$python" -m espnet_ext.cli results .
