#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Synthetic commands with their intents into folder $1: train, valid and test, with ASR text by a
# recogniser that is trained here.
#   local/data.sh OUT [options of local/data.py]
set -euo pipefail
exec "${PYTHON:-python}" local/data.py "$@"
