#!/usr/bin/env bash
# The paper's AdaLoRA run on Llama 2 7B, settings from configs/llama2_adalora_r128.yaml. Further flags override:
#   bash scripts/train_adalora.sh --seed 1            bash scripts/train_adalora.sh --name mistral_adalora_r64
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" # of scripts/setup.sh; without it, the environment that is active
export OMP_WAIT_POLICY=PASSIVE

exec python3 run.py --name llama2_adalora_r128 --train "$@"
