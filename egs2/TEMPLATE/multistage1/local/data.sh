#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The manifest of clips, translations and transcripts in $MANIFEST into folder $1.
# EDIT: where the corpus is in another form, let a script of your own write such a manifest first,
# then  export MANIFEST="$1/manifest.jsonl".
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/av_manifest.py "$@" --env MANIFEST
