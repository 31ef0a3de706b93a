#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Babel pack in $BABEL_TAGALOG, into folder $1: train, dev, test and lexicon.txt.
set -euo pipefail
exec "${PYTHON:-python}" ../../../local/babel.py "$1" --env BABEL_TAGALOG "${@:2}"
