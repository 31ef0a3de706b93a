#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TED-LIUM 2 from $TEDLIUM2 or by download, into folder $1: train, dev, test and lexicon.txt.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/tedlium2.py "$@"
