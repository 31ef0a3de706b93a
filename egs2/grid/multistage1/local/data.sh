#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# GRID of $GRID into folder $1: train, dev and test, each with sound, video and words.
#   local/data.sh OUT [options of local/grid.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/grid.py "$@"
