#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# MEDIA of $MEDIA into folder $1: the manifest, and train, dev and test with tagged and plain text.
#   local/data.sh OUT [options of local/media.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/media.py "$@"
