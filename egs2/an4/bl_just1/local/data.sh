#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# AN4 from $AN4 or by download, into folder $1: labelled, unlabelled (no text), dev and test.
#   local/data.sh OUT --labelled-fraction 0.25 [--unlabelled rest|all]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/an4.py "$@"
