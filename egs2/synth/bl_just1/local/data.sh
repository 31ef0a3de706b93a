#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The embedded synthetic corpus in folder $1: labelled, unlabelled (no text), dev and test.
#   local/data.sh OUT --labelled-fraction 0.25 [--unlabelled rest|all] [options of the corpus]
set -euo pipefail
exec "${PYTHON:-python}" local/data.py "$@"
