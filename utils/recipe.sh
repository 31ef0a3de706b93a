#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Start the stage runner in the current folder with the project's Python.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${ESPNET_EXT_PYTHON:-${ESPNET_EXT_VENV:-$root/.venv}/bin/python}"
if [ ! -x "$python" ]; then
    echo "error: there is no environment yet" >&2
    echo "  where: $python" >&2
    echo "  fix:   make -C '$root' env" >&2
    exit 3
fi
# One thread a process; --nj says how many processes.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$python" -m espnet_ext.recipe "$@"
