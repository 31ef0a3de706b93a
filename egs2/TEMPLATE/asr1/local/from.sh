#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets that exist already, NAME=DIR in prepare.args of recipe.yaml, into folder $1.
set -euo pipefail
exec "${PYTHON:-python}" -m espnet_ext.data.sets_from "$@"
