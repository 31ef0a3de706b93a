#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# TREC6 of $PHONEME_BERT into folder $1: train, valid, test, and test with simulated ASR text.
#   local/data.sh OUT [--wer RATE ...] [--seed N]
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/phoneme_bert.py "$@" --corpus trec6
