#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# SLURP of $SLURP into folder $1: train, valid and test, with manual and ASR text.
#   local/data.sh OUT [--asr released|espnet|simulate] [options of local/slurp.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/slurp.py "$@"
