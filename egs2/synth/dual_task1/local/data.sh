#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Hotel and travel requests in French, Italian, Arabic and English in folder $1, split by meaning,
# and a sentence encoder for them.
#   local/data.sh OUT [options of local/data.py]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/data.py" "$@"
