#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From the lists in $MANIFEST to folders of texts in $1: train, valid and test.
# The runner empties $1 first, checks what comes out, and brings the old data back on a failure.
set -euo pipefail
exec "${PYTHON:-python}" local/data.py "$@"
