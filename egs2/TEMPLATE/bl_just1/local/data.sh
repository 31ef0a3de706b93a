#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# $LABELLED, $UNLABELLED and, if set, $VALID and $TEST into folder $1.
# EDIT: where the corpus is in another form, let a script of your own write such folders first, and
# name them: --labelled DIR --unlabelled DIR --valid DIR --test DIR.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/manifest.py "$@"
