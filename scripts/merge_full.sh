#!/usr/bin/env bash
# Writes the model that scripts/train_full.sh trained as a directory of its own: runs/llama2_full/merged.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" # of scripts/setup.sh; without it, the environment that is active
export OMP_WAIT_POLICY=PASSIVE

exec python3 run.py --name llama2_full --merge "$@"
