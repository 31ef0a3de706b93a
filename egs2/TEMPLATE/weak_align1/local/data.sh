#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From the corpus in $MANIFEST to Kaldi-style folders in $1: train, dev and test.
# The runner empties $1 first, checks what comes out, and brings the old data back on a failure.
# EDIT: a lexicon of the corpus may be copied to $1/lexicon.txt: align.lexicon data/lexicon.txt.
set -euo pipefail
exec "${PYTHON:-python}" ../asr1/local/data.py "$@"
