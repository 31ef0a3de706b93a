#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make the embedded synthetic corpus in folder $1: train, dev and test.
set -euo pipefail
exec "${PYTHON:-python}" -m espnet_ext.data.synth "$@"
