#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything is set in recipe.yaml; ./run.sh --help lists the options.
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="$PWD" # the paths of corpora in variables are meant from there
cd "$(dirname "${BASH_SOURCE[0]}")"
exec ../../../utils/recipe.sh "$@"
