#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The sets of SUPERB's tasks in folder $1: ks_train, ks_dev, ks_test, and so on.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/superb.py "$@"
