#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# $LABELLED, $UNLABELLED and, if set, $VALID and $TEST into folder $1.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/manifest.py "$@"
