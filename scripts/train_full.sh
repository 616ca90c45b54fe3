#!/usr/bin/env bash
# The paper's full fine-tuning run on Llama 2 7B, settings from configs/llama2_full.yaml. Further flags override:
#   bash scripts/train_full.sh --seed 1            bash scripts/train_full.sh --name mistral_full
# Needs several GPUs of 80 GB: see the configuration's header.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" # of scripts/setup.sh; without it, the environment that is active
export OMP_WAIT_POLICY=PASSIVE

exec python3 run.py --name llama2_full --train "$@"
