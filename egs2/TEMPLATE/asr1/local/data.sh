#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From the corpus in $MANIFEST to Kaldi-style folders in $1: train, dev and test.
# The runner empties $1 first, checks what comes out, and brings the old data back on a failure.
# EDIT: this may call anything else that makes data/<set>/{wav.scp,text,utt2spk}, and segments.
set -euo pipefail
exec "${PYTHON:-python}" local/data.py "$@"
