#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Kathleen voice of $KATHLEEN into folder $1: train_10min, train_rest (no text), dev and test;
# train, train_25 and train_50 stand beside them and are not used here.
#   local/data.sh OUT [options of local/kathleen.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/kathleen.py "$@"
