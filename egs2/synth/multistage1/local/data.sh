#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# English requests in folder $1: with pictures of a mouth, with translations, with transcripts.
#   local/data.sh OUT [options of local/data.py]
set -euo pipefail
exec "${PYTHON:-python}" "$(dirname "$0")/data.py" "$@"
