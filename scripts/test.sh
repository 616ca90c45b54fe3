#!/usr/bin/env bash
# Sets the project up, then runs its tests and its linter; no network after the installation.
#   bash scripts/test.sh               bash scripts/test.sh tests/data -k split
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/setup.sh

export OMP_WAIT_POLICY=PASSIVE HF_HUB_OFFLINE=1
.venv/bin/python -m pytest "$@"
.venv/bin/python -m ruff check .
.venv/bin/python -m ruff format --check .
