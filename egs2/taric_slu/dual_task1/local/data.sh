#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manifest of TARIC-SLU in $TARIC_SLU into folder $1: train, dev and test.
#   local/data.sh OUT [options of local/slu_manifest.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/slu_manifest.py "$@" --env TARIC_SLU
