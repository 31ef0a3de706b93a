#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the environment, or returns at once when it is up to date:  utils/env.sh [--print-python]
#   PYTHON              the interpreter to try first (3.12 or 3.13)
#   ESPNET_EXT_VENV     where the environment goes (default: .venv in the repository)
#   ESPNET_EXT_EXTRAS   the extras of pyproject.toml it gets (default: all; may be empty). Without
#                       `text` stock ESPnet's processes start faster: they import transformers at once
# Exit codes: 0 done, 2 wrong usage, 3 the machine lacks something. Nothing outside is changed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${ESPNET_EXT_VENV:-$root/.venv}
extras=${ESPNET_EXT_EXTRAS-synth,video,text,cluster,plot,superb,upstream,docs,dev}
tools=$root/.uv # uv itself, a Python it may fetch, the lock and the log
log=$tools/log
inputs=(setup.py pyproject.toml constraints.txt utils/env.sh)
cd "$root"

say() { echo "env: $*"; }
die() { # what, how, where
    printf 'utils/env.sh: %s\n  where: %s\n  fix:   %s\n' "$1" "${3:-$log}" "$2" >&2
    exit 3
}

logged() { # a terminal sees uv's progress bars; elsewhere they would only be noise
    if [ -t 2 ]; then "$@"; else "$@" >>"$log" 2>&1; fi
}

# Prints the real path of a CPython 3.12 or 3.13. Only a run tells: a pyenv shim may not start. In
# an activated environment the answer is the interpreter below it, as that environment may go away.
usable() {
    "$1" -I -S -c '
import sys
if not (3, 12) <= sys.version_info < (3, 14) or sys.implementation.name != "cpython" or \
        "t" in sys.abiflags:  # few packages have wheels for the free-threaded build
    sys.exit(1)
print(getattr(sys, "_base_executable", "") or sys.executable)' </dev/null 2>/dev/null
}

find_python() {
    local pyenv=${PYENV_ROOT:-${HOME:-}/.pyenv}/versions candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3 \
        "$pyenv"/3.13.*/bin/python "$pyenv"/3.12.*/bin/python "$tools"/python/*/bin/python3.12; do
        usable "$candidate" && return 0
    done
    return 1
}

find_uv() {
    uv --version >/dev/null 2>&1 && echo uv && return
    "$tools/venv/bin/uv" --version >/dev/null 2>&1 && echo "$tools/venv/bin/uv"
}

bootstrap_uv() { # any Python with venv and pip will do, the user's own packages stay as they are
    local candidate
    for candidate in ${python:+"$python"} python3 python; do
        rm -rf "$tools/venv"
        "$candidate" -m venv "$tools/venv" >>"$log" 2>&1 || continue
        "$tools/venv/bin/python" -m pip install --only-binary :all: uv >>"$log" 2>&1 && return 0
    done
    rm -rf "$tools/venv"
    return 1
}

digest() { # moving the folder breaks an environment, so the place counts too
    { printf '%s\n' "$root" "$extras" && cat "${inputs[@]}"; } |
        { sha256sum 2>/dev/null || shasum -a 256; }
}

fresh() {
    local sum from
    [ -x "$venv/bin/python" ] && { read -r sum && read -r from; } 2>/dev/null <"$venv/.stamp" &&
        [ "$sum" = "$(digest)" ] && [ "${PYTHON:-$from}" = "$from" ]
}

prepare() { # sets python and uv
    local need="no Python 3.12 or 3.13 starts on this machine, and uv could not get one"
    local how="install Python 3.12 (with its venv module), or name one: PYTHON=/path/to/python3.12"
    python=$(find_python) || python=
    uv=$(find_uv) || { bootstrap_uv && uv=$(find_uv); } || {
        [ -n "$python" ] || die "$need" "$how"
        die "uv is not on the PATH and pip could not install it" "install uv, then run this again"
    }
    [ -n "$python" ] && return
    say "no Python 3.12 or 3.13 here: uv fetches one"
    "$uv" python install 3.12 --install-dir "$tools/python" >>"$log" 2>&1 || true
    python=$(find_python) || die "$need" "$how"
}

build() {
    local sum && sum=$(digest)
    if [ "$venv" != "$root/.venv" ] && [ ! -e "$venv/.stamp" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
        die "$venv was not made by this script" "give ESPNET_EXT_VENV another folder" "$venv"
    fi
    # The stamp is filled last: a kill before leaves an environment that the next call rebuilds.
    mkdir -p "$venv" && : >"$venv/.stamp" && rm -rf "$venv" && mkdir "$venv" && : >"$venv/.stamp"
    say "$("$python" -V), $("$uv" --version) -> $venv"
    local how="see the log; behind a mirror set UV_DEFAULT_INDEX (uv does not read pip.conf)"
    logged "$uv" venv --allow-existing --python "$python" "$venv" || die "no $venv" "$how"
    # Wheels only, so that nothing is compiled; antlr4's runtime has none and is pure Python.
    # Bytecode at once: where Python may not write it, each process would compile ESPnet, torch and
    # transformers again, three quarters of the time to import them.
    logged "$uv" pip install --python "$venv/bin/python" --compile-bytecode --only-binary :all: \
        --no-binary espnet_ext --no-binary antlr4-python3-runtime \
        --constraints constraints.txt --build-constraints constraints.txt \
        --editable ".${extras:+[$extras]}" || die "the packages could not be installed" "$how"
    printf '%s\n' "$sum" "${PYTHON:-}" >"$venv/.stamp"
}

case ${1:-} in
    "") ;;
    --print-python) find_python && exit
        die "no Python 3.12 or 3.13 starts" "name one: PYTHON=/path/to/python3.12" PATH ;;
    *) echo "usage: utils/env.sh [--print-python]" >&2 && exit 2 ;;
esac
fresh && exit
mkdir -p "$tools"
if command -v flock >/dev/null; then # two recipes started at once must not build on each other
    exec 9>"$tools/lock" && flock 9
    fresh && exit
fi
: >"$log"
prepare
build
say "ready in $SECONDS s"
