#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# LibriSpeech from $LIBRISPEECH or by download, into folder $1: labelled, unlabelled (no text), dev,
# test_clean and test_other.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/librispeech.py "$@"
