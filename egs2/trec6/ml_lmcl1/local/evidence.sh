#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate RESULTS.md: baselines, ML-LMCL and its ablations, five seeds each.
#   PHONEME_BERT=/path [TEXT_ENCODER=/path] local/evidence.sh [--systems NAME,...] [--seeds 1,2] [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-../../../.venv}/bin/python}"
"$python" ../../../local/intent_evidence.py "$@"
exec "$python" -m espnet_ext.cli results .
