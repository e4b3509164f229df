#!/usr/bin/env bash
# Makes the virtual environment that the lock file describes. Safe to run again, and after an interruption.
set -euo pipefail
venv=${1:?usage: setup.sh VENV}
cd "$(dirname "$0")/.."
UV_VERSION=0.13.9

fail() { echo "mscflow: $*" >&2; exit 2; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=${PYTHON:-}
if [ -n "$python" ]; then
    new_enough "$python" || fail "PYTHON=$python is not Python 3.11 or newer"
else
    for candidate in python3 python3.11 python3.12 python3.13 python3.14; do
        if new_enough "$candidate"; then python=$candidate; break; fi
    done
fi
[ -n "$python" ] || fail "no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3"

started=$SECONDS
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "'$python -m venv' failed; on Debian or Ubuntu: apt-get install python3-venv"
fi
echo "mscflow: setting up $venv with $("$venv/bin/python" --version), from requirements.lock"
"$venv/bin/pip" install -qq "uv==$UV_VERSION"
# torch and its CUDA libraries through pip: it honours find-links and mirrors of the machine's pip configuration,
# which spares gigabytes where wheels lie at hand. uv then finds them in place and installs the rest, many times
# faster. Both check every file against the lock's hashes.
echo "mscflow: installing torch (the largest part) ..."
large=$(mktemp)
trap 'rm -f "$large"' EXIT
awk '/^[a-z]/ { keep = /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/ } keep && !/^ *#/' \
    requirements.lock >"$large"
"$venv/bin/pip" install -qq --no-deps --require-hashes -r "$large"
echo "mscflow: installing the rest ..."
"$venv/bin/uv" pip install --quiet --compile-bytecode --python "$venv/bin/python" --require-hashes -r requirements.lock
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e .
echo "mscflow: ready in $((SECONDS - started)) s"
