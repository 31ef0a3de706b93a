#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Everything is set in recipe.yaml; ./run.sh --help lists the options.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
exec ../../../utils/recipe.sh "$@"
