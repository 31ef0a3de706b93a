#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything is set in recipe.yaml; ./run.sh --help lists the options.
set -euo pipefail
export ESPNET_EXT_CALLED_FROM="$PWD" # paths in variables such as AN4 are meant from there
cd "$(dirname "${BASH_SOURCE[0]}")"
exec ../../../utils/recipe.sh "$@"
