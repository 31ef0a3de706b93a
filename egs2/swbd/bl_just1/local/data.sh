#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Switchboard-1 and Hub5e_00 from $SWBD and $EVAL2000 into folder $1: labelled, unlabelled (no text),
# dev, eval2000_swbd and eval2000_callhome.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/swbd.py "$@"
