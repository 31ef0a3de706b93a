#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manifest of tagged speech in $MANIFEST into folder $1, a folder for each set.
# EDIT: where the corpus is in another form, let a script of your own write such a manifest first
# (espnet_ext.data.slu_manifest.write), then  export MANIFEST="$1/manifest.tsv".
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/slu_manifest.py "$@" --env MANIFEST
