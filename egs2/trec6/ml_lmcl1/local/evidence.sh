#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Regenerate RESULTS.md: baselines, ML-LMCL and its ablations, five seeds each.
#   PHONEME_BERT=/path [TEXT_ENCODER=/path] [SEEDS="1 2 3"] [SYSTEMS="..."] local/evidence.sh [--nj 2 ...]
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="${ESPNET_EXT_CALLED_FROM:-$PWD}"
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec ../../../local/intent_evidence.sh "$@"
