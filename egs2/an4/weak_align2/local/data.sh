#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# AN4 from $AN4 or by download, into folder $1: train, dev and test.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/an4.py "$@"
