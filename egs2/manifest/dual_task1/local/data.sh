#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manifest of tagged speech in $MANIFEST into folder $1, a folder for each set.
#   local/data.sh OUT [options of local/slu_manifest.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/slu_manifest.py "$@"
