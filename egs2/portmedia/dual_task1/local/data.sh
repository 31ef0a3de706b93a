#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PortMEDIA of $PORTMEDIA into folder $1: the manifest, and train, dev and test.
#   local/data.sh OUT [options of local/portmedia.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/portmedia.py "$@"
