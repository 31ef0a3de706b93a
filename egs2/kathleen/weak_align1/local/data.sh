#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Kathleen voice of $KATHLEEN into folder $1: train, dev, test, parts of train, and a lexicon
# out of CMUdict ($CMUDICT).
#   local/data.sh OUT --lexicon [options of local/kathleen.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/kathleen.py "$@"
