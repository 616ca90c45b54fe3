#!/usr/bin/env bash
# Makes .venv in the checkout and installs the project into it. Run it again at any time: it is quick when nothing changed.
# The tests also use two programs of the system where they are there: bubblewrap, and chromium with chromium-driver.
#   bash scripts/setup.sh              PYTHON=/path/to/python3.12 bash scripts/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv/.sorsa-setup
wanted=$(cksum < pyproject.toml)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

if [ ! -x .venv/bin/python ]; then
    found=""
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        # a name may exist and not run (pyenv's shims), so each is asked
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            found=$candidate
            break
        fi
    done
    if [ -z "$found" ]; then
        echo "error: no Python 3.11 or newer found (tried ${PYTHON:-python3, python3.13, python3.12, python3.11, python}): install one, or name it: PYTHON=/path/to/python bash scripts/setup.sh" >&2
        exit 2
    fi
    if ! "$found" -m venv .venv; then
        rm -rf .venv
        echo "error: $found cannot make a virtual environment: install its venv module (Debian and Ubuntu: apt install python3-venv)" >&2
        exit 2
    fi
fi

pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install --quiet"
echo "setup: installing into $PWD/.venv, once; this takes some minutes"
if ! .venv/bin/python -c 'import torch' 2>/dev/null; then
    echo "setup: 1 of 2, PyTorch"
    $pip torch==2.13.0
fi
echo "setup: 2 of 2, the project and what it needs"
$pip -e ".[dev]"
echo "$wanted" > "$stamp"
echo "setup: done"
