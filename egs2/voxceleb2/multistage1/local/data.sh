#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clips, MuST-C and LibriSpeech into folder $1: av_*, st_*, and train, dev, test_clean, test_other.
#   local/data.sh OUT --clips CORPUS [options of local/multistage.py]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/multistage.py "$@"
