#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manifest of clips, translations and transcripts in $MANIFEST into folder $1.
#   local/data.sh OUT [options of local/av_manifest.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/av_manifest.py "$@"
