#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make the synthetic corpus that the recogniser is trained on in folder $1: train, dev and test.
set -euo pipefail
exec "${PYTHON:-python}" -m espnet_ext.data.synth "$@"
