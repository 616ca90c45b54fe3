#!/usr/bin/env bash
# Tests the model that scripts/merge_full.sh merged: bash scripts/test_full.sh [gsm-8k|math|humaneval] [flags]
# HumanEval's model is trained on code, and running what it wrote needs consent:
#   bash scripts/test_full.sh humaneval --name llama2_full_code --allow-code-execution
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PWD/.venv/bin:$PATH" # of scripts/setup.sh; without it, the environment that is active
export OMP_WAIT_POLICY=PASSIVE

[[ "${1:--}" == -* ]] || set -- --test-dataset "$@" # the first word, unless it is a flag
exec python3 run.py --name llama2_full --test --test-dataset gsm-8k --test-precision bf16 "$@"
