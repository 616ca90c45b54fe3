#!/usr/bin/env bash
# Merges the adapter that scripts/train_adalora.sh trained into the base model: runs/llama2_adalora_r128/merged.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" # of scripts/setup.sh; without it, the environment that is active
export OMP_WAIT_POLICY=PASSIVE

exec python3 run.py --name llama2_adalora_r128 --merge "$@"
